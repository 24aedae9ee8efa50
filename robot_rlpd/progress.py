"""A progress line on standard error: rewritten in place on a terminal, printed now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    Text = str | Callable[[], str]

TERMINAL_INTERVAL_S, FILE_INTERVAL_S = 0.5, 30.0
"""Least time between two lines [s]."""
RECENT_S = 60.0
"""Rate and time left are those of the last so many seconds [s]: training is slower than the random steps before it."""


class ProgressLine:
    """Shows one changing line: what is done of the total, the time left, the rate, and a text.

    On a terminal it fits the width: the last parts of the text, which ` | ` separates, are left out where there is no
    room. Elsewhere the first line comes only after `FILE_INTERVAL_S`: what is done by then needs none.

    Args:
        total: What counts as complete.
        unit: What is counted, for the rate, such as "steps"; without it no rate is shown.
        stream: Standard error by default.
    """

    def __init__(self, total: int, *, unit: str = "", stream: TextIO | None = None) -> None:
        self._total, self._unit = total, unit
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._interval_s = TERMINAL_INTERVAL_S if self._is_terminal else FILE_INTERVAL_S
        self._shown_s = -float("inf") if self._is_terminal else time.monotonic()
        self._samples = deque[tuple[float, int]]()
        self._waiting: tuple[int, Text] | None = None
        self._width = 0

    def update(self, done: int, text: Text = "", *, force: bool = False) -> None:
        """Show `done` and `text`, unless a line was shown just now; a function is called for its text only if shown."""
        now_s = time.monotonic()
        if not self._samples or now_s - self._samples[-1][0] >= 1.0:
            self._samples.append((now_s, done))
        while len(self._samples) > 1 and now_s - self._samples[1][0] >= RECENT_S:
            self._samples.popleft()
        self._waiting = (done, text)
        if force or now_s - self._shown_s >= self._interval_s:
            self._show(now_s, done, text)

    def close(self) -> None:
        """Show on a terminal what was not shown yet, and end the line."""
        if not self._is_terminal:
            return
        if self._waiting is not None:
            self._show(time.monotonic(), *self._waiting)
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0

    def _show(self, now_s: float, done: int, text: Text) -> None:
        self._shown_s, self._waiting = now_s, None
        parts = [f"{done}/{self._total}"]
        first_s, first = self._samples[0]
        rate = (done - first) / (now_s - first_s) if now_s > first_s else 0.0
        if rate > 0 and done < self._total:
            parts.append(f"{_hours((self._total - done) / rate)} left")
        if rate > 0 and self._unit:
            parts.append(f"{rate:.{0 if rate >= 10 else 1}f} {self._unit}/s")
        told = text if isinstance(text, str) else text()
        parts += [part for part in told.split(" | ") if part]
        if self._is_terminal:
            width = _columns(self._stream) - 1  # a character in the last column begins a new line on some terminals
            line = _fitted(parts, width)
            self._stream.write("\r" + line.ljust(min(self._width, width)))
            self._width = len(line)
        else:
            self._stream.write(" | ".join(parts) + "\n")
        self._stream.flush()


def _fitted(parts: list[str], width: int) -> str:
    while len(parts) > 1 and len(" | ".join(parts)) > width:
        parts = parts[:-1]
    return " | ".join(parts)[:width]


def _columns(stream: TextIO) -> int:
    """Of the stream's own terminal: standard output, which `shutil.get_terminal_size` asks, may be a file."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _hours(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
