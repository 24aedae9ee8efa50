"""The task's scripted expert as a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from demos.teleop.device import DeviceOptions
    from robot_rlpd.robot import Policy


def make_device(options: DeviceOptions) -> Policy:
    """The expert of the task.

    Raises:
        ConfigError: The task has none.
    """
    if options.setup.make_expert is None:
        raise ConfigError(
            f"task '{options.setup.task.name}' has no scripted expert",
            field="device",
            found="scripted",
            hint="use another",
        )
    return options.setup.make_expert(options.noise, options.seed)
