"""What every robot around a robot passes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.holding import hold
from robot_rlpd.robot import ClosingRobot, look_at

if TYPE_CHECKING:
    from robot_rlpd.robot import Action, Robot, StepResult


class WrappedRobot(ClosingRobot):
    """Base of robots that change what another one does or tells; they add `reset` and `step`.

    Args:
        robot: Stopped and closed with this one.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self.spec = robot.spec

    @property
    def statistics(self) -> object | None:
        """How the bridge to a served robot does; None for a robot in this process."""
        return getattr(self._robot, "statistics", None)

    def look(self) -> StepResult | None:
        """What the robot sees."""
        return look_at(self._robot)

    def hold(self, still: Action) -> str:
        """Hold the robot, in a way of its own where it has one."""
        return hold(self._robot, still)

    def stop(self, reason: str) -> None:
        """Stop the robot."""
        self._robot.stop(reason)

    def close(self) -> None:
        """Close the robot."""
        self._robot.close()
