"""The robot that a task is trained or evaluated on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robot_rlpd.robot import Robot
    from robot_rlpd.task import TaskOptions, TaskSetup


def open_task_robot(setup: TaskSetup, robot: str, options: TaskOptions) -> Robot:
    """The robot that a task runs on: a served one, or the task's own in this process.

    Raises:
        MismatchError: The served robot is not what the task is made for.
    """
    from robot_rlpd.safety import SafeRobot
    from robot_rlpd.specs import check_contract

    if not robot:
        return SafeRobot(setup.make_robot())
    from robot_rlpd.bridge.robots import open_robot

    opened = open_robot(robot, options=options)
    try:
        check_contract(setup.spec.contract(), opened.spec, who=f"robot at {robot}")
    except Exception:
        opened.close()
        raise
    return opened
