"""The task `served:ADDRESS`: whatever a served robot signals, for environments that are not installed here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.observer import Observer
from robot_rlpd.bridge.security import check_address
from robot_rlpd.errors import ConfigError
from robot_rlpd.gymnasium_task import DEFAULT_EPISODE_STEPS, GymnasiumTask
from robot_rlpd.task import SERVED, TaskSetup

if TYPE_CHECKING:
    from robot_rlpd.task import TaskOptions


def setup(argument: str, options: TaskOptions) -> TaskSetup:
    """The task of the robot that is served at an address; asks it once for its spec.

    Raises:
        ConfigError: Not an address, or arguments of an environment, which belong to `serve`.
        DeadlineError: Nobody answers there.
    """
    check_address(argument)
    if options.env_kwargs:
        hint = "give them to robot-rlpd serve"
        raise ConfigError("the environment is made elsewhere", field="env_kwargs", hint=hint)
    with Observer(argument) as observer:
        spec = observer.spec()
    task = GymnasiumTask(SERVED + argument, options.max_episode_steps or DEFAULT_EPISODE_STEPS, options)
    task.check_fields(spec)
    return TaskSetup(task=task, spec=spec, make_robot=lambda: RemoteRobot(argument, contract=spec.contract()))
