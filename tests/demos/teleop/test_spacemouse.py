from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from demos.teleop.spacemouse import SpaceMouseDevice, find
from demos.testing import TeleopConformance, arm_spec

if TYPE_CHECKING:
    from demos.teleop.device import Request
    from robot_rlpd.robot import Policy


class FakeHid:
    """A queue of reports."""

    def __init__(self) -> None:
        self.reports: list[bytes] = []
        self.is_there = True
        self.open = True

    def translate(self, x: int, y: int, z: int) -> None:
        self.reports.append(bytes([1]) + struct.pack("<3h", x, y, z))

    def read(self, max_length: int) -> list[int]:
        if not self.is_there:
            raise OSError("read error")
        return list(self.reports.pop(0)[:max_length]) if self.reports else []

    def close(self) -> None:
        self.open = False


class TestSpaceMouseConforms(TeleopConformance):
    def make_device(self) -> Policy:
        self.hid = FakeHid()
        return SpaceMouseDevice(arm_spec().action, self.hid)

    def push(self) -> None:
        self.hid.translate(0, -350, 0)

    def let_go(self) -> None:
        self.hid.translate(0, 0, 0)
        self.hid.reports.append(bytes([3, 0]))

    def ask(self) -> Request:
        self.hid.reports.append(bytes([3, 2]))
        return "success"

    def unplug(self) -> bool:
        self.hid.is_there = False
        return True


@pytest.mark.parametrize(
    ("raw", "moved"),
    [
        ((350, 0, 0), [0.0, -0.1, 0.0]),
        ((0, 175, 0), [-0.05, 0.0, 0.0]),
        ((0, 0, -350), [0.0, 0.0, 0.2]),
        ((9, 9, 9), [0.0, 0.0, 0.0]),
    ],
)
def test_right_back_and_down_are_the_positive_directions_of_the_device(
    raw: tuple[int, int, int], moved: list[float]
) -> None:
    hid = FakeHid()
    hid.translate(*raw)
    assert SpaceMouseDevice(arm_spec().action, hid)({})[:3].tolist() == pytest.approx(moved)


def test_one_long_report_holds_all_six_axes_and_a_short_one_three() -> None:
    hid = FakeHid()
    device = SpaceMouseDevice(arm_spec().action, hid)
    hid.reports.append(bytes([1]) + struct.pack("<6h", 0, -350, 0, 1, 2, 3))
    assert device({})[0] == pytest.approx(0.2)
    hid.reports.append(bytes([2]) + struct.pack("<3h", 350, 350, 350))
    assert device({})[:3].tolist() == pytest.approx([0.2, 0.0, 0.0])


def test_a_cut_or_unknown_report_is_ignored() -> None:
    hid = FakeHid()
    device = SpaceMouseDevice(arm_spec().action, hid)
    hid.reports += [bytes([1, 0]), bytes([3]), bytes([23, 1, 2, 3, 4, 5, 6, 7])]
    assert device({}).tolist() == pytest.approx([0.0, 0.0, 0.0, 0.08])
    assert device.poll() == []


def test_the_left_button_toggles_the_gripper_once_per_press() -> None:
    hid = FakeHid()
    device = SpaceMouseDevice(arm_spec().action, hid)
    hid.reports += [bytes([3, 1]), bytes([3, 1])]
    assert device({})[3] == 0.0
    hid.reports += [bytes([3, 0]), bytes([3, 1])]
    assert device({})[3] == pytest.approx(0.08)
    device.close()
    assert not hid.open


def test_the_right_interface_is_found_among_others() -> None:
    keyboard = {"vendor_id": 0x046D, "usage_page": 1, "usage": 6, "path": b"keyboard"}
    mouse = {"vendor_id": 0x256F, "usage_page": 1, "usage": 8, "path": b"spacemouse"}
    assert find([keyboard, mouse]) == b"spacemouse"
    assert find([keyboard]) is None
