from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from demos.teleop import keyboard
from demos.teleop.device import DeviceOptions, Request
from demos.teleop.keyboard import CONTROLS, KeyboardControls, KeyboardDevice, split_keys
from demos.testing import TeleopConformance, arm_spec
from robot_rlpd.errors import ConfigError
from robot_rlpd.specs import ActionComponent, ActionSpec
from robot_rlpd.task import TaskSetup
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from robot_rlpd.robot import Policy


class FakeKeys:
    """Keys that a test types; held ones repeat at every reading."""

    def __init__(self) -> None:
        self.typed = ""
        self.held = ""
        self.closed = False

    def read(self) -> str:
        typed, self.typed = self.typed, ""
        return typed + self.held

    def close(self) -> None:
        self.closed = True


class TestKeyboardConforms(TeleopConformance):
    def make_device(self) -> Policy:
        self.keys = FakeKeys()
        return KeyboardDevice(arm_spec().action, 10.0, self.keys)

    def push(self) -> None:
        self.keys.held = "w"

    def let_go(self) -> None:
        self.keys.held = ""

    def ask(self) -> Request:
        self.keys.typed = "\n"
        return "success"


@pytest.fixture
def keys() -> FakeKeys:
    return FakeKeys()


@pytest.fixture
def device(keys: FakeKeys) -> KeyboardDevice:
    made = KeyboardDevice(arm_spec().action, 10.0, keys)
    made.reset()
    return made


def act(device: KeyboardDevice, keys: FakeKeys, typed: str = "") -> list[float]:
    keys.typed = typed
    return [round(float(value), 6) for value in device({})]


def test_a_key_acts_for_as_long_as_a_press_lasts(device: KeyboardDevice, keys: FakeKeys) -> None:
    assert act(device, keys, "wd") == [0.2, -0.1, 0.0, 0.08]
    assert act(device, keys) == [0.2, -0.1, 0.0, 0.08]
    assert act(device, keys) == [0.0, 0.0, 0.0, 0.08]


def test_space_toggles_the_gripper(device: KeyboardDevice, keys: FakeKeys) -> None:
    assert act(device, keys, " ")[3] == 0.0
    assert act(device, keys)[3] == 0.0
    assert act(device, keys, " ")[3] == 0.08


def test_a_digit_sets_the_speed(device: KeyboardDevice, keys: FakeKeys) -> None:
    assert act(device, keys, "3w")[0] == pytest.approx(0.2 / 3, abs=1e-6)
    assert act(device, keys, "9w")[0] == pytest.approx(0.2)


@pytest.mark.parametrize(("arrow", "moved"), [("\x1b[A", 0), ("\x1bOD", 1), ("\x1b[5~", 2)])
def test_arrows_move_and_are_no_escape_key(device: KeyboardDevice, keys: FakeKeys, arrow: str, moved: int) -> None:
    assert act(device, keys, arrow)[moved] == 0.2
    assert device.poll() == []


def test_an_unknown_escape_sequence_does_nothing(device: KeyboardDevice, keys: FakeKeys) -> None:
    assert act(device, keys, "\x1b[15;2~") == [0.0, 0.0, 0.0, 0.08]
    assert device.poll() == []


def test_typed_text_is_split_into_keys() -> None:
    assert split_keys("a\x1b[A\x1b\x1b[5~x\x1b[") == ["a", "\x1b[A", "\x1b", "\x1b[5~", "x", "\x1b", "["]


@pytest.mark.parametrize(("key", "request_"), CONTROLS.items())
def test_the_keyboard_beside_another_device_only_asks(keys: FakeKeys, key: str, request_: str) -> None:
    keys.typed = f"w {key}"
    controls = KeyboardControls(keys)
    assert controls.poll() == [request_]
    controls.close()
    assert keys.closed


def test_the_terminal_is_given_back(device: KeyboardDevice, keys: FakeKeys) -> None:
    device.close()
    assert keys.closed


def test_absolute_joints_cannot_be_driven_by_keys(keys: FakeKeys) -> None:
    with pytest.raises(ConfigError, match=r"action\.elbow: .* delta"):
        KeyboardDevice(ActionSpec(components=(ActionComponent(name="elbow"),)), 10.0, keys)


def test_without_a_terminal_the_keyboard_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    setup = TaskSetup(task=FakeTask(), spec=fake_spec(), make_robot=FakeRobot)
    with pytest.raises(ConfigError, match="not a terminal"):
        keyboard.make_device(DeviceOptions(spec=fake_spec(), setup=setup))
