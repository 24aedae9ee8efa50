from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from demos.teleop import policy, scripted
from demos.teleop.device import DeviceOptions
from robot_rlpd.errors import ConfigError
from robot_rlpd.task import TaskSetup
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from robot_rlpd.robot import Policy

SETUP = TaskSetup(task=FakeTask(), spec=fake_spec(), make_robot=FakeRobot)


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


@pytest.mark.parametrize(("file", "kind"), [("runs/best.onnx", "onnx"), ("runs/reach", "checkpoint")])
def test_a_policy_file_is_opened_for_the_robot(file: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(group: str, name: str) -> Any:
        return lambda path, spec: (group, name, path, spec.name)

    monkeypatch.setattr(policy, "load_entry_point", load)
    made: Any = policy.make_device(DeviceOptions(spec=fake_spec(), setup=SETUP, argument=file))
    assert made == ("robot_rlpd.policies", kind, Path(file), "fake")


def test_a_policy_has_to_be_named() -> None:
    with pytest.raises(ConfigError, match=r"policy:FILE\.onnx"):
        policy.make_device(DeviceOptions(spec=fake_spec(), setup=SETUP))
