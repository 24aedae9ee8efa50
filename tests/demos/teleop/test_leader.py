from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from demos.teleop.device import DeviceOptions
from demos.teleop.leader import LeaderDevice, Reading, find_reading, make_device
from demos.testing import TeleopConformance, arm_spec
from robot_rlpd.clock import ManualClock
from robot_rlpd.errors import ConfigError, RobotError
from robot_rlpd.robot import Action, ClosingRobot, Policy, StepResult
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.task import TaskSetup
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec


class FakeLeader(ClosingRobot):
    """An arm that a test moves by hand; `moved` waits until the device has seen it."""

    def __init__(self, spec: RobotSpec | None = None) -> None:
        self.spec = spec or arm_spec()
        self.values = {field.name: np.zeros(field.shape, field.dtype) for field in self.spec.observation}
        self.fault: RobotError | None = None
        self.commanded: list[list[float]] = []
        self.closed = False
        self._steps = threading.Semaphore(0)
        self._done = threading.Semaphore(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        return StepResult({name: value.copy() for name, value in self.values.items()})

    def step(self, action: Action) -> StepResult:
        self._done.release()
        self._steps.acquire()
        if self.fault is not None:
            self._done.release()
            raise self.fault
        self.commanded.append(action.tolist())
        return StepResult({name: value.copy() for name, value in self.values.items()}, action)

    def stop(self, reason: str) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def look(self) -> None:
        """Let the device's thread take one more step, and wait until it has it."""
        self._done.acquire()
        self._steps.release()
        self._done.acquire()
        self._done.release()

    def let_end(self) -> None:
        self._steps.release()


class TestLeaderConforms(TeleopConformance):
    def make_device(self) -> Policy:
        self.leader = FakeLeader()
        return LeaderDevice(self.leader, arm_spec().action, ManualClock())

    def push(self) -> None:
        self.leader.values["tcp_position"][0] += np.float32(0.2)
        self.leader.look()

    def let_go(self) -> None:
        self.leader.look()

    def unplug(self) -> bool:
        self.leader.fault = RobotError("motor 3 is gone")
        self.leader.look()
        return True


def started(leader: FakeLeader, action_spec: ActionSpec, clock: ManualClock | None = None) -> LeaderDevice:
    device = LeaderDevice(leader, action_spec, clock or ManualClock())
    device.reset()
    return device


def test_a_slower_follower_catches_up() -> None:
    leader = FakeLeader()
    device = started(leader, arm_spec().action)
    leader.values["tcp_position"][:] = [0.5, -0.15, 0.0]
    leader.values["gripper_opening"][:] = 0.03
    leader.look()
    actions = np.array([device({}) for _ in range(4)])
    assert actions[:, 0] == pytest.approx([0.2, 0.2, 0.1, 0.0])
    assert actions[:, 1] == pytest.approx([-0.1, -0.05, 0.0, 0.0], abs=1e-6)
    assert actions[:, 3] == pytest.approx([0.03] * 4)
    leader.let_end()
    device.close()
    assert leader.closed


def joints_spec() -> RobotSpec:
    names = ("shoulder", "elbow")
    return RobotSpec(
        name="joints",
        observation=(ArraySpec(name="joint_positions", shape=(2,), unit="rad", components=names),),
        action=ActionSpec(components=tuple(ActionComponent(name=name, low=-2.0, high=2.0) for name in names)),
        control_rate_hz=10.0,
    )


def test_absolute_joints_follow_and_the_leader_is_asked_to_stay_where_it_is() -> None:
    leader = FakeLeader(joints_spec())
    device = started(leader, joints_spec().action)
    leader.values["joint_positions"][:] = [1.0, -3.0]
    leader.look()
    leader.look()
    assert device({}).tolist() == [1.0, -2.0]
    assert leader.commanded[-1] == [1.0, -2.0]
    leader.let_end()
    device.close()


def test_a_leader_that_falls_silent_stops_the_follower() -> None:
    clock = ManualClock()
    device = started(FakeLeader(), arm_spec().action, clock)
    clock.advance(0.59)
    device({})
    clock.advance(0.02)
    with pytest.raises(RobotError, match=r"not been heard for 0\.6 s"):
        device({})


def test_readings_are_found_by_name() -> None:
    spec = arm_spec()
    assert find_reading("tcp_dy", spec) == Reading("tcp_position", 1)
    assert find_reading("gripper_opening", spec) == Reading("gripper_opening", 0)
    assert find_reading("elbow", joints_spec()) == Reading("joint_positions", 1)
    assert find_reading("tcp_dw", spec) is None
    with pytest.raises(ConfigError, match=r"action\.elbow|action\.shoulder: .*tcp_position"):
        LeaderDevice(FakeLeader(), joints_spec().action)


def test_a_leader_has_to_be_named() -> None:
    setup = TaskSetup(task=FakeTask(), spec=fake_spec(), make_robot=FakeRobot)
    with pytest.raises(ConfigError, match="leader:tcp://HOST:PORT"):
        make_device(DeviceOptions(spec=arm_spec(), setup=setup))
