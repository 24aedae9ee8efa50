"""A thread beside the loop that stops a robot whose commander or driver hangs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robot_rlpd.limits import Watch
    from robot_rlpd.safety import SafeRobot

LONGEST_LOOK_S = 0.05


def look_interval_s(watch: Watch) -> float | None:
    """Seconds between two looks, or None where nothing is awaited."""
    timeouts = [t for t in (watch.command_timeout_s, watch.step_timeout_s) if t is not None]
    return min(LONGEST_LOOK_S, min(timeouts) / 4.0) if timeouts else None


def watch_beside(robot: SafeRobot, watch: Watch) -> threading.Thread | None:
    """Watch until the robot is closed; None where nothing is awaited."""
    interval_s = look_interval_s(watch)
    if interval_s is None:
        return None

    def look() -> None:
        while not robot.closed.wait(interval_s):
            robot.watch()

    thread = threading.Thread(target=look, name=f"watchdog of {robot.spec.name}", daemon=True)
    thread.start()
    return thread
