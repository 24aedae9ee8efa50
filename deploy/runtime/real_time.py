"""What keeps a loop regular: real-time scheduling, waiting to the microsecond, little for the garbage collector."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from typing import TYPE_CHECKING

from robot_rlpd.clock import MonotonicClock
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

SPIN_S = 300e-6
"""Longer than a sleeping thread usually takes to wake up."""


class SpinningClock(MonotonicClock):
    """Sleeps until shortly before the deadline, then looks at the clock until it is there."""

    def sleep_until_s(self, deadline_s: float) -> None:
        """Wait for the deadline; the last 300 microseconds take a whole core."""
        super().sleep_until_s(deadline_s - SPIN_S)
        while time.monotonic() < deadline_s:
            pass


@contextlib.contextmanager
def real_time_priority(priority: int | None) -> Iterator[None]:
    """Run this thread under SCHED_FIFO; None leaves the scheduling alone.

    Args:
        priority: 1 to 99; higher ones run first.

    Raises:
        ConfigError: This user may not do that, or this system cannot.
    """
    if priority is None:
        yield
        return
    if not hasattr(os, "sched_setscheduler"):
        raise ConfigError("this system has no real-time scheduling", field="real_time_priority", found=priority)
    before, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError:
        raise ConfigError(
            "not permitted",
            field="real_time_priority",
            found=priority,
            hint="raise the limit rtprio of this user (ulimit -r), or run the systemd unit of docs/robot-computer.md",
        ) from None
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, parameters)


@contextlib.contextmanager
def loaded_objects_frozen() -> Iterator[None]:
    """The garbage collector does not look again at what is loaded by now, which can take longer than a period."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
