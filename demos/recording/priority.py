"""Real-time priority for the control loop, so that other work on the machine does not delay it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIORITY = 10
"""SCHED_FIFO, 1 to 99: above everything ordinary, below the kernel's own threads."""


@contextlib.contextmanager
def real_time_priority() -> Iterator[None]:
    """SCHED_FIFO for the calling thread; threads and processes that it starts have ordinary priority.

    Raises:
        ConfigError: It is not permitted.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
    except PermissionError:
        raise ConfigError(
            "this user may not ask for real-time priority",
            field="real_time",
            hint="allow it in /etc/security/limits.d, such as '@robot - rtprio 20', or leave the option out",
        ) from None
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
