from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robot_rlpd.clock import ManualClock, Rate
from robot_rlpd.errors import RobotError, SpecError
from robot_rlpd.judging import JudgedRobot
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.robot import Action, Robot, StepResult
from robot_rlpd.safety import SafeRobot
from robot_rlpd.specs import ActionComponent, ActionSpec, RobotSpec
from robot_rlpd.testing import FakeRobot, FakeTask, RobotConformance, fake_spec


class TestFakeRobot(RobotConformance):
    def make_robot(self) -> Robot:
        return FakeRobot()


class TestSafeRobot(RobotConformance):
    def make_robot(self) -> Robot:
        return SafeRobot(FakeRobot())


class TestPacedRobot(RobotConformance):
    def make_robot(self) -> Robot:
        return PacedRobot(FakeRobot(), ManualClock())


class TestJudgedRobot(RobotConformance):
    def make_robot(self) -> Robot:
        return JudgedRobot(FakeRobot(), FakeTask())


def test_a_judged_robot_signals_what_the_task_says_and_its_time_limit() -> None:
    robot = JudgedRobot(FakeRobot(), FakeTask(max_episode_steps=2))
    robot.reset(seed=0)
    still = np.zeros(2, np.float32)
    first, second = robot.step(still).signals, robot.step(still).signals
    assert [bool(s["truncated"]) for s in (first, second)] == [False, True]
    assert float(first["reward"]) == -1.0
    robot.reset(seed=0)
    assert not bool(robot.step(still).signals["truncated"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(arrays(np.float32, 2, elements=st.floats(width=32)), max_size=8))
def test_no_sequence_of_actions_is_executed_outside_the_bounds(actions: list[Action]) -> None:
    fake = FakeRobot()
    robot = SafeRobot(fake)
    robot.reset(seed=0)
    for action in actions:
        try:
            robot.step(action)
        except (SpecError, RobotError):
            robot.reset(seed=0)
    for executed in fake.executed:
        assert (np.abs(executed) <= 0.5).all()


def test_a_nan_stops_the_robot_until_the_next_reset() -> None:
    fake = FakeRobot()
    robot = SafeRobot(fake)
    robot.reset(seed=0)
    with pytest.raises(SpecError, match=r"action\[x\]"):
        robot.step(np.array([np.nan, 0.0], np.float32))
    assert len(fake.stops) == 1
    with pytest.raises(RobotError, match="reset it first"):
        robot.step(np.zeros(2, np.float32))
    robot.reset(seed=0)
    robot.step(np.zeros(2, np.float32))
    assert robot.counts.refused_actions == 1


class SilentRobot(FakeRobot):
    """Does not tell what it executed."""

    def step(self, action: Action) -> StepResult:
        """Step."""
        return replace(super().step(action), executed_action=None)


def test_what_was_executed_does_not_change_when_the_caller_uses_his_array_again() -> None:
    robot = SafeRobot(SilentRobot())
    robot.reset(seed=0)
    action = np.array([0.25, -0.25], np.float32)
    result = robot.step(action)
    action[:] = 0.0
    assert result.executed_action is not None
    assert result.executed_action.tolist() == [0.25, -0.25]


def test_clipping_is_reported_and_counted() -> None:
    robot = SafeRobot(FakeRobot())
    robot.reset(seed=0)
    result = robot.step(np.array([9.0, 0.25], np.float32))
    assert result.executed_action is not None
    assert result.executed_action.tolist() == [0.5, 0.25]
    assert (robot.counts.steps, robot.counts.clipped_steps) == (1, 1)


def test_binary_components_snap_to_a_bound() -> None:
    spec = RobotSpec(
        name="gripper",
        observation=fake_spec().observation,
        action=ActionSpec(components=(ActionComponent(name="x"), ActionComponent(name="grip", kind="binary"))),
        control_rate_hz=10.0,
    )
    limited = SafeRobot(FakeRobot(spec)).limit(np.array([0.3, 0.1], np.float32))
    assert limited.tolist() == pytest.approx([0.3, 1.0])


def test_a_paced_step_ends_at_an_absolute_deadline() -> None:
    clock = ManualClock()
    robot = PacedRobot(FakeRobot(), clock)
    robot.reset(seed=0)
    clock.advance(0.03)
    robot.step(np.zeros(2, np.float32))
    assert clock.now_s() == pytest.approx(0.1)
    robot.step(np.zeros(2, np.float32))
    assert clock.now_s() == pytest.approx(0.2)


def test_after_a_hold_the_next_action_lasts_a_whole_period() -> None:
    clock = ManualClock()
    robot = PacedRobot(FakeRobot(), clock)
    robot.reset(seed=0)
    robot.step(np.zeros(2, np.float32))
    clock.advance(0.73)
    robot.step(np.zeros(2, np.float32))
    assert clock.now_s() == pytest.approx(0.93)


def test_lateness_is_counted_and_does_not_add_up() -> None:
    clock = ManualClock()
    rate = Rate(10.0, clock)
    rate.start()
    clock.advance(0.15)
    assert rate.wait() == pytest.approx(0.05)
    assert rate.wait() == pytest.approx(0.0)
    assert clock.now_s() == pytest.approx(0.2)
    clock.advance(0.55)
    rate.wait()
    assert rate.late_ticks == 2
    rate.wait()
    assert clock.now_s() == pytest.approx(0.85)
