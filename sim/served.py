"""The simulated robot by name, for `serve --robot sim:<task>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.errors import UnknownNameError
from robot_rlpd.registry import entry_points
from robot_rlpd.task import TaskOptions, load_task

if TYPE_CHECKING:
    from robot_rlpd.robot import Robot


def make_robot(argument: str, options: TaskOptions) -> Robot:
    """The robot of one of this package's tasks.

    Raises:
        UnknownNameError: No such task here; lists those that exist.
    """
    ours = sorted(name for name, point in entry_points("robot_rlpd.tasks").items() if point.module.startswith("sim."))
    if argument not in ours:
        raise UnknownNameError(
            "no such simulated robot", field="robot", found=f"sim:{argument}", allowed=", ".join(ours)
        )
    return load_task(argument, options).make_robot()
