"""Watchdogs: how old commands, steps and observations may become."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robot_rlpd.clock import Clock
    from robot_rlpd.limits import Watch

CLOCK_SKEW = 1e-3
"""Share by which the robot's clock may be slower than ours before its observations count as old."""


class Ages:
    """How long ago things happened, and which of it is too long.

    Args:
        watch: What is too long.
        period_s: Control period, seconds.
        clock: Of this process.
    """

    def __init__(self, watch: Watch, period_s: float, clock: Clock) -> None:
        self._watch = watch
        self._period_s = period_s
        self._clock = clock
        self._in_step = False
        self._since_s: float | None = None
        self._missed = 0
        self._origin = (0.0, 0.0)
        self._robot_time_s = 0.0
        self.was_held = False
        self._is_held = False
        self._hold_s = None if watch.hold_after_ticks is None else watch.hold_after_ticks * period_s

    def pause(self) -> None:
        """Nothing is expected until the next `begin`."""
        self._since_s = None

    def begin(self, robot_time_s: float) -> None:
        """A reset is over."""
        self._since_s, self._in_step, self._missed, self._is_held = self._clock.now_s(), False, 0, False
        self._origin, self._robot_time_s = (self._since_s, robot_time_s), robot_time_s

    def before_step(self) -> str:
        """A command arrived; why it may not be executed, or empty."""
        now_s, watch = self._clock.now_s(), self._watch
        waited_s = now_s - (now_s if self._since_s is None else self._since_s)
        if watch.command_timeout_s is not None and waited_s > watch.command_timeout_s:
            return f"no command for {waited_s:.3g} s"
        awaited = watch.command_timeout_s or watch.max_missed_ticks or watch.hold_after_ticks
        self.was_held = self._is_held or (waited_s > self._period_s and awaited is not None)
        self._is_held = False
        self._missed = self._missed + 1 if waited_s > self._period_s else 0
        if watch.max_missed_ticks is not None and self._missed > watch.max_missed_ticks:
            return f"{self._missed} commands in a row came more than a period late"
        # The robot's clock is compared with ours over its own steps only: a held simulator's time stands still.
        self._origin = (self._origin[0] + waited_s, self._origin[1])
        self._since_s, self._in_step = now_s, True
        return ""

    def after_step(self, robot_time_s: float) -> str:
        """A step returned; why the robot has to stop, or empty."""
        now_s, limit_s, since_s = self._clock.now_s(), self._watch.observation_timeout_s, self._since_s
        self._since_s, self._in_step = (None if since_s is None else now_s), False
        spent_s = now_s - (now_s if since_s is None else since_s)
        before_s, self._robot_time_s = self._robot_time_s, robot_time_s
        if robot_time_s < before_s:
            return f"the robot's clock went back by {before_s - robot_time_s:.3g} s"
        lag_s = (now_s - self._origin[0]) - (robot_time_s - self._origin[1])
        self._origin = (
            (now_s, robot_time_s) if lag_s < 0.0 else (self._origin[0] + CLOCK_SKEW * spent_s, self._origin[1])
        )
        if limit_s is not None and lag_s > limit_s:
            return f"the observation is {lag_s:.3g} s old"
        return ""

    def missed(self) -> bool:
        """Whether the next command is so late that the robot has to be held; not again until one comes."""
        since_s = self._since_s
        if self._hold_s is None or since_s is None or self._in_step or self._is_held:
            return False
        return self._clock.now_s() - since_s > self._hold_s

    def held(self) -> None:
        """The robot is at rest until the next command."""
        self._is_held = True

    def next_look_s(self) -> float:
        """Seconds until something may have been awaited for too long; infinite where nothing ever is."""
        watch, since_s, now_s = self._watch, self._since_s, self._clock.now_s()
        awaited = [(watch.step_timeout_s, self._in_step), (watch.command_timeout_s, not self._in_step)]
        if not self._is_held:
            awaited.append((self._hold_s, not self._in_step))
        waited_s = 0.0 if since_s is None else now_s - since_s
        left = [limit_s - waited_s * runs for limit_s, runs in awaited if limit_s is not None]
        return min(left, default=float("inf"))

    def overdue(self) -> str:
        """What has been awaited for too long, or empty."""
        since_s, in_step = self._since_s, self._in_step
        limit_s = self._watch.step_timeout_s if in_step else self._watch.command_timeout_s
        if since_s is None or limit_s is None or self._clock.now_s() - since_s <= limit_s:
            return ""
        return f"the robot's step did not return for {limit_s:g} s" if in_step else f"no command for {limit_s:g} s"
