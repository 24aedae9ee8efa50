"""A person at a stand-in: sees things with his own eyes, and has learnt how the robot answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

import numpy as np

from robot_rlpd.robot import Source
from sim.calibration import METADATA_KEY, Calibration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from robot_rlpd.robot import Action, Expert, Observation
    from robot_rlpd.specs import RobotSpec
    from robot_rlpd.task import TaskSetup
    from sim.sim_task import SimTask

LONGEST_PUSH_M = 0.012
"""Most that is added to a motion that friction and play swallow."""
PUSH_GROWTH_M = 0.0015
"""By how much more is added in each step in which the arm does not move as it should."""


class Demonstrator:
    """The task's expert with corrected eyes and an adapted hand.

    What he sees is freed of the errors of calibration that are hidden in the robot's observations, not of their delay
    and noise. He moves more slowly, so that delays do not make him overshoot, and harder, so that friction does not
    stop him. Demonstrations are what he does; the observations that are recorded with them stay wrong.

    Args:
        task: The task.
        hidden: What differs from the nominal world.
        noise: Of the expert, 0 to 1.
        seed: Of his mistakes.
        pace: Part of the expert's motion per step.
    """

    source = Source.SCRIPTED

    def __init__(
        self, task: SimTask, hidden: Mapping[str, float], *, noise: float, seed: int, pace: float = 0.7
    ) -> None:
        self._expert: Expert = task.make_expert(noise, seed)
        self._arms = task.scene.arms
        self._pace = pace
        self._calibration = Calibration(task.scene, hidden)
        self._pushes = np.zeros(len(self._arms))
        self._before: Observation = {}

    def reset(self) -> None:
        """Start with a new mistake."""
        self._expert.reset()
        self._pushes = np.zeros(len(self._arms))
        self._before = {}

    def __call__(self, observation: Observation) -> Action:
        """The next action."""
        action = self._expert(self.corrected(observation)).copy()
        for index, arm in enumerate(self._arms):
            position = observation[f"{arm}tcp_position"]
            moved = float(np.linalg.norm(position - self._before.get(arm, position)))
            self._before[arm] = position
            part = slice(4 * index, 4 * index + 3)
            action[part] = self._adapted(self._pace * action[part], moved, index)
        return action

    def remaining_m(self, observation: Observation) -> float:
        """The way that is left, as corrected eyes see it."""
        return self._expert.remaining_m(self.corrected(observation))

    def corrected(self, observation: Observation) -> Observation:
        """The observation without errors of calibration; joint positions stay as the encoders show them."""
        return self._calibration.undone(observation)

    def _adapted(self, wanted: NDArray[np.float32], moved: float, arm: int) -> NDArray[np.float32]:
        """Longer, the longer the arm has been standing still against it."""
        length = float(np.linalg.norm(wanted))
        stuck = moved < 0.4 * length
        push = self._pushes[arm] + PUSH_GROWTH_M if stuck else 0.5 * self._pushes[arm]
        self._pushes[arm] = min(push, LONGEST_PUSH_M)
        return wanted * (1.0 + self._pushes[arm] / length) if length > 0.0 else wanted


class _Options(Protocol):
    """What a device is made from, as far as this one reads it."""

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def setup(self) -> TaskSetup: ...

    @property
    def argument(self) -> str: ...

    @property
    def noise(self) -> float: ...

    @property
    def seed(self) -> int: ...


def make_device(options: _Options) -> Demonstrator:
    """The person at a stand-in as a device; the argument is the stand-in's profile, `mild` by default.

    Errors that the robot's calibration takes out of its observations already, as it says, are no longer seen through.

    Raises:
        UnknownNameError: The task is not simulated here.
        ConfigError: No such profile.
    """
    from sim.served import find_task
    from sim.standin import hidden_values

    name = options.setup.task.name
    task, hidden = find_task(name, field="task"), hidden_values(name, options.argument or "mild")
    known = json.loads(options.spec.metadata.get(METADATA_KEY, "{}"))
    hidden = hidden | {wrong: hidden.get(wrong, 0.0) - value for wrong, value in known.items()}
    return Demonstrator(task, hidden, noise=options.noise, seed=options.seed)
