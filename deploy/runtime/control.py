"""Pause, resume and stop of a run, from any thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from robot_rlpd.errors import RobotRlpdError

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_S = 0.1
"""How often a paused run asks whether a signal came."""


class StoppedError(RobotRlpdError):
    """Somebody asked for the end of the run while it was paused between episodes."""


class RunControl:
    """Hand one to `drive`, and call these from a button, another thread, or a program around it.

    Args:
        asked_to_stop: Asked too, such as whether a signal came.
    """

    def __init__(self, asked_to_stop: Callable[[], bool] = lambda: False) -> None:
        self._asked_to_stop = asked_to_stop
        self._stop = threading.Event()
        self._running = threading.Event()
        self._running.set()

    @property
    def paused(self) -> bool:
        """Whether the robot is held where it is."""
        return not self._running.is_set()

    @property
    def stopped(self) -> bool:
        """Whether the end was asked for."""
        return self._stop.is_set() or self._asked_to_stop()

    def pause(self) -> None:
        """Hold the robot where it is, from the next control step on; between episodes, do not reset it."""
        if not self.stopped:
            self._running.clear()

    def resume(self) -> None:
        """Go on, with the actions ramped in."""
        self._running.set()

    def toggle(self) -> None:
        """Pause, or resume."""
        (self.resume if self.paused else self.pause)()

    def stop(self) -> None:
        """End the run after the control step that is running; the robot is stopped."""
        self._stop.set()
        self._running.set()

    def wait_while_paused(self) -> None:
        """Block until resumed.

        Raises:
            StoppedError: The end was asked for instead.
        """
        while not self._running.wait(LOOK_S) and not self.stopped:
            pass
        if self.stopped:
            raise StoppedError("stopped while paused")
