from __future__ import annotations

import io

import pytest

from robot_rlpd import progress
from robot_rlpd.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Time:
    """Stands still until it is moved."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(progress, "time", time)
    return time


def test_a_terminal_shows_one_line_that_changes(time: Time) -> None:
    stream = Terminal()
    line = ProgressLine(10, stream=stream, interval_s=0.5)
    line.update(0, "a long beginning")
    line.update(1, "too soon")
    time.now_s += 2.0
    line.update(4, "go")
    line.close()
    line.close()
    first, second = stream.getvalue().removesuffix("\n").split("\r")[1:]
    assert first == "0/10 | a long beginning"
    assert second.rstrip() == "4/10 | go | 0:03 left"
    assert len(second) == len(first)
    assert stream.getvalue().count("\n") == 1


def test_a_file_gets_a_line_now_and_then_and_none_for_what_is_done_at_once(time: Time) -> None:
    stream = io.StringIO()
    line = ProgressLine(100, stream=stream, interval_s=0.5)
    for done in range(1, 41):
        line.update(done, "x")
        time.now_s += 1.0
    line.close()
    shown = stream.getvalue().splitlines()
    assert [text.split("/")[0] for text in shown] == ["11", "21", "31"]
    assert shown[0] == "11/100 | x | 1:29 left"


def test_the_end_has_no_time_left(time: Time) -> None:
    stream = Terminal()
    line = ProgressLine(2, stream=stream)
    line.update(1, "")
    time.now_s += 1.0
    line.update(2, "")
    assert stream.getvalue().endswith("\r2/2")


def test_a_line_can_be_forced(time: Time) -> None:
    stream = io.StringIO()
    line = ProgressLine(7200, stream=stream)
    line.update(0, "start", force=True)
    time.now_s += 1.0
    line.update(1, "next", force=True)
    assert stream.getvalue().splitlines() == ["0/7200 | start", "1/7200 | next | 1:59:59 left"]


def test_nothing_is_shown_without_an_update() -> None:
    stream = Terminal()
    ProgressLine(1, stream=stream).close()
    assert stream.getvalue() == ""
