from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from robot_rlpd import progress
from robot_rlpd.progress import FILE_INTERVAL_S, RECENT_S, ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Each state of the line."""
        return self.getvalue().removesuffix("\n").split("\r")[1:]


class Time:
    """Stands still until it is moved."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(progress, "time", time)
    monkeypatch.delenv("COLUMNS", raising=False)
    return time


def test_a_terminal_shows_one_line_that_changes(time: Time) -> None:
    stream = Terminal()
    line = ProgressLine(10, stream=stream)
    line.update(0, "a rather long beginning")
    line.update(1, "too soon")
    time.now_s += 2.0
    line.update(4, "go")
    line.close()
    line.close()
    first, second = stream.lines()
    assert first == "0/10 | a rather long beginning"
    assert second.rstrip() == "4/10 | 0:00:03 left | go"
    assert len(second) == len(first)
    assert stream.getvalue().count("\n") == 1


def test_the_end_is_shown_though_it_comes_soon_and_has_no_time_left(time: Time) -> None:
    stream = Terminal()
    line = ProgressLine(2, stream=stream)
    line.update(1, "one")
    time.now_s += 0.1
    line.update(2, "two")
    line.close()
    assert stream.lines() == ["1/2 | one", "2/2 | two"]


def test_a_file_gets_a_line_now_and_then_and_none_for_what_is_done_at_once(time: Time) -> None:
    stream = io.StringIO()
    line = ProgressLine(1000, unit="steps", stream=stream)
    for done in range(1, 101):
        line.update(done, "x")
        time.now_s += 1.0
    line.close()
    shown = stream.getvalue().splitlines()
    assert FILE_INTERVAL_S == 30.0
    assert [text.split("/")[0] for text in shown] == ["31", "61", "91"]
    assert shown[0] == "31/1000 | 0:16:09 left | 1.0 steps/s | x"


def test_the_time_left_is_told_from_the_recent_rate(time: Time) -> None:
    stream = Terminal()
    line = ProgressLine(100_000, unit="steps", stream=stream)
    done = 0
    for steps_per_s, seconds in ((500, 100), (20, RECENT_S)):
        for _ in range(int(seconds)):
            line.update(done)
            time.now_s += 1.0
            done += steps_per_s
    line.update(done)
    left_s = (100_000 - 500 * 100 - 20 * 60) // 20
    minutes, seconds = divmod(left_s, 60)
    expected = f"51200/100000 | 0:{minutes:02d}:{seconds:02d} left | 20 steps/s"
    assert stream.lines()[-1].rstrip() == expected


@pytest.mark.parametrize(("columns", "shown"), [(80, 3), (64, 3), (63, 2), (46, 2), (45, 1), (36, 1), (35, 0)])
def test_a_narrow_terminal_loses_the_last_parts_and_never_wraps(
    columns: int, shown: int, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    line = ProgressLine(1000, stream=stream)
    line.update(0, "wide " * 30)
    time.now_s += 10.0
    line.update(100, "solved 17 | Q -12.3 | evaluated 20/20")
    first, second = stream.lines()
    assert max(len(first), len(second)) < columns
    parts = ["100/1000", "0:01:30 left", "solved 17", "Q -12.3", "evaluated 20/20"]
    assert second.rstrip() == " | ".join(parts[: 2 + shown])


def test_a_terminal_too_narrow_for_the_counts_gets_their_beginning(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "8")
    stream = Terminal()
    ProgressLine(100_000, stream=stream).update(12_345, "text")
    assert stream.lines() == ["12345/1"]


def test_the_width_is_that_of_the_terminal_itself(time: Time) -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
    with os.fdopen(follower, "w") as stream:
        line = ProgressLine(1000, stream=stream)
        line.update(1, "short | another part")
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
        time.now_s += 1.0
        line.update(1, "short | another part")
        line.close()
        seen = ""
        while not seen.endswith("\n"):  # a terminal hands over what it has by now
            seen += os.read(leader, 1000).decode()
    os.close(leader)
    assert seen == "\r1/1000 | short\r1/1000 | short | another part\r\n"


def test_a_text_that_is_a_function_is_made_only_where_it_is_shown(time: Time) -> None:
    stream, made = Terminal(), []

    def text() -> str:
        made.append(time.now_s)
        return "made"

    line = ProgressLine(100, stream=stream)
    for done in range(10):
        line.update(done, text)
        time.now_s += 0.125
    assert made == [100.0, 100.5, 101.0]
    assert stream.lines()[0] == "0/100 | made"


def test_a_line_can_be_forced(time: Time) -> None:
    stream = io.StringIO()
    line = ProgressLine(7200, stream=stream)
    line.update(0, "start", force=True)
    time.now_s += 1.0
    line.update(1, "next", force=True)
    assert stream.getvalue().splitlines() == ["0/7200 | start", "1/7200 | 1:59:59 left | next"]


def test_nothing_is_shown_without_an_update() -> None:
    stream = Terminal()
    ProgressLine(1, stream=stream).close()
    assert stream.getvalue() == ""
