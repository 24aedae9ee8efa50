from __future__ import annotations

import io
import sys
from dataclasses import replace

import numpy as np
import pytest

from demos.teleop import keyboard, scripted
from demos.teleop.device import DeviceOptions, EpisodeControls
from demos.teleop.keyboard import KeyboardDevice
from robot_rlpd.errors import ConfigError
from robot_rlpd.robot import Policy, Source
from robot_rlpd.specs import ActionComponent, ActionSpec
from robot_rlpd.task import TaskSetup
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

ARM = ActionSpec(
    components=(
        *(ActionComponent(name=f"d{axis}", low=-0.1, high=0.2, unit="m", mode="delta") for axis in "xyz"),
        ActionComponent(name="gripper_opening", low=0.0, high=0.08, unit="m"),
    )
)
SETUP = TaskSetup(task=FakeTask(), spec=fake_spec(), make_robot=FakeRobot)


class FakeKeys:
    """Keys that a test types."""

    def __init__(self) -> None:
        self.typed = ""
        self.closed = False

    def read(self) -> str:
        typed, self.typed = self.typed, ""
        return typed

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def keys() -> FakeKeys:
    return FakeKeys()


@pytest.fixture
def device(keys: FakeKeys) -> KeyboardDevice:
    return KeyboardDevice(ARM, 10.0, keys)


def act(device: KeyboardDevice, keys: FakeKeys, typed: str = "") -> list[float]:
    keys.typed += typed
    return [round(float(value), 6) for value in device({})]


def test_the_keyboard_is_a_policy_that_also_ends_episodes(device: KeyboardDevice) -> None:
    assert isinstance(device, Policy)
    assert isinstance(device, EpisodeControls)
    assert device.source is Source.HUMAN


def test_a_key_pushes_its_component_for_a_moment(device: KeyboardDevice, keys: FakeKeys) -> None:
    assert act(device, keys) == [0.0, 0.0, 0.0, 0.08]
    assert act(device, keys, "w") == [0.2, 0.0, 0.0, 0.08]
    assert act(device, keys) == [0.2, 0.0, 0.0, 0.08]
    assert act(device, keys) == [0.0, 0.0, 0.0, 0.08]
    assert act(device, keys, "sf") == [-0.1, 0.0, -0.1, 0.08]


def test_space_toggles_the_gripper(device: KeyboardDevice, keys: FakeKeys) -> None:
    assert act(device, keys, " ")[3] == 0.0
    assert act(device, keys)[3] == 0.0
    assert act(device, keys, " ")[3] == 0.08


@pytest.mark.parametrize(
    ("key", "request_"), [("\n", "success"), ("\x7f", "failure"), ("x", "discard"), ("\x1b", "quit")]
)
def test_keys_end_the_episode_until_the_reset(device: KeyboardDevice, keys: FakeKeys, key: str, request_: str) -> None:
    assert device.request == ""
    act(device, keys, key)
    assert device.request == request_
    keys.typed = "w"
    device.reset()
    assert device.request == ""
    assert act(device, keys) == [0.0, 0.0, 0.0, 0.08]


def test_the_terminal_is_given_back(device: KeyboardDevice, keys: FakeKeys) -> None:
    device.close()
    assert keys.closed


def test_absolute_joints_cannot_be_driven_by_keys(keys: FakeKeys) -> None:
    with pytest.raises(ConfigError, match=r"action\.elbow: .* delta"):
        KeyboardDevice(ActionSpec(components=(ActionComponent(name="elbow"),)), 10.0, keys)


def test_without_a_terminal_the_keyboard_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(ConfigError, match="not a terminal"):
        keyboard.make_device(DeviceOptions(spec=fake_spec(), setup=SETUP))


def test_the_scripted_device_is_the_expert_of_the_task() -> None:
    asked = []

    def make_expert(noise: float, seed: int) -> Policy:
        asked.append((noise, seed))
        return FakePolicy()

    setup = replace(SETUP, make_expert=make_expert)
    device = scripted.make_device(DeviceOptions(spec=fake_spec(), setup=setup, noise=0.3, seed=7))
    assert isinstance(device, FakePolicy)
    assert asked == [(0.3, 7)]
    assert np.isfinite(device(FakeRobot().reset(seed=0).observation)).all()


def test_a_task_without_an_expert_is_refused() -> None:
    with pytest.raises(ConfigError, match="task 'fake' has no scripted expert"):
        scripted.make_device(DeviceOptions(spec=fake_spec(), setup=SETUP))
