"""Robots by name: served ones by address, those in this process by entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.errors import ConfigError, MismatchError, UnknownNameError
from robot_rlpd.registry import entry_points, load_entry_point
from robot_rlpd.specs import check_contract
from robot_rlpd.task import TaskOptions, TaskSetup

if TYPE_CHECKING:
    from robot_rlpd.bridge.keys import Keyring
    from robot_rlpd.robot import Robot
    from robot_rlpd.specs import PolicyContract

GROUP = "robot_rlpd.robots"
REMOTE = ("tcp://", "ipc://")


def open_robot(
    name: str,
    *,
    task_setup: TaskSetup | None = None,
    options: TaskOptions | None = None,
    contract: PolicyContract | None = None,
    client_name: str = "",
    keyring: Keyring | None = None,
    images: Literal["raw", "jpeg"] = "raw",
    **timeouts_s: float,
) -> Robot:
    """Open the robot called `name`.

    Args:
        name: `tcp://HOST:PORT` or `ipc://PATH` of a served robot; `NAME` or `NAME:ARGUMENT` of an entry point in
            `robot_rlpd.robots`, whose loader is `make_robot(argument: str, options: TaskOptions) -> Robot`; empty for
            the task's own robot in this process.
        task_setup: The task that will judge; its robot for an empty name, its contract for any other.
        options: Handed to the loader.
        contract: What the robot has to fit; default that of `task_setup`, if given.
        client_name: Shown to others while this process commands a served robot.
        keyring: Keys for a served robot; default those of this user.
        images: How camera images of a served robot travel.
        timeouts_s: `step_timeout_s`, `reset_timeout_s`, `connect_timeout_s` of `RemoteRobot`.

    Raises:
        UnknownNameError: No such robot; lists those that exist.
        ConfigError: An empty name without a task.
        BridgeError: The served robot does not answer or refuses.
        MismatchError: The robot does not fit the contract.
    """
    if not name:
        if task_setup is None:
            raise ConfigError("name a robot or a task", field="robot", allowed=_known())
        return task_setup.make_robot()
    if contract is None and task_setup is not None:
        contract = task_setup.spec.contract()
    if name.startswith(REMOTE):
        return RemoteRobot(
            name, contract=contract, client_name=client_name, keyring=keyring, images=images, **timeouts_s
        )
    head, _, argument = name.partition(":")
    if head not in entry_points(GROUP):
        raise UnknownNameError("no such robot", field="robot", found=name, allowed=_known())
    make_robot: Any = load_entry_point(GROUP, head)
    robot: Robot = make_robot(argument, options or TaskOptions())
    if contract is not None:
        try:
            check_contract(contract, robot.spec, who=f"robot '{name}'")
        except MismatchError:
            robot.close()
            raise
    return robot


def _known() -> str:
    return ", ".join([*(f"{n}:<name>" for n in sorted(entry_points(GROUP))), "tcp://HOST:PORT", "ipc://PATH"])
