"""Finds what a robot's calibration is off by, from where solved episodes end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.errors import DataError
from robot_rlpd.rollout import rollout
from robot_rlpd.task import SignalTask, TaskOptions
from sim.calibration import Calibration
from sim.options import SimOptions
from sim.quantities import ARM, THING
from sim.randomization import WIDE, Randomization
from sim.readings import BETWEEN
from sim.search import Range, search

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from robot_rlpd.episode import Episode
    from robot_rlpd.robot import Observation
    from sim.sim_task import SimTask

SEARCHED = {
    **{f"seen_d{axis}_m": Range(-0.05, 0.05) for axis in "xyz"},
    "base_yaw_offset_rad": Range(-0.1, 0.1),
}
"""Over so small a workspace a wrong shoulder or elbow looks like a shift of what the camera sees."""
USUAL = {**{f"seen_d{axis}_m": 0.01 for axis in "xyz"}, "base_yaw_offset_rad": 0.02}
"""Standard deviations of what robots are off by, as far as is known before anything was recorded."""
LEAST_EPISODES = 3
SIMULATED = 60
"""Episodes that show how solved ones end: by experts of every clumsiness, with robots that differ in all but
calibration, because the person and the robot of the recorded episodes are others than those in simulation too."""
OTHERWISE = {quantity.name for quantity in (*THING, *ARM)} | {"observation_delay_s"}
LEAST_SPREAD_M = 0.0005
"""Ends differ by this much even where they did not in simulation."""
EVALUATIONS = 2000


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What was found.

    Attributes:
        values: The quantities of `SEARCHED`.
        determined: Whether the data say more about each than what is usual does.
        episodes: Solved ones that were used.
        before_m: How far their ends are from those in simulation, median over episodes and fields [m].
        after_m: The same without the errors that were found.
    """

    values: dict[str, float]
    determined: dict[str, bool]
    episodes: int
    before_m: float
    after_m: float


def calibrate(task: SimTask, episodes: Iterable[Episode], *, seed: int) -> Calibrated:
    """Find the errors without which solved episodes end as they do in simulation.

    Compared are the fields `a_from_b` of the last observation: where the hand is on what it holds, where the peg is in
    the hole. In simulation the task's expert shows them, with robots that differ otherwise. What differs much there
    says little, and however many episodes there are, less than what is usual: the person may do it in a way of her own.

    Args:
        task: What was done.
        episodes: Recorded on the robot; those that were not solved are left out, and all but their ends forgotten.
        seed: Of the search and of the expert, at least 0.

    Raises:
        DataError: Too few solved episodes, recorded or in simulation, or nothing in them to compare.
    """
    ends = [_end(episode) for episode in episodes if episode.info.success]
    _check(len(ends), "solved episodes")
    solved = _simulated_ends(task, seed)
    _check(len(solved), f"solved episodes of the expert of {task.name} in simulation")
    names = [name for name in ends[0] if BETWEEN in name]
    if not names:
        raise DataError("nothing to compare", field="observation", found=", ".join(ends[0]), allowed="a field a_from_b")
    usual = np.array([np.mean([end[name] for end in solved], axis=0) for name in names])
    spread = np.hypot([np.std([end[name] for end in solved], axis=0) for name in names], LEAST_SPREAD_M)

    def apart(values: Mapping[str, float]) -> NDArray[np.float64]:
        calibration = Calibration(task.scene, values)
        shown = [[end[name] for name in names] for end in map(calibration.undone, ends)]
        difference: NDArray[np.float64] = np.array(shown, np.float64) - usual
        return difference

    def unlike(values: Mapping[str, float]) -> float:
        return float(np.log1p((apart(values) / spread) ** 2).mean(axis=0).sum())

    def cost(values: Mapping[str, float]) -> float:
        return unlike(values) + sum((value / USUAL[name]) ** 2 for name, value in values.items())

    result = search(cost, dict.fromkeys(SEARCHED, 0.0), SEARCHED, evaluations=EVALUATIONS, seed=seed)
    if result.interrupted:  # half a calibration is worse than none
        raise KeyboardInterrupt
    found = result.values
    determined = {
        name: min(unlike({**found, name: found[name] + aside}) for aside in (-usually, usually)) > unlike(found) + 1.0
        for name, usually in USUAL.items()
    }
    before_m, after_m = (float(np.median(np.linalg.norm(apart(values), axis=-1))) for values in ({}, found))
    return Calibrated(values=found, determined=determined, episodes=len(ends), before_m=before_m, after_m=after_m)


def _check(count: int, what: str) -> None:
    if count < LEAST_EPISODES:
        raise DataError("too few to calibrate by", field=what, found=count, allowed=f">= {LEAST_EPISODES}")


def _simulated_ends(task: SimTask, seed: int) -> list[Observation]:
    others = {name: drawn for name, drawn in WIDE.distributions.items() if name in OTHERWISE}
    robot = task.make_robot(SimOptions(randomization=Randomization(others)), TaskOptions())
    experts = [task.make_expert(float(noise), seed + i) for i, noise in enumerate(np.linspace(0.0, 1.0, SIMULATED))]
    shown = [rollout(robot, expert, SignalTask(), seed=seed + i) for i, expert in enumerate(experts)]
    return [_end(episode) for episode in shown if episode.info.success]


def _end(episode: Episode) -> Observation:
    return {name: column[-1] for name, column in episode.observations.items()}
