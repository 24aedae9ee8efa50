from __future__ import annotations

import io

import pytest

from demos.recording.state import RecorderState
from demos.recording.state_line import FILE_PERIOD_S, StateLine, describe
from robot_rlpd.clock import ManualClock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def state(**changes: object) -> RecorderState:
    values = {"phase": "recording", "kept": 2, "target": 20, "steps": 124, "seconds": 12.4, "rate_hz": 9.96}
    return RecorderState(**{**values, "control_rate_hz": 10.0, "disk_free_bytes": 5 * 10**9, **changes})  # type: ignore[arg-type]


def test_the_line_says_all_that_an_operator_has_to_see() -> None:
    assert describe(state(late_ticks=3, dropped_frames=1)) == [
        "● REC",
        "episode 3 of 20",
        "12.4 s, 124 steps",
        "10.0 of 10 Hz",
        "3 late",
        "1 dropped",
        "5.0 GB left",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"phase": "waiting", "told": "kept as success"}, "kept as success | Enter begins"),
        ({"phase": "done", "kept": 20}, "20 of 20 kept | Enter ends"),
        ({"target": 10**9}, "● REC | 2 kept"),
        ({"disk_free_bytes": 10**9}, "1.0 GB left LOW"),
        ({"phase": "paused"}, "PAUSED | episode 3 of 20"),
    ],
)
def test_the_line_says_what_comes_next(changes: dict[str, object], told: str) -> None:
    assert told in " | ".join(describe(state(**changes)))


def test_a_terminal_sees_a_change_at_once_and_never_more_than_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    terminal = Terminal()
    line = StateLine(ManualClock(), terminal)
    line.show(state(phase="waiting"))
    line.show(state())
    line.show(state(steps=125))  # too soon after
    line.close()
    shown = terminal.getvalue().split("\r\x1b[K")[1:]
    assert ["WAITING" in shown[0], "● REC" in shown[1], len(shown)] == [True, True, 2]
    for text in shown:
        bare = text.replace("\x1b[1;31m", "").replace("\x1b[33m", "").replace("\x1b[0m", "").rstrip("\n")
        assert len(bare) < 50


def test_a_file_gets_a_line_now_and_then() -> None:
    clock, file = ManualClock(), io.StringIO()
    line = StateLine(clock, file)
    for _ in range(100):
        clock.advance(FILE_PERIOD_S / 40)
        line.show(state())
    line.close()
    assert file.getvalue().count("\n") == 2
