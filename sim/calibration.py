"""Wrong calibration of camera and arm: taken out of an observation, and found from what solved episodes end with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.errors import DataError
from robot_rlpd.rollout import rollout
from robot_rlpd.task import SignalTask, TaskOptions
from sim import kinematics
from sim.arm import JOINTS
from sim.options import SimOptions
from sim.readings import BETWEEN
from sim.search import Range, search
from sim.sensing import IN_HAND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from robot_rlpd.episode import Episode
    from robot_rlpd.robot import Observation
    from sim.scene import Scene
    from sim.sim_task import SimTask

SEARCHED = {
    **{f"seen_d{axis}_m": Range(-0.05, 0.05) for axis in "xyz"},
    "base_yaw_offset_rad": Range(-0.1, 0.1),
}
"""Over so small a workspace a wrong shoulder or elbow looks like a shift of what the camera sees."""
LEAST_EPISODES = 3
NOMINAL_EPISODES = 40
NOISE = 0.5
"""Mistakes of the expert who shows what a solved episode ends with."""
LEAST_SPREAD_M = 0.0005
"""Ends differ by this much even where they did not in simulation."""
EVALUATIONS = 2000
PULL = 1e-3
"""Towards the nominal values, where the data say nothing: weight of the squared part of the range."""
FLAT = 0.01
"""As in `sim.identification`."""


class Calibration:
    """What the calibration of a scene's camera and arms is off by.

    Args:
        scene: Its arms and their bases.
        values: Quantities of `sim.quantities`; those that are no calibration are left aside.
    """

    def __init__(self, scene: Scene, values: Mapping[str, float]) -> None:
        self._arms, self._bases = scene.arms, scene.bases
        self._seen = np.array([values.get(f"seen_d{axis}_m", 0.0) for axis in "xyz"])
        self._encoders = np.array([values.get(f"{joint}_offset_rad", 0.0) for joint in JOINTS])
        self.is_right = not (self._seen.any() or self._encoders.any())

    def undone(self, observation: Observation, *, joints: bool = False) -> Observation:
        """The observation without these errors; noise and delay stay.

        Args:
            observation: As it was made.
            joints: Whether joint positions are freed of their errors too.
        """
        errors: dict[str, NDArray[np.float64]] = {}
        corrected = dict(observation)
        for arm, (_, _, turn) in zip(self._arms, self._bases, strict=True):
            name = f"{arm}joint_positions"
            shown = observation[name].astype(np.float64)
            x, y, z = kinematics.tcp_position(shown) - kinematics.tcp_position(shown - self._encoders)
            cosine, sine = math.cos(turn), math.sin(turn)
            errors[f"{arm}tcp_position"] = np.array([cosine * x - sine * y, sine * x + cosine * y, z])
            if joints:
                corrected[name] = (shown - self._encoders).astype(observation[name].dtype)
        for name, value in observation.items():
            error = self._error(name, errors)
            if error is not None:
                corrected[name] = (value - error).astype(value.dtype)
        return corrected

    def _error(self, name: str, errors: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
        """By how much a field is off; None where it is not."""
        to, between, origin = name.partition(BETWEEN)
        if between:
            return self._position_error(f"{to}_position", errors) - self._position_error(f"{origin}_position", errors)
        return self._position_error(name, errors) if name.endswith("_position") else None

    def _position_error(self, name: str, errors: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        if name == IN_HAND:
            return errors[f"{self._arms[0]}tcp_position"]
        return errors[name] if name.endswith("tcp_position") else self._seen


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What was found.

    Attributes:
        values: The quantities of `SEARCHED`.
        determined: Whether the data say anything about each.
        episodes: Solved ones that were used.
        before_m: How far their ends are from those in simulation, median over episodes and fields [m].
        after_m: The same without the errors that were found.
    """

    values: dict[str, float]
    determined: dict[str, bool]
    episodes: int
    before_m: float
    after_m: float


def calibrate(task: SimTask, episodes: Sequence[Episode], *, seed: int) -> Calibrated:
    """Find the errors without which solved episodes end as they do in simulation.

    Compared are the fields `a_from_b` of the last observation: where the hand is on what it holds, where the peg is in
    the hole. In simulation the task's expert shows them; a field that differs much there says little.

    Args:
        task: What was done.
        episodes: Recorded on the robot; those that were not solved are left out.
        seed: Of the search and of the expert, at least 0.

    Raises:
        DataError: Too few solved episodes.
    """
    ends = [_end(episode) for episode in episodes if episode.info.success]
    if len(ends) < LEAST_EPISODES:
        raise DataError(
            "too few to calibrate by", field="solved episodes", found=len(ends), allowed=f">= {LEAST_EPISODES}"
        )
    robot = task.make_robot(SimOptions(), TaskOptions())
    shown = [
        rollout(robot, task.make_expert(NOISE, seed + i), SignalTask(), seed=seed + i) for i in range(NOMINAL_EPISODES)
    ]
    solved = [_end(episode) for episode in shown if episode.info.success]
    names = [name for name in ends[0] if BETWEEN in name]
    usual = {name: np.mean([end[name] for end in solved], axis=0) for name in names}
    spread = {name: np.hypot(np.std([end[name] for end in solved], axis=0), LEAST_SPREAD_M) for name in names}

    def apart(values: Mapping[str, float]) -> NDArray[np.float64]:
        calibration = Calibration(task.scene, values)
        corrected = [calibration.undone(end) for end in ends]
        return np.array([[end[name] - usual[name] for name in names] for end in corrected])

    weights = np.array([1.0 / spread[name] for name in names])

    def cost(values: Mapping[str, float]) -> float:
        pull = sum((value / SEARCHED[name].high) ** 2 for name, value in values.items())
        return float(np.mean(np.log1p((weights * apart(values)) ** 2)) + PULL * pull)

    found = search(cost, dict.fromkeys(SEARCHED, 0.0), SEARCHED, evaluations=EVALUATIONS, seed=seed, flat=FLAT)
    before_m, after_m = (float(np.median(np.linalg.norm(apart(v), axis=-1))) for v in ({}, found.values))
    return Calibrated(
        values=found.values, determined=found.determined, episodes=len(ends), before_m=before_m, after_m=after_m
    )


def _end(episode: Episode) -> Observation:
    return {name: column[-1] for name, column in episode.observations.items()}
