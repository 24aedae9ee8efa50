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

EDGES_US = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
"""Where the classes of a histogram meet, in microseconds; one class below and one above."""


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
        return _percentiles_us(self._latencies_s)

    def histogram(self) -> list[int]:
        """Actions per class of `EDGES_US`."""
        return _histogram(self._latencies_s)


class LoopTimes(SilentListener):
    """Measures the control steps: from one observation to the next, resets left out.

    Each step takes eight bytes.
    """

    def __init__(self, control_rate_hz: float, now_s: Callable[[], float] = time.perf_counter) -> None:
        self._period_s = 1.0 / control_rate_hz
        self._now_s = now_s
        self._last_s = 0.0
        self._total_s = 0.0
        self._lateness_s = array("d")
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
        self.late_ticks += int(step_s > LATE * self._period_s)
        self._lateness_s.append(max(0.0, step_s - self._period_s))

    def lateness_us(self) -> dict[str, float] | None:
        """What steps took beyond a period, in microseconds; None before the first."""
        return _percentiles_us(self._lateness_s)

    def histogram(self) -> list[int]:
        """Steps per class of `EDGES_US`, by their lateness."""
        return _histogram(self._lateness_s)


def _percentiles_us(times_s: array[float]) -> dict[str, float] | None:
    if not times_s:
        return None
    p50, p99, longest = np.percentile(np.asarray(times_s) * 1e6, [50, 99, 100])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1), "max": round(float(longest), 1)}


def _histogram(times_s: array[float]) -> list[int]:
    edges = [0.0, *EDGES_US, np.inf]
    counts: list[int] = np.histogram(np.asarray(times_s) * 1e6, edges)[0].tolist()
    return counts
