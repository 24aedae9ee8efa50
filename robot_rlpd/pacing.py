"""A robot that takes its time: the control rate for robots whose `step` returns at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robot_rlpd.clock import Clock, MonotonicClock, Rate
from robot_rlpd.wrapping import WrappedRobot

if TYPE_CHECKING:
    from robot_rlpd.robot import Action, Robot, StepResult


class PacedRobot(WrappedRobot):
    """Makes a simulator step in real time: each step ends at an absolute deadline of the control rate."""

    def __init__(self, robot: Robot, clock: Clock | None = None) -> None:
        super().__init__(robot)
        self.rate = Rate(robot.spec.control_rate_hz, clock or MonotonicClock())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Reset; the first period starts now."""
        result = self._robot.reset(seed=seed, options=options)
        self.rate.start()
        return result

    def step(self, action: Action) -> StepResult:
        """Step, then wait for the end of the period; after a hold, a whole period from this command."""
        self.rate.resume()
        result = self._robot.step(action)
        self.rate.wait()
        return result
