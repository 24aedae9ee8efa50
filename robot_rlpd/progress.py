"""A progress line on standard error: rewritten in place on a terminal, printed now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class ProgressLine:
    """Shows one changing line.

    Args:
        total: What counts as complete.
        stream: Standard error by default.
        interval_s: Least time between two lines on a terminal; elsewhere lines come twenty times less often, and
            the first only after such a time: what is done by then needs none.
    """

    def __init__(self, total: int, *, stream: TextIO | None = None, interval_s: float = 0.5) -> None:
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._interval_s = interval_s if self._is_terminal else 20 * interval_s
        self._started_s = time.monotonic()
        self._first: int | None = None
        self._shown_s = -float("inf") if self._is_terminal else time.monotonic()
        self._width = 0

    def update(self, done: int, text: str, *, force: bool = False) -> None:
        """Show `done` of the total, the time left and `text`, unless a line was shown just now."""
        now_s = time.monotonic()
        if self._first is None:
            self._first, self._started_s = done, now_s
        if not force and now_s - self._shown_s < self._interval_s:
            return
        self._shown_s = now_s
        elapsed_s = now_s - self._started_s
        rate = (done - self._first) / elapsed_s if elapsed_s > 0 else 0.0
        left = f"{_minutes((self._total - done) / rate)} left" if rate > 0 and done < self._total else ""
        line = " | ".join(part for part in (f"{done}/{self._total}", text, left) if part)
        if self._is_terminal:
            self._stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def close(self) -> None:
        """End the line."""
        if self._is_terminal and self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
