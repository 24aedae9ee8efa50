"""The state of a recording session as one line of a terminal, always there."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from demos.recording.state import Phase, RecorderState
    from robot_rlpd.clock import Clock

TERMINAL_PERIOD_S, FILE_PERIOD_S = 0.2, 30.0
"""Least time between two lines that say the same phase [s]."""
LOW_DISK_BYTES = 2 * 10**9
MANY = 10**6
"""A larger target is none."""
MARKS: dict[Phase, tuple[str, str]] = {
    "waiting": ("WAITING", "\x1b[33m"),
    "resetting": ("RESETTING", "\x1b[33m"),
    "recording": ("● REC", "\x1b[1;31m"),
    "paused": ("PAUSED", "\x1b[1;33m"),
    "done": ("ENOUGH", "\x1b[32m"),
}
NEXT: dict[Phase, str] = {"waiting": "Enter begins", "done": "Enter ends, z undoes the last"}
_PLAIN = "\x1b[0m"


class StateLine:
    """Rewrites one line on a terminal; elsewhere prints one now and then.

    Args:
        clock: Decides how often.
        stream: Standard error by default.
    """

    def __init__(self, clock: Clock, stream: TextIO | None = None) -> None:
        self._clock = clock
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._period_s = TERMINAL_PERIOD_S if self._is_terminal else FILE_PERIOD_S
        self._shown_s = -float("inf") if self._is_terminal else clock.now_s()
        self._shown: tuple[Phase, str] | None = None

    def show(self, state: RecorderState) -> None:
        """Show the state, unless it was shown just now."""
        now_s = self._clock.now_s()
        changed = self._is_terminal and self._shown != (state.phase, state.told)
        if not changed and now_s - self._shown_s < self._period_s:
            return
        self._shown_s, self._shown = now_s, (state.phase, state.told)
        if not self._is_terminal:
            self._stream.write(" | ".join(describe(state)) + "\n")
        else:
            mark, *rest = describe(state)
            width = shutil.get_terminal_size().columns - 1
            while rest and len(" | ".join([mark, *rest])) > width:
                rest.pop()
            color = MARKS[state.phase][1]
            text = " | ".join([f"{color}{mark}{_PLAIN}", *rest])
            self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()

    def close(self) -> None:
        """End the line."""
        if self._is_terminal and self._shown is not None:
            self._stream.write("\n")
            self._stream.flush()


def describe(state: RecorderState) -> list[str]:
    """The parts of the line, the most important first."""
    parts = [MARKS[state.phase][0], _episodes(state)]
    if state.phase in ("recording", "paused"):
        parts.append(f"{state.seconds:.1f} s, {state.steps} steps")
        if state.rate_hz is not None:
            parts.append(f"{state.rate_hz:.1f} of {state.control_rate_hz:g} Hz")
    if state.missing_cameras:
        parts.insert(
            1, "NO IMAGE " + ", ".join(f"{name} {gone_s:.1f} s" for name, gone_s in state.missing_cameras.items())
        )
    if state.phase not in ("recording", "paused"):
        parts += [text for text in (state.told, NEXT.get(state.phase, "")) if text]
    parts.append(f"{state.late_ticks} late")
    parts.append(f"{state.dropped_frames} dropped")
    if state.disk_free_bytes is not None:
        low = " LOW" if state.disk_free_bytes < LOW_DISK_BYTES else ""
        parts.append(f"{state.disk_free_bytes / 1e9:.1f} GB left{low}")
    return parts


def _episodes(state: RecorderState) -> str:
    if state.target > MANY:
        return f"{state.kept} kept"
    if state.phase == "done" or state.kept >= state.target:
        return f"{state.kept} of {state.target} kept"
    return f"episode {state.kept + 1} of {state.target}"
