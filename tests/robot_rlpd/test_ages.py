from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from robot_rlpd.clock import ManualClock
from robot_rlpd.errors import ConfigError, RobotError
from robot_rlpd.limits import SafetyLimits, Watch
from robot_rlpd.robot import Action, StepResult
from robot_rlpd.safety import SafeRobot
from robot_rlpd.testing import FakeRobot
from robot_rlpd.watchdog import watch_beside

STILL = np.zeros(2, np.float32)


class SlowRobot(FakeRobot):
    """Takes `takes_s` on the clock for a step; its own clock advances by `own_s`."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.takes_s = self.own_s = self.spec.control_period_s

    def step(self, action: Action) -> StepResult:
        before_s = self._time_s
        super().step(action)
        self._time_s = before_s + self.own_s
        self.clock.advance(self.takes_s)
        return StepResult(self._observation(), action, {}, self._time_s)


def watched(**watch: Any) -> tuple[SafeRobot, SlowRobot, ManualClock]:
    clock = ManualClock()
    slow = SlowRobot(clock)
    robot = SafeRobot(slow, SafetyLimits(watch=Watch(**watch)), clock)
    robot.reset(seed=0)
    return robot, slow, clock


def test_a_silent_commander_is_noticed_and_the_robot_stopped_once() -> None:
    robot, slow, clock = watched(command_timeout_s=0.5)
    robot.step(STILL)
    clock.advance(0.5)
    assert robot.watch() == ""
    clock.advance(0.01)
    assert robot.watch() == "no command for 0.5 s"
    assert robot.watch() == ""
    assert slow.stops == ["no command for 0.5 s"] == robot.counts.stops
    with pytest.raises(RobotError, match="no command for"):
        robot.step(STILL)


def test_a_command_that_comes_too_late_is_refused_also_without_a_watching_thread() -> None:
    robot, slow, clock = watched(command_timeout_s=0.5)
    robot.step(STILL)
    clock.advance(3600.0)  # as after the machine slept
    with pytest.raises(RobotError, match="no command for 3"):
        robot.step(STILL)
    assert len(slow.executed) == 1
    robot.reset(seed=1)
    robot.step(STILL)


def test_a_reset_may_take_its_time() -> None:
    clock = ManualClock()
    robot: SafeRobot
    told = []

    class SlowReset(FakeRobot):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
            clock.advance(60.0)
            told.append(robot.watch())
            return super().reset(seed=seed, options=options)

    robot = SafeRobot(SlowReset(), SafetyLimits(watch=Watch(command_timeout_s=0.5)), clock)
    robot.reset(seed=0)
    clock.advance(0.4)
    robot.step(STILL)
    robot.reset(seed=1)
    assert told == ["", ""]


def test_commands_that_miss_many_ticks_in_a_row_stop_the_robot() -> None:
    robot, slow, clock = watched(max_missed_ticks=3)
    for late_s in (0.11, 0.11, 0.0, 0.11, 0.11, 0.11):
        clock.advance(late_s)
        robot.step(STILL)
    clock.advance(0.11)
    with pytest.raises(RobotError, match="4 commands in a row came more than a period late"):
        robot.step(STILL)
    assert len(slow.executed) == 6


def test_an_observation_that_stands_still_or_lags_behind_stops_the_robot() -> None:
    robot, slow, _ = watched(observation_timeout_s=0.25)
    slow.own_s = 0.0
    assert [robot.step(STILL).fault for _ in range(2)] == ["", ""]
    assert robot.step(STILL).fault == "stopped: the observation is 0.3 s old"
    assert slow.stops == ["the observation is 0.3 s old"]


def test_a_hold_between_steps_and_a_slightly_slower_clock_make_no_observation_old() -> None:
    robot, slow, clock = watched(observation_timeout_s=0.25)
    slow.own_s *= 0.9995
    for _ in range(20_000):
        clock.advance(0.9)
        assert robot.step(STILL).fault == ""


def test_a_robot_clock_that_goes_back_stops_the_robot() -> None:
    robot, slow, _ = watched()
    robot.step(STILL)
    slow.own_s = -5.0
    assert "went back by 5 s" in robot.step(STILL).fault
    assert len(slow.stops) == 1


def test_a_step_that_hangs_is_stopped_from_beside_the_loop() -> None:
    entered, stopped = threading.Event(), threading.Event()

    class Hanging(FakeRobot):
        def step(self, action: Action) -> StepResult:
            entered.set()
            assert stopped.wait(60.0)
            return super().step(action)

        def stop(self, reason: str) -> None:
            super().stop(reason)
            stopped.set()

    clock = ManualClock()
    robot = SafeRobot(Hanging(), SafetyLimits(watch=Watch(step_timeout_s=0.5, command_timeout_s=9.0)), clock)
    results: list[StepResult] = []

    def loop() -> None:
        robot.reset(seed=0)
        results.append(robot.step(STILL))

    thread = threading.Thread(target=loop)
    thread.start()
    assert entered.wait(60.0)
    assert robot.watch() == ""
    clock.advance(0.6)
    assert robot.watch() == "the robot's step did not return for 0.5 s"
    thread.join()
    assert "did not return" in results[0].fault


def test_the_thread_beside_stops_a_robot_whose_policy_hangs_and_ends_with_it() -> None:
    stopped = threading.Event()

    class Told(FakeRobot):
        def stop(self, reason: str) -> None:
            super().stop(reason)
            stopped.set()

    inner = Told()
    watch = Watch(command_timeout_s=0.02)
    robot = SafeRobot(inner, SafetyLimits(watch=watch))
    thread = watch_beside(robot)
    assert thread is not None
    robot.reset(seed=0)
    assert stopped.wait(60.0)
    assert inner.stops == ["no command for 0.02 s"]
    robot.close()
    thread.join(60.0)
    assert not thread.is_alive()


def test_nothing_to_await_needs_no_thread() -> None:
    assert watch_beside(SafeRobot(FakeRobot())) is None
    assert watch_beside(SafeRobot(FakeRobot(), SafetyLimits(watch=Watch(max_missed_ticks=3)))) is None


def test_another_thread_may_stop_but_not_command() -> None:
    robot, slow, _ = watched()
    errors: list[BaseException] = []

    def second_commander() -> None:
        try:
            robot.step(STILL)
        except RobotError as error:
            errors.append(error)
        robot.stop("the red button")

    thread = threading.Thread(target=second_commander)
    thread.start()
    thread.join()
    assert "commanded by another thread; allowed: one commander at a time" in str(errors[0])
    assert slow.stops == ["the red button"]
    assert not slow.executed


def test_a_stop_that_comes_during_a_reset_is_not_lifted_by_it() -> None:
    entered, stopped = threading.Event(), threading.Event()

    class SlowReset(FakeRobot):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
            entered.set()
            assert stopped.wait(60.0)
            return super().reset(seed=seed, options=options)

    slow = SlowReset()
    robot = SafeRobot(slow)

    def press() -> None:
        assert entered.wait(60.0)
        robot.stop("the red button")
        stopped.set()

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(RobotError, match="stopped during the reset: the red button"):
        robot.reset(seed=0)
    thread.join()
    with pytest.raises(RobotError, match="the red button"):
        robot.step(STILL)
    robot.reset(seed=0)
    robot.step(STILL)


@pytest.mark.parametrize(
    "option", ["command_timeout_s", "step_timeout_s", "observation_timeout_s", "max_missed_ticks", "hold_after_ticks"]
)
def test_a_watchdog_of_no_length_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"watch\.{option}: found 0; allowed: above 0"):
        Watch(**{option: 0})
