"""A policy file as a device: records what a policy does, to be relabelled or to be prior data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robot_rlpd.errors import ConfigError
from robot_rlpd.registry import load_entry_point

if TYPE_CHECKING:
    from demos.teleop.device import DeviceOptions
    from robot_rlpd.robot import Policy


def make_device(options: DeviceOptions) -> Policy:
    """The policy in the file that the argument names: ONNX, or a checkpoint.

    Raises:
        ConfigError: No file was named.
        DataError: It cannot be read.
        MismatchError: It was trained for another robot.
    """
    if not options.argument:
        raise ConfigError(
            "names no file", field="device", found="policy", allowed="policy:FILE.onnx", hint="see robot-rlpd export"
        )
    path = Path(options.argument)
    open_policy = load_entry_point("robot_rlpd.policies", "onnx" if path.suffix == ".onnx" else "checkpoint")
    policy: Policy = open_policy(path, options.spec)
    return policy
