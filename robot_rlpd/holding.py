"""Rest until the next command: what a robot is given when one does not come in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.limits import quantity_of

if TYPE_CHECKING:
    from robot_rlpd.robot import Action, Robot
    from robot_rlpd.specs import ActionSpec


class Rest:
    """What rest is for the action of a robot.

    A target that was reached is kept by itself. A speed goes on until another one is sent, and so does a force.

    Args:
        spec: Of the action.

    Attributes:
        is_needed: Whether the robot moves on when nothing is sent.
        has_forces: Whether a component is a force or a current: letting go of it may be a fall, keeping it a motion.
    """

    def __init__(self, spec: ActionSpec) -> None:
        quantities = [quantity_of(c) if c.kind != "binary" else "absolute" for c in spec.components]
        self.has_forces = "effort" in quantities
        self.is_needed = self.has_forces or "velocity" in quantities
        self._zeroed = np.array([quantity in ("velocity", "delta") for quantity in quantities])

    def after(self, action: Action) -> Action:
        """The action that keeps the robot where `action` brought it."""
        still: Action = np.where(self._zeroed, np.float32(0.0), action)
        return still


def hold(robot: Robot, still: Action) -> str:
    """Keep a robot at rest, in a way of its own where it has one; returns its fault, or empty.

    Args:
        robot: With a method `hold(still) -> str`, as wrappers of robots have; else it is stepped once.
        still: From `Rest.after`.
    """
    own = getattr(robot, "hold", None)
    if own is not None:
        return str(own(still))
    return robot.step(still).fault
