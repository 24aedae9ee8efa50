"""A terminal's keyboard as a device; works over SSH, needs no window."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from typing import TYPE_CHECKING, Protocol

import numpy as np

from robot_rlpd.errors import ConfigError
from robot_rlpd.robot import Source

if TYPE_CHECKING:
    from demos.teleop.device import DeviceOptions, Request
    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.specs import ActionSpec

MOVES = ("ws", "ad", "rf", "ik", "jl", "uo")
"""Keys that push the first delta components up and down."""
REQUESTS: dict[str, Request] = {"\n": "success", "\r": "success", "\x7f": "failure", "x": "discard", "\x1b": "quit"}
HELP = "w/s a/d r/f (i/k j/l u/o): move | space: gripper | Enter: success | Backspace: failure | x: discard | Esc: quit"
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

    Raises:
        ConfigError: Standard input is not a terminal.
    """

    def __init__(self) -> None:
        if not sys.stdin.isatty():
            raise ConfigError(
                "standard input is not a terminal", field="device", found="keyboard", hint="run it in a terminal"
            )
        self._descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        sys.stderr.write(HELP + "\n")

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


class KeyboardDevice:
    """Drives delta components with keys and toggles the gripper.

    Args:
        action_spec: Delta components move; a binary component, or one called "...gripper...", is the gripper.
        control_rate_hz: Control steps per second.
        keys: Where the keys come from.

    Raises:
        ConfigError: A component is neither.
    """

    source = Source.HUMAN

    def __init__(self, action_spec: ActionSpec, control_rate_hz: float, keys: Keys) -> None:
        self._spec = action_spec
        self._keys = keys
        self._hold_steps = max(1, round(HOLD_S * control_rate_hz))
        grippers = [i for i, c in enumerate(action_spec.components) if c.kind == "binary" or "gripper" in c.name]
        moved = [i for i in range(action_spec.size) if i not in grippers]
        for i in moved:
            component = action_spec.components[i]
            if component.mode != "delta" or not component.low <= 0.0 <= component.high:
                raise ConfigError(
                    "the keyboard can only drive robots with delta actions",
                    field=f"action.{component.name}",
                    found=f"{component.mode} in [{component.low}, {component.high}]",
                )
        self._grippers = grippers
        self._bindings = {
            key: (index, bound)
            for index, pair in zip(moved, MOVES, strict=False)
            for key, bound in zip(pair, (action_spec.high[index], action_spec.low[index]), strict=True)
        }
        self.reset()

    @property
    def request(self) -> Request:
        """What the operator asked for in this episode."""
        return self._request

    def reset(self) -> None:
        """A new episode: standing still, the gripper at its upper bound, no request, no keys from before."""
        self._keys.read()
        self._request: Request = ""
        self._held: dict[int, tuple[np.float32, int]] = {}
        self._gripper_high = True

    def __call__(self, observation: Observation) -> Action:
        """The action that the keys say."""
        del observation
        for key in self._keys.read():
            if key in self._bindings:
                index, bound = self._bindings[key]
                self._held[index] = (bound, self._hold_steps)
            elif key == " ":
                self._gripper_high = not self._gripper_high
            elif key in REQUESTS:
                self._request = REQUESTS[key]
        action = np.zeros(self._spec.size, np.float32)
        action[self._grippers] = (self._spec.high if self._gripper_high else self._spec.low)[self._grippers]
        for index, (bound, _) in self._held.items():
            action[index] = bound
        self._held = {index: (bound, left - 1) for index, (bound, left) in self._held.items() if left > 1}
        return action

    def close(self) -> None:
        """Give the terminal back."""
        self._keys.close()


def make_device(options: DeviceOptions) -> KeyboardDevice:
    """The keyboard of this process's terminal.

    Raises:
        ConfigError: There is no terminal, or the robot cannot be driven by keys.
    """
    return KeyboardDevice(options.spec.action, options.spec.control_rate_hz, TerminalKeys())
