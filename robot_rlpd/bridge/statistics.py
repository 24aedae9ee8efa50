"""What a served robot did so far: counts, and times of the last thousand steps."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import numpy as np

WINDOW = 1000
"""Steps over which times are told."""
LATE = 1.1
"""A step that takes longer than this many control periods is late."""


class Statistics:
    """Told of every request by the service; asked rarely.

    Attributes:
        held_s: Time for which the robot stood between a step and the next command, in seconds.
        repeated: Requests that had been executed already and were answered again.
        refused: Refusals sent, by code.
    """

    def __init__(self, control_period_s: float, *, paced: bool) -> None:
        self._late_s = LATE * control_period_s if paced else float("inf")
        self._steps = deque[float](maxlen=WINDOW)
        self._thinking = deque[float](maxlen=WINDOW)
        self._ended_s: float | None = None
        self.episodes = self.env_steps = self.late_ticks = self.repeated = 0
        self.held_s = 0.0
        self.refused = Counter[str]()

    def reset(self) -> None:
        """An episode begins."""
        self.episodes += 1
        self._ended_s = None

    def step(self, began_s: float, ended_s: float) -> None:
        """A step was executed between these times of the service's clock."""
        if self._ended_s is not None:
            self._thinking.append(began_s - self._ended_s)
            self.held_s += began_s - self._ended_s
        took_s = ended_s - began_s
        self._steps.append(took_s)
        self._ended_s = ended_s
        self.env_steps += 1
        if took_s > self._late_s:
            self.late_ticks += 1

    def to_json(self) -> dict[str, Any]:
        """All of it, as `bridge status --json` prints it."""
        busy_s = sum(self._steps) + sum(self._thinking)
        return {
            "episodes": self.episodes,
            "env_steps": self.env_steps,
            "rate_hz": round(len(self._steps) / busy_s, 2) if busy_s > 0 else None,
            "step_ms": _percentiles_ms(self._steps),
            "wait_ms": _percentiles_ms(self._thinking),
            "late_ticks": self.late_ticks,
            "held_s": round(self.held_s, 3),
            "repeated": self.repeated,
            "refused": dict(self.refused),
        }


def _percentiles_ms(times_s: deque[float]) -> dict[str, float] | None:
    if not times_s:
        return None
    p50, p99, longest = np.percentile(np.array(times_s) * 1e3, [50, 99, 100])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(float(longest), 3)}
