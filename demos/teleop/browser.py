"""A browser page as a device: drives with what the page sends, and holds as soon as nothing more comes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from demos.teleop.drive import Drive
from robot_rlpd.clock import Clock, MonotonicClock
from robot_rlpd.robot import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demos.teleop.device import DeviceOptions, Request
    from demos.web.console import BrowserConsole
    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.specs import ActionSpec

HOLD_WITHIN_S = 0.2
"""The robot stands still at most so long after the page is hidden, closed or cut off [s]."""
LEAST_AGE_S = 0.05
"""A command is good for at least so long, however slow the robot's control rate [s]."""


class BrowserDevice:
    """The operator's side of the page. `drive`, `release`, `switch_gripper` and `ask` may be called from any thread.

    A command is good for `max_age_s`: the rest of `HOLD_WITHIN_S` is the control period in which the last action is
    carried out. Its age is that of the message from this device that the page had seen when it sent the command, so
    commands that a stalled network delivers late do not drive either.

    Args:
        action_spec: See `Drive`.
        control_rate_hz: Control steps per second.
        clock: Tells the age of commands.

    Attributes:
        max_age_s: Age at which a command is void.
        holding: Whether the last action held the robot because no command was good.
    """

    source = Source.HUMAN

    def __init__(self, action_spec: ActionSpec, control_rate_hz: float, clock: Clock | None = None) -> None:
        self._drive = Drive(action_spec, device="browser")
        self._clock = clock or MonotonicClock()
        self._lock = threading.Lock()
        self._axes: Sequence[float] = ()
        self._good_until_s = -float("inf")
        self._requests: list[Request] = []
        self.max_age_s = max(HOLD_WITHIN_S - 1.0 / control_rate_hz, LEAST_AGE_S)
        self.holding = True

    @property
    def axes(self) -> list[str]:
        """Names of what the axes move."""
        return self._drive.names

    @property
    def gripper_high(self) -> bool | None:
        """Whether the gripper is at its upper bound; None without one."""
        return self._drive.gripper_high if self._drive.has_gripper else None

    def now_s(self) -> float:
        """What the page is to send back with its next command."""
        return self._clock.now_s()

    def drive(self, axes: Sequence[float], seen_s: float) -> None:
        """Move, until the command is too old.

        Args:
            axes: In [-1, 1].
            seen_s: The newest `now_s` that the page had when it sent this.
        """
        with self._lock:
            self._axes = tuple(axes)
            self._good_until_s = min(seen_s, self._clock.now_s()) + self.max_age_s

    def release(self) -> None:
        """Hold: the page is hidden, closed or given to another."""
        with self._lock:
            self._good_until_s = -float("inf")

    def switch_gripper(self) -> None:
        """Open what is closed, close what is open."""
        with self._lock:
            self._drive.gripper_high = not self._drive.gripper_high

    def ask(self, request: Request) -> None:
        """A button."""
        with self._lock:
            self._requests.append(request)

    def poll(self) -> list[Request]:
        """What was asked for."""
        with self._lock:
            requests, self._requests = self._requests, []
        return requests

    def reset(self) -> None:
        """A new episode: standing still, the gripper at its upper bound."""
        with self._lock:
            self._good_until_s = -float("inf")
            self._requests.clear()
            self._drive.reset()

    def __call__(self, observation: Observation) -> Action:
        """What the page says, or a hold."""
        del observation
        with self._lock:
            self.holding = self._clock.now_s() >= self._good_until_s
            return self._drive.action(() if self.holding else self._axes)


def make_device(options: DeviceOptions) -> BrowserConsole:
    """The page with its server, on this machine only; the argument is the port, 8000 by default.

    Raises:
        ConfigError: The port is taken or no number, or the robot takes no deltas.
    """
    from demos.web.console import BrowserConsole, parse_port
    from demos.web.server import ServingOptions

    serving = ServingOptions(port=parse_port(options.argument or "8000"))
    return BrowserConsole(options.spec, serving, robot=options.robot)
