"""A device that is read whenever it is asked: its axes drive, its buttons say what to record."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from demos.teleop.drive import Drive
from robot_rlpd.errors import RobotError
from robot_rlpd.robot import Source

if TYPE_CHECKING:
    from demos.teleop.device import Request
    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.specs import ActionSpec


class PolledDevice(abc.ABC):
    """What a driver with axes and buttons needs around it.

    Args:
        action_spec: See `Drive`.
        name: Of the device.

    Raises:
        ConfigError: The robot takes no deltas.
    """

    source = Source.HUMAN

    def __init__(self, action_spec: ActionSpec, *, name: str) -> None:
        self._drive = Drive(action_spec, device=name)
        self._name = name
        self._requests: list[Request] = []

    @abc.abstractmethod
    def read(self) -> None:
        """Take in what happened since the last call: `ask` and `switch_gripper` for buttons; never blocks.

        Raises:
            RobotError: The driver is gone, see `unplugged`.
        """

    @abc.abstractmethod
    def axes(self) -> list[float]:
        """Where the axes are now, in the order of the action's components, in [-1, 1]."""

    def ask(self, request: Request) -> None:
        """A button that asks the recorder was pressed."""
        self._requests.append(request)

    def switch_gripper(self) -> None:
        """The button of the gripper was pressed."""
        self._drive.gripper_high = not self._drive.gripper_high

    def unplugged(self) -> RobotError:
        """The error when the driver is gone."""
        return RobotError("unplugged", field=f"device {self._name}", hint="plug it in and go on with --resume")

    def poll(self) -> list[Request]:
        """The buttons that were pressed."""
        self.read()
        requests, self._requests = self._requests, []
        return requests

    def reset(self) -> None:
        """A new episode: the gripper at its upper bound, nothing asked for."""
        self.read()
        self._requests.clear()
        self._drive.reset()

    def __call__(self, observation: Observation) -> Action:
        """What the axes say.

        Raises:
            RobotError: The device is unplugged.
        """
        del observation
        self.read()
        return self._drive.action(self.axes())
