from __future__ import annotations

import numpy as np
import pytest

from deploy.runtime.timing import LoopTimes, TimedPolicy
from robot_rlpd.clock import ManualClock
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.robot import Action, Observation, Source, StepResult
from robot_rlpd.rollout import rollout
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec


class SlowPolicy(FakePolicy):
    """Thinks for the times given, one per step."""

    def __init__(self, clock: ManualClock, times_s: list[float]) -> None:
        self._clock, self._times_s = clock, times_s

    def __call__(self, observation: Observation) -> Action:
        self._clock.advance(self._times_s.pop(0))
        return np.zeros(2, np.float32)


def test_latency_is_the_time_of_the_policy_alone() -> None:
    clock = ManualClock()
    policy = TimedPolicy(SlowPolicy(clock, [0.001, 0.003, 0.002]), clock.now_s)
    assert policy.latency_us() is None
    assert policy.source is Source.SCRIPTED
    for _ in range(3):
        policy({})
        clock.advance(1.0)
    assert policy.latency_us() == {"p50": 2000.0, "p99": pytest.approx(2980.0), "max": 3000.0}
    assert policy.first_action_at_s == pytest.approx(0.001)


def test_the_rate_is_measured_over_steps_and_late_ones_are_counted() -> None:
    clock = ManualClock()
    robot = PacedRobot(FakeRobot(fake_spec(control_rate_hz=10.0)), clock)
    times = LoopTimes(10.0, clock.now_s)
    assert times.rate_hz is None
    thinking_s = [0.01, 0.05, 0.25, 0.05]
    for _ in range(2):
        rollout(robot, SlowPolicy(clock, thinking_s.copy()), FakeTask(max_episode_steps=4), seed=0, listeners=[times])
        clock.advance(100.0)  # a reset that waits for somebody
    assert times.steps == 8
    assert times.late_ticks == 2
    held_s = 0.25  # past the deadline: the action that then comes still lasts a whole period
    assert times.rate_hz == pytest.approx(4 / (0.1 + 0.1 + (held_s + 0.1) + 0.1))


def test_resets_are_no_part_of_the_rate() -> None:
    clock = ManualClock()

    class SlowReset(FakeRobot):
        def reset(self, *, seed: int | None = None, options: dict[str, object] | None = None) -> StepResult:
            clock.advance(30.0)
            return super().reset(seed=seed, options=options)

    times = LoopTimes(10.0, clock.now_s)
    rollout(PacedRobot(SlowReset(), clock), FakePolicy(), FakeTask(), seed=0, listeners=[times])
    assert times.rate_hz == pytest.approx(10.0)
