"""How quick the policy is, and whether the loop keeps its rate."""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.rollout import SilentListener

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.episode import EpisodeInfo, Step
    from robot_rlpd.robot import Action, Observation, Policy, StepResult
    from robot_rlpd.specs import RobotSpec

LATE = 1.1
"""A step that takes longer than this many control periods is late."""


class TimedPolicy:
    """A policy that notes how long each action took, eight bytes each."""

    def __init__(self, policy: Policy, now_s: Callable[[], float] = time.perf_counter) -> None:
        self._policy = policy
        self.source = policy.source
        self._now_s = now_s
        self._latencies_s = array("d")
        self.first_action_at_s: float | None = None

    def reset(self) -> None:
        """Reset the policy."""
        self._policy.reset()

    def __call__(self, observation: Observation) -> Action:
        """The policy's action."""
        started_s = self._now_s()
        action = self._policy(observation)
        ended_s = self._now_s()
        self.source = self._policy.source
        self._latencies_s.append(ended_s - started_s)
        if self.first_action_at_s is None:
            self.first_action_at_s = ended_s
        return action

    def latency_us(self) -> dict[str, float] | None:
        """Time per action in microseconds; None before the first."""
        if not self._latencies_s:
            return None
        p50, p99, longest = np.percentile(np.asarray(self._latencies_s) * 1e6, [50, 99, 100])
        return {"p50": round(float(p50), 1), "p99": round(float(p99), 1), "max": round(float(longest), 1)}


class LoopTimes(SilentListener):
    """Measures the control steps: from one observation to the next, resets left out."""

    def __init__(self, control_rate_hz: float, now_s: Callable[[], float] = time.perf_counter) -> None:
        self._late_s = LATE / control_rate_hz
        self._now_s = now_s
        self._last_s = 0.0
        self._total_s = 0.0
        self.steps = 0
        self.late_ticks = 0

    @property
    def rate_hz(self) -> float | None:
        """Measured control steps per second; None before the first."""
        return self.steps / self._total_s if self._total_s else None

    def on_start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """The first step begins."""
        self._last_s = self._now_s()

    def on_step(self, step: Step) -> None:
        """A step is over, the next begins."""
        del step
        now_s = self._now_s()
        step_s, self._last_s = now_s - self._last_s, now_s
        self.steps += 1
        self._total_s += step_s
        self.late_ticks += int(step_s > self._late_s)
