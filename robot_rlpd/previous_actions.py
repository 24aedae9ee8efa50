"""A robot that also observes what it was told last: memory for policies of robots that answer late.

With a delay between command and effect, or between state and observation, the last commands belong to the state: two
moments that look alike go on differently where what is still to take effect differs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.errors import ConfigError
from robot_rlpd.specs import ArraySpec
from robot_rlpd.wrapping import WrappedRobot

if TYPE_CHECKING:
    from robot_rlpd.robot import Action, Robot, StepResult
    from robot_rlpd.specs import RobotSpec

FIELD = "previous_actions"
"""Name of the observation field."""
ALLOWED = (0, 16)


class PreviousActions(WrappedRobot):
    """Adds the field `previous_actions` `(count * A,)`, in robot units, the oldest first.

    They are the executed ones. At the start of an episode they are 0, or the bound next to it.

    Args:
        robot: Opened; closed with this one.
        count: How many, at least 1.
    """

    def __init__(self, robot: Robot, count: int) -> None:
        super().__init__(robot)
        self.spec = spec_with_previous_actions(robot.spec, count)
        low, high = self.spec.action.low, self.spec.action.high
        self._none = np.tile(np.clip(np.zeros_like(low), low, high), (count, 1)).astype(np.float32)
        self._actions = self._none.copy()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Reset; nothing was told yet."""
        result = self._robot.reset(seed=seed, options=options)
        self._actions = self._none.copy()
        return self._remembering(result)

    def step(self, action: Action) -> StepResult:
        """Step, and remember what was executed."""
        result = self._robot.step(action)
        self._remember(action if result.executed_action is None else result.executed_action)
        return self._remembering(result)

    def look(self) -> StepResult | None:
        """What the robot sees."""
        seen = super().look()
        return None if seen is None else self._remembering(seen)

    def hold(self, still: Action) -> str:
        """Hold the robot, in a way of its own where it has one."""
        self._remember(still)
        return super().hold(still)

    def _remember(self, executed: Action) -> None:
        self._actions = np.concatenate([self._actions[1:], np.asarray(executed, np.float32)[None]])

    def _remembering(self, result: StepResult) -> StepResult:
        return replace(result, observation={**result.observation, FIELD: self._actions.reshape(-1).copy()})


def check_count(count: int, *, field: str = FIELD) -> None:
    """Refuse a number of actions that is not allowed.

    Raises:
        ConfigError: Names `field`.
    """
    low, high = ALLOWED
    if type(count) is not int or not low <= count <= high:
        raise ConfigError(field=field, found=count, allowed=f"{low} to {high} actions")


def remembering(robot: Robot, count: int) -> Robot:
    """The robot with so many actions in its observation; itself for 0."""
    return PreviousActions(robot, count) if count else robot


def spec_with_previous_actions(spec: RobotSpec, count: int) -> RobotSpec:
    """The spec of a robot that remembers so many actions; the same one for 0.

    Raises:
        ConfigError: As `check_count`, or the robot has such a field already.
    """
    check_count(count)
    if not count:
        return spec
    if FIELD in {field.name for field in spec.observation}:
        raise ConfigError(f"robot '{spec.name}' has this field already", field=FIELD, found=count, allowed="0")
    action = spec.action
    field = ArraySpec(
        name=FIELD,
        shape=(count * action.size,),
        low=tuple(map(float, np.tile(action.low, count))),
        high=tuple(map(float, np.tile(action.high, count))),
    )
    return replace(spec, observation=(*spec.observation, field))
