"""A terminal's keyboard as a device, and as controls beside another device; works over SSH, needs no window."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from typing import TYPE_CHECKING, Protocol

from demos.teleop.polled import PolledDevice
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from demos.teleop.device import DeviceOptions, Request
    from robot_rlpd.specs import ActionSpec

MOVES = ("ws", "ad", "rf", "ik", "jl", "uo")
"""Keys that push the first delta components up and down."""
ARROWS = {"\x1b[A": "w", "\x1b[B": "s", "\x1b[D": "a", "\x1b[C": "d", "\x1b[5~": "r", "\x1b[6~": "f"}
"""Arrows, page up and page down as terminals send them, for the keys that they stand for."""
ARROWS |= {key.replace("[", "O"): stands_for for key, stands_for in ARROWS.items()}
CONTROLS: dict[str, Request] = {
    "\n": "success",
    "\r": "success",
    "\x7f": "failure",
    "\b": "failure",
    "t": "stop",
    "x": "discard",
    "n": "rerecord",
    "z": "undo",
    "p": "pause",
    "q": "quit",
    "\x1b": "quit",
}
CONTROLS_HELP = (
    "Enter: begin, success | Backspace: failure | t: stop, the task judges\n"
    "x: discard | n: once more | z: undo the last | p: pause | q: quit\n"
)
HELP = f"w/s a/d r/f i/k j/l u/o, arrows: move | 1-9: speed | space: gripper\n{CONTROLS_HELP}"
HOLD_S = 0.15
"""A terminal tells presses, not releases: a key acts this long, and repeats while it is held."""


class Keys(Protocol):
    """A stream of typed characters."""

    def read(self) -> str:
        """All characters typed since the last call; never blocks."""
        ...

    def close(self) -> None:
        """Give the terminal back."""
        ...


class TerminalKeys:
    """The keys typed at the terminal of this process; Ctrl-C still interrupts.

    Args:
        help_text: Written to standard error first.

    Raises:
        ConfigError: Standard input is not a terminal.
    """

    def __init__(self, help_text: str = HELP) -> None:
        if not sys.stdin.isatty():
            raise ConfigError(
                "standard input is not a terminal", field="device", found="keyboard", hint="run it in a terminal"
            )
        self._descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        sys.stderr.write(help_text)

    def read(self) -> str:
        """What was typed."""
        typed = b""
        while select.select([self._descriptor], [], [], 0)[0]:
            part = os.read(self._descriptor, 64)
            if not part:
                break
            typed += part
        return typed.decode(errors="ignore")

    def close(self) -> None:
        """Restore the terminal."""
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)


def split_keys(typed: str) -> list[str]:
    """Single keys of what a terminal sent; an escape sequence is one key, and so is the Escape key itself."""
    keys = []
    while typed:
        length = 1
        if len(typed) > 2 and typed[0] == "\x1b" and typed[1] in "[O":
            end = next((i for i, c in enumerate(typed[2:], 2) if "@" <= c <= "~"), len(typed) - 1)
            length = end + 1
        keys.append(typed[:length])
        typed = typed[length:]
    return keys


class KeyboardControls:
    """The keyboard beside another device: it says what to record, and drives nothing."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def poll(self) -> list[Request]:
        """What was typed."""
        return [CONTROLS[key] for key in split_keys(self._keys.read()) if key in CONTROLS]

    def close(self) -> None:
        """Give the terminal back."""
        self._keys.close()


class KeyboardDevice(PolledDevice):
    """Drives delta components with keys and toggles the gripper.

    Args:
        action_spec: See `Drive`.
        control_rate_hz: Control steps per second.
        keys: Where the keys come from.

    Raises:
        ConfigError: The robot takes no deltas.
    """

    def __init__(self, action_spec: ActionSpec, control_rate_hz: float, keys: Keys) -> None:
        super().__init__(action_spec, name="keyboard")
        self._keys = keys
        self._hold_steps = max(1, round(HOLD_S * control_rate_hz))
        self._speed = 1.0
        moves = MOVES[: self._drive.num_axes]
        self._moves = {key: (i, sign) for i, pair in enumerate(moves) for key, sign in zip(pair, (1, -1), strict=True)}
        self._held: dict[int, tuple[int, int]] = {}

    def read(self) -> None:
        """What was typed since."""
        for typed in split_keys(self._keys.read()):
            key = ARROWS.get(typed, typed)
            if key in self._moves:
                axis, sign = self._moves[key]
                self._held[axis] = (sign, self._hold_steps)
            elif key == " ":
                self.switch_gripper()
            elif key in CONTROLS:
                self.ask(CONTROLS[key])
            elif key in "123456789":
                self._speed = int(key) / 9.0

    def axes(self) -> list[float]:
        """The keys that are held; a terminal does not tell when one is let go, so each counts for a moment."""
        axes = [0.0] * self._drive.num_axes
        for axis, (sign, _) in self._held.items():
            axes[axis] = sign * self._speed
        self._held = {axis: (sign, left - 1) for axis, (sign, left) in self._held.items() if left > 1}
        return axes

    def reset(self) -> None:
        """Standing still too, and no keys from before."""
        self._keys.read()
        super().reset()
        self._held.clear()

    def close(self) -> None:
        """Give the terminal back."""
        self._keys.close()


def make_device(options: DeviceOptions) -> KeyboardDevice:
    """The keyboard of this process's terminal.

    Raises:
        ConfigError: There is no terminal, or the robot cannot be driven by keys.
    """
    return KeyboardDevice(options.spec.action, options.spec.control_rate_hz, TerminalKeys())
