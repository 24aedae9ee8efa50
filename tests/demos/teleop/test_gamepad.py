from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from demos.teleop import gamepad
from demos.teleop.device import DeviceOptions, Request
from demos.teleop.gamepad import A, B, GamepadDevice
from demos.testing import TeleopConformance, arm_spec
from robot_rlpd.errors import ConfigError
from robot_rlpd.specs import ActionSpec
from robot_rlpd.task import TaskSetup
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from robot_rlpd.robot import Policy


class FakeController:
    """A pad as SDL shows it."""

    def __init__(self) -> None:
        self.axes: dict[int, int] = {}
        self.buttons: set[int] = set()
        self.is_there = True
        self.open = True

    def get_axis(self, axis: int) -> int:
        return self.axes.get(axis, 0)

    def get_button(self, button: int) -> bool:
        return button in self.buttons

    def attached(self) -> bool:
        return self.is_there

    def quit(self) -> None:
        self.open = False


class TestGamepadConforms(TeleopConformance):
    def make_device(self) -> Policy:
        self.pad = FakeController()
        return GamepadDevice(arm_spec().action, self.pad, lambda: None)

    def push(self) -> None:
        self.pad.axes[gamepad.LEFT_Y] = -32768

    def let_go(self) -> None:
        self.pad.axes.clear()
        self.pad.buttons.clear()

    def ask(self) -> Request:
        self.pad.buttons.add(B)
        return "failure"

    def unplug(self) -> bool:
        self.pad.is_there = False
        return True


def six_axes() -> ActionSpec:
    moves = arm_spec().action.components[:3]
    turns = tuple(replace(c, name=f"turn_{c.name}") for c in moves)
    return ActionSpec(components=(*moves, *turns, arm_spec().action.components[3]))


@pytest.mark.parametrize(
    ("axis", "value", "moved"),
    [
        (gamepad.LEFT_Y, -32768, {0: 0.2}),
        (gamepad.LEFT_X, 32767, {1: -0.1}),
        (gamepad.RIGHT_Y, 32767, {2: -0.1}),
        (gamepad.RIGHT_X, -32768, {5: 0.2}),
        (gamepad.LEFT_X, 3000, {}),
    ],
)
def test_sticks_move_what_they_should(axis: int, value: int, moved: dict[int, float]) -> None:
    pad = FakeController()
    pad.axes[axis] = value
    action = GamepadDevice(six_axes(), pad, lambda: None)({})
    assert {i: round(float(v), 4) for i, v in enumerate(action[:6]) if v} == moved


@pytest.mark.parametrize(("button", "moved"), [(gamepad.UP, {3: 0.2}), (gamepad.RIGHT, {4: -0.1})])
def test_the_cross_turns(button: int, moved: dict[int, float]) -> None:
    pad = FakeController()
    pad.buttons.add(button)
    action = GamepadDevice(six_axes(), pad, lambda: None)({})
    assert {i: round(float(v), 4) for i, v in enumerate(action[:6]) if v} == moved


def test_the_gripper_toggles_once_per_press_and_a_shoulder_slows() -> None:
    pad = FakeController()
    device = GamepadDevice(arm_spec().action, pad, lambda: None)
    pad.buttons = {A, gamepad.SHOULDER}
    pad.axes[gamepad.LEFT_Y] = -32768
    for _ in range(3):
        assert device({}).tolist() == pytest.approx([0.06, 0.0, 0.0, 0.0])
    pad.buttons = set()
    device({})
    pad.buttons = {A}
    assert device({})[3] == pytest.approx(0.08)
    device.close()
    assert not pad.open


def test_without_a_pad_the_device_is_refused() -> None:
    pytest.importorskip("pygame")
    setup = TaskSetup(task=FakeTask(), spec=fake_spec(), make_robot=FakeRobot)
    with pytest.raises(ConfigError, match="gamepad:99"):
        gamepad.make_device(DeviceOptions(spec=arm_spec(), setup=setup, argument="99"))
