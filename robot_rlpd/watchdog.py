"""A thread beside the loop that stops a robot whose commander or driver hangs."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from robot_rlpd.limits import SafetyLimits, Watch
from robot_rlpd.safety import SafeRobot

if TYPE_CHECKING:
    from robot_rlpd.robot import Robot

LONGEST_LOOK_S, SHORTEST_LOOK_S = 0.05, 0.001
DRIVEN = Watch(hold_after_ticks=1.0)
"""For whoever drives in real time: a command that is one period late is missing."""
AUTONOMOUS = Watch(hold_after_ticks=1.0, command_timeout_s=2.0, max_missed_ticks=10)
"""For a policy that drives by itself: one that hangs or never keeps up ends the episode."""


def watched(robot: Robot, watch: Watch) -> SafeRobot:
    """The robot within the filter, and watched from beside until it is closed."""
    safe = SafeRobot(robot, SafetyLimits(watch=watch))
    watch_beside(safe)
    return safe


def watch_beside(robot: SafeRobot) -> threading.Thread | None:
    """Watch until the robot is closed; None where nothing is awaited.

    Looks when something may be due, so that a missing command is noticed at once and a loop is disturbed little.
    """
    if robot.next_look_s() == math.inf:
        return None

    def look() -> None:
        while not robot.closed.wait(min(max(robot.next_look_s(), SHORTEST_LOOK_S), LONGEST_LOOK_S)):
            robot.watch()

    thread = threading.Thread(target=look, name=f"watchdog of {robot.spec.name}", daemon=True)
    thread.start()
    return thread
