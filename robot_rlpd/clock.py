"""Time as something that is passed in, so that rate logic is tested without waiting."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock that can wait.

    Simulation time and wall time are never mixed: a clock is one or the other, and `identity` says which.
    """

    identity: str

    def now_s(self) -> float:
        """Seconds since an arbitrary, fixed origin."""
        ...

    def sleep_until_s(self, deadline_s: float) -> None:
        """Block until `now_s() >= deadline_s`; returns at once if that has passed."""
        ...


class MonotonicClock:
    """The operating system's monotonic clock."""

    identity = "monotonic"
    now_s = staticmethod(time.monotonic)
    """Seconds since boot, or another fixed origin."""

    def sleep_until_s(self, deadline_s: float) -> None:
        """Sleep until the deadline."""
        remaining = deadline_s - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)


class ManualClock:
    """A clock that moves only when told to; sleeping moves it to the deadline."""

    identity = "manual"

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        """The present manual time."""
        return self._now_s

    def sleep_until_s(self, deadline_s: float) -> None:
        """Jump to the deadline if it lies ahead."""
        self._now_s = max(self._now_s, deadline_s)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._now_s += seconds


class Rate:
    """Absolute deadlines at a fixed rate; lateness does not add up.

    A tick later than 10 % of the period counts as late. After an overrun of more than one period the schedule
    starts anew from now: missed ticks are skipped, not made up for.
    """

    def __init__(self, rate_hz: float, clock: Clock) -> None:
        self._period_s = 1.0 / rate_hz
        self._clock = clock
        self._next_s: float | None = None
        self.ticks = 0
        self.late_ticks = 0
        self.max_lateness_s = 0.0

    def start(self) -> None:
        """Set the first deadline one period from now."""
        self._next_s = self._clock.now_s() + self._period_s

    def resume(self) -> None:
        """After a hold past the deadline, count one whole period from now; otherwise keep the schedule."""
        if self._next_s is None or self._clock.now_s() >= self._next_s:
            self.start()

    def wait(self) -> float:
        """Sleep until the next tick; returns its lateness in seconds (0 when on time)."""
        if self._next_s is None:
            self.start()
        deadline_s = self._next_s if self._next_s is not None else self._clock.now_s()
        self._clock.sleep_until_s(deadline_s)
        lateness_s = max(0.0, self._clock.now_s() - deadline_s)
        self.ticks += 1
        self.max_lateness_s = max(self.max_lateness_s, lateness_s)
        if lateness_s > 0.1 * self._period_s:
            self.late_ticks += 1
        missed = lateness_s > self._period_s
        self._next_s = (self._clock.now_s() if missed else deadline_s) + self._period_s
        return lateness_s
