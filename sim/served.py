"""The simulated robot by name, for `serve --robot sim:<task>`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from robot_rlpd.errors import UnknownNameError
from robot_rlpd.registry import entry_points
from sim.sim_task import SimTask

if TYPE_CHECKING:
    from robot_rlpd.robot import Robot
    from robot_rlpd.task import TaskOptions


def make_robot(argument: str, options: TaskOptions) -> Robot:
    """The robot of one of this package's tasks.

    Raises:
        UnknownNameError: No such task here; lists those that exist.
    """
    return find_task(argument, field="robot", prefix="sim:").setup("", options).make_robot()


def task_names() -> list[str]:
    """Names of the tasks of this package."""
    return sorted(name for name, point in entry_points("robot_rlpd.tasks").items() if point.module.startswith("sim."))


def find_task(name: str, *, field: str, prefix: str = "") -> SimTask:
    """One of this package's tasks.

    Args:
        name: Its name.
        field: Option that named it, for messages.
        prefix: What was typed before it, for messages.

    Raises:
        UnknownNameError: No such task here; lists those that exist.
    """
    ours = task_names()
    if name not in ours:
        raise UnknownNameError("not simulated here", field=field, found=f"{prefix}{name}", allowed=", ".join(ours))
    task = importlib.import_module(entry_points("robot_rlpd.tasks")[name].module).TASK
    assert isinstance(task, SimTask)
    return task
