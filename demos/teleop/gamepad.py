"""A gamepad plugged into this computer as a device; SDL knows the layout of most pads, and needs no window."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from demos.teleop.polled import PolledDevice
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from demos.teleop.device import DeviceOptions, Request
    from robot_rlpd.specs import ActionSpec

LEFT_X, LEFT_Y, RIGHT_X, RIGHT_Y = range(4)
"""SDL's numbers of the axes; right and down are positive."""
A, B, X, Y, BACK, GUIDE, START = range(7)
SHOULDER, UP, DOWN, LEFT, RIGHT = 9, 11, 12, 13, 14
"""SDL's numbers of the buttons, as on an Xbox pad."""
BUTTONS: dict[int, Request] = {
    START: "success",
    B: "failure",
    X: "discard",
    Y: "rerecord",
    BACK: "undo",
    GUIDE: "pause",
}
HELP = (
    "left stick, right stick, cross: move | A: gripper | left shoulder: slow\n"
    "Start: begin, success | B: failure | X: discard | Y: once more | Back: undo the last | Guide: pause\n"
)
FULL = 32767.0
DEAD_ZONE = 0.12
SLOW = 0.3


class Controller(Protocol):
    """The part of `pygame._sdl2.controller.Controller` that is used."""

    def get_axis(self, axis: int) -> int:
        """-32768 to 32767."""
        ...

    def get_button(self, button: int) -> bool:
        """Whether it is pressed."""
        ...

    def attached(self) -> bool:
        """Whether the pad is still there."""
        ...

    def quit(self) -> None:
        """Close it."""
        ...


class GamepadDevice(PolledDevice):
    """Left stick: first two components, right stick: third and last, cross: the others; see `HELP` for the buttons.

    Args:
        action_spec: See `Drive`.
        controller: The pad.
        pump: Lets the driver take in what happened.

    Raises:
        ConfigError: The robot takes no deltas.
    """

    def __init__(self, action_spec: ActionSpec, controller: Controller, pump: Callable[[], object]) -> None:
        super().__init__(action_spec, name="gamepad")
        self._controller = controller
        self._pump = pump
        self._pressed: set[int] = set()

    def read(self) -> None:
        """The buttons that were pressed since."""
        self._pump()
        if not self._controller.attached():
            raise self.unplugged()
        pressed = {button for button in (A, *BUTTONS) if self._controller.get_button(button)}
        for button in sorted(pressed - self._pressed):
            if button == A:
                self.switch_gripper()
            else:
                self.ask(BUTTONS[button])
        self._pressed = pressed

    def axes(self) -> list[float]:
        """Sticks and cross; slower while the left shoulder is pressed."""
        axes = [-self._axis(LEFT_Y), -self._axis(LEFT_X), -self._axis(RIGHT_Y)]
        button = self._controller.get_button
        axes += [float(button(high)) - float(button(low)) for high, low in ((UP, DOWN), (LEFT, RIGHT))]
        axes.insert(self._drive.num_axes - 1 if self._drive.num_axes > 3 else 5, -self._axis(RIGHT_X))
        speed = SLOW if button(SHOULDER) else 1.0
        return [speed * axis for axis in axes]

    def close(self) -> None:
        """Let go of the pad."""
        self._controller.quit()

    def _axis(self, axis: int) -> float:
        value = max(-1.0, self._controller.get_axis(axis) / FULL)
        beyond = max(0.0, abs(value) - DEAD_ZONE) / (1.0 - DEAD_ZONE)
        return beyond if value > 0.0 else -beyond


def make_device(options: DeviceOptions) -> GamepadDevice:
    """The pad with the number in the argument; the first by default.

    Raises:
        ConfigError: No such pad, or the robot cannot be driven by one.
    """
    import sys

    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame
    from pygame._sdl2 import controller

    pygame.display.init()  # events come by way of the display, a dummy here
    controller.init()
    pads = [number for number in range(controller.get_count()) if controller.is_controller(number)]
    wished = options.argument or "0"
    if not (wished.isdigit() and int(wished) < len(pads)):
        raise ConfigError(
            "no such gamepad" if pads else "no gamepad found",
            field="device",
            found=f"gamepad:{wished}",
            allowed=", ".join(f"gamepad:{i}" for i in range(len(pads))),
            hint="" if pads else "plug one in, and see that this user may read /dev/input",
        )
    device = GamepadDevice(options.spec.action, controller.Controller(pads[int(wished)]), pygame.event.pump)
    sys.stderr.write(HELP)
    return device
