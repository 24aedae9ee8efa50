"""A SpaceMouse as a device: six axes and two buttons, read over raw HID."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any, Protocol

from demos.teleop.polled import PolledDevice
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from demos.teleop.device import DeviceOptions
    from robot_rlpd.specs import ActionSpec

VENDORS = (0x256F, 0x046D)
"""3Dconnexion, and Logitech for its older models."""
MULTI_AXIS_CONTROLLER = (1, 8)
"""HID usage page and usage."""
TRANSLATION, ROTATION, BUTTONS = 1, 2, 3
"""First byte of a report. A long translation report holds the rotation too."""
FULL = 350.0
DEAD_ZONE = 0.05
LEFT_BUTTON, RIGHT_BUTTON = 1, 2
HELP = "push, pull and turn the cap: move | left button: gripper | right button: begin, success\n"


class HidDevice(Protocol):
    """The part of `hid.device` that is used."""

    def read(self, max_length: int) -> list[int]:
        """The oldest report that was not read yet; empty if there is none."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class SpaceMouseDevice(PolledDevice):
    """Forward, left and up move the first three components; turning about them the next three.

    Args:
        action_spec: See `Drive`.
        hid: Opened, not blocking.

    Raises:
        ConfigError: The robot takes no deltas.
    """

    def __init__(self, action_spec: ActionSpec, hid: HidDevice) -> None:
        super().__init__(action_spec, name="spacemouse")
        self._hid = hid
        self._raw = [0] * 6
        self._buttons = 0

    def read(self) -> None:
        """All reports that came since."""
        try:
            while report := self._hid.read(64):
                self._take(bytes(report))
        except OSError:
            raise self.unplugged() from None

    def axes(self) -> list[float]:
        """Where the cap is."""
        right, back, down, pitch, roll, yaw = (_scaled(value) for value in self._raw)
        return [-back, -right, -down, -roll, -pitch, -yaw]

    def close(self) -> None:
        """Let go of the device."""
        self._hid.close()

    def _take(self, report: bytes) -> None:
        kind, values = report[0], report[1:]
        if kind == BUTTONS and values:
            pressed, self._buttons = values[0] & ~self._buttons, values[0]
            if pressed & LEFT_BUTTON:
                self.switch_gripper()
            if pressed & RIGHT_BUTTON:
                self.ask("success")
        elif kind == TRANSLATION and len(values) >= 12:
            self._raw = list(struct.unpack_from("<6h", values))
        elif kind in (TRANSLATION, ROTATION) and len(values) >= 6:
            start = 0 if kind == TRANSLATION else 3
            self._raw[start : start + 3] = struct.unpack_from("<3h", values)


def _scaled(raw: int) -> float:
    value = raw / FULL
    return 0.0 if abs(value) < DEAD_ZONE else value


def find(found: list[dict[str, Any]]) -> bytes | None:
    """The path of the first SpaceMouse among what `hid.enumerate()` found."""
    for entry in found:
        if entry["vendor_id"] in VENDORS and (entry["usage_page"], entry["usage"]) == MULTI_AXIS_CONTROLLER:
            path: bytes = entry["path"]
            return path
    return None


def make_device(options: DeviceOptions) -> SpaceMouseDevice:
    """The first SpaceMouse.

    Raises:
        ConfigError: There is none, it may not be read, or the robot cannot be driven by one.
    """
    import hid

    path = find(hid.enumerate())
    if path is None:
        raise ConfigError("no SpaceMouse found", field="device", found="spacemouse", hint="plug one in")
    opened = hid.device()
    try:
        opened.open_path(path)
    except OSError:
        raise ConfigError(
            "the SpaceMouse cannot be opened",
            field="device",
            found=path.decode(),
            hint='let this user read it: a udev rule KERNEL=="hidraw*", ATTRS{idVendor}=="256f", TAG+="uaccess"',
        ) from None
    opened.set_nonblocking(1)
    sys.stderr.write(HELP)
    return SpaceMouseDevice(options.spec.action, opened)
