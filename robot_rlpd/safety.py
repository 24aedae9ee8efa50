"""Limits around every robot, on the robot's side, whoever commands it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.errors import RobotError
from robot_rlpd.robot import ClosingRobot

if TYPE_CHECKING:
    from robot_rlpd.robot import Action, Robot, StepResult


@dataclass
class SafetyCounts:
    """What the filter changed so far."""

    steps: int = 0
    clipped_steps: int = 0
    refused_actions: int = 0


class SafeRobot(ClosingRobot):
    """Checks every action before the robot sees it.

    A wrong shape, NaN or infinity stops the robot and is refused with `SpecError`; finite actions are clipped to the
    bounds of the spec, binary components snapped to the nearer bound. What was executed is what is reported.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self.spec = robot.spec
        self.counts = SafetyCounts()
        self._binary = np.array([c.kind == "binary" for c in robot.spec.action.components])
        self._stopped: str | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Reset the robot; lifts an earlier stop."""
        result = self._robot.reset(seed=seed, options=options)
        self._stopped = None
        return self._checked(result)

    def limit(self, action: Action) -> Action:
        """The action within all limits.

        Raises:
            SpecError: Wrong shape, NaN or infinity.
        """
        action_spec = self.spec.action
        action = action_spec.validate(action)
        limited = np.clip(action, action_spec.low, action_spec.high)
        if self._binary.any():
            middle = (action_spec.low + action_spec.high) / 2.0
            snapped = np.where(limited > middle, action_spec.high, action_spec.low)
            limited = np.where(self._binary, snapped, limited)
        return limited.astype(np.float32)

    def step(self, action: Action) -> StepResult:
        """Limit the action, apply it, check what comes back."""
        if self._stopped is not None:
            raise RobotError(f"stopped: {self._stopped}", field=f"robot '{self.spec.name}'", hint="reset it first")
        try:
            limited = self.limit(action)
        except Exception as error:
            self.counts.refused_actions += 1
            self.stop(str(error))
            raise
        self.counts.steps += 1
        self.counts.clipped_steps += int(not np.array_equal(limited, action))
        result = self._checked(self._robot.step(limited))
        return result if result.executed_action is not None else replace(result, executed_action=limited)

    def stop(self, reason: str) -> None:
        """Stop the robot; steps are refused until the next reset."""
        self._stopped = reason
        self._robot.stop(reason)

    def close(self) -> None:
        """Stop and close the robot."""
        self._robot.stop("closed")
        self._robot.close()

    def _checked(self, result: StepResult) -> StepResult:
        try:
            observation = {s.name: s.validate(result.observation[s.name]) for s in self.spec.observation}
        except KeyError as error:
            self.stop("observation field missing")
            raise RobotError("the robot returned no such field", field=f"observation.{error.args[0]}") from None
        except Exception as error:
            self.stop(str(error))
            raise
        return replace(result, observation=observation)
