"""How well the simulation predicts recorded steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.errors import DataError
from robot_rlpd.specs import check_contract
from robot_rlpd.task import TaskOptions
from sim.options import SimOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from robot_rlpd.episode import Episode
    from sim.sim_task import SimTask

COMPARED = ("tcp_position", "gripper_opening", "cube_position", "block_position", "tip_position", "bar_position")
COMPARED_ENDS = (*COMPARED, "drawer_opening")
"""Ends of the names of the fields that are compared; all are in metres."""


class Predictor:
    """Predicts each recorded observation from the ones before it and the executed actions.

    The simulation runs along an episode with its own velocities, delays and targets. After every `horizon` steps its
    arms and things are moved to where they were observed, so that errors do not add up over more than that.

    Args:
        task: The task that the episodes were recorded on.
        episodes: One or more.
        horizon: Steps from one observation that is used to the next, at least 1.

    Raises:
        DataError: No step to predict.
        MismatchError: Episodes of another robot.
    """

    def __init__(self, task: SimTask, episodes: Sequence[Episode], *, horizon: int = 1) -> None:
        self._robot = task.make_robot(SimOptions(), TaskOptions(max_episode_steps=1_000_000))
        spec = self._robot.spec
        for episode in episodes:
            check_contract(spec.contract(), episode.spec, who="the recorded robot")
        self._episodes = [episode for episode in episodes if len(episode)]
        if not self._episodes:
            raise DataError("holds no step to predict", field="store", found=f"{len(episodes)} episodes")
        self._names = [field.name for field in spec.observation]
        self._compared = [name for name in self._names if name.endswith(COMPARED_ENDS)]
        self._horizon = horizon

    @property
    def num_steps(self) -> int:
        """Steps that are predicted."""
        return sum(_predictable(episode) for episode in self._episodes)

    def residuals(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        """Length of the difference between prediction and observation, `(num_steps, fields)` [m]."""
        return np.concatenate([self._follow(episode, values) for episode in self._episodes])

    def _follow(self, episode: Episode, values: Mapping[str, float]) -> NDArray[np.float64]:
        observed = [
            {name: episode.observations[name][row] for name in self._names} for row in range(_predictable(episode) + 1)
        ]
        self._robot.begin_at(observed[0], values)
        rows = []
        for step, following in enumerate(observed[1:]):
            result = self._robot.step(episode.executed_actions[step])
            rows.append([np.linalg.norm(following[n] - result.observation[n]) for n in self._compared])
            if (step + 1) % self._horizon == 0:
                self._robot.resume_at(following)
        return np.array(rows).reshape(-1, len(self._compared))


def _predictable(episode: Episode) -> int:
    return len(episode.robot_times_s) - 1


def rms_m(residuals: NDArray[np.float64]) -> float:
    """Root mean square over steps and fields [m]."""
    return float(np.sqrt(np.mean(residuals**2)))
