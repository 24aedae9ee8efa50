"""What a teleoperation device is: a policy made by an entry point in `robot_rlpd.teleop`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from robot_rlpd.specs import RobotSpec
from robot_rlpd.task import TaskSetup

if TYPE_CHECKING:
    from robot_rlpd.robot import Policy

Request = Literal["", "success", "failure", "discard", "quit"]
"""What the operator wants of the running episode: nothing; end it as one of these; end it and the session."""


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """What a device is made from.

    Attributes:
        spec: Spec of the robot that is driven.
        setup: The task.
        noise: Size of the mistakes of a scripted device, in [0, 1].
        seed: Seed of everything random in the device.
    """

    spec: RobotSpec
    setup: TaskSetup
    noise: float = 0.0
    seed: int = 0


class MakeDevice(Protocol):
    """What an entry point in `robot_rlpd.teleop` loads."""

    def __call__(self, options: DeviceOptions) -> Policy:
        """The device, opened; if it has a `close` method that is called at the end."""
        ...


@runtime_checkable
class EpisodeControls(Protocol):
    """A device with which the operator also ends episodes; `reset` of the policy clears the request."""

    @property
    def request(self) -> Request:
        """What the operator asked for in this episode."""
        ...
