from __future__ import annotations

import os
import pty
import termios
import threading
from typing import TYPE_CHECKING

import pytest

from deploy.runtime.control import RunControl
from deploy.runtime.keys import keys_control, press

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("key", ["p", " "])
def test_a_key_pauses_and_the_same_key_resumes_and_it_is_told(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    control = RunControl()
    press(key, control)
    assert control.paused
    press(key, control)
    assert not control.paused
    assert capsys.readouterr().err == "paused\nresumed\n"


def test_q_stops_and_other_keys_do_nothing() -> None:
    control = RunControl()
    for key in "xyz\x1b":
        press(key, control)
    assert (control.paused, control.stopped) == (False, False)
    press("q", control)
    assert control.stopped


def test_a_terminal_is_listened_to_and_left_as_it_was() -> None:
    stopped = threading.Event()

    class Told(RunControl):
        def stop(self) -> None:
            super().stop()
            stopped.set()

    control = Told()
    keyboard, terminal = pty.openpty()
    try:
        before = termios.tcgetattr(terminal)
        with keys_control(control, terminal) as listening:
            assert listening
            os.write(keyboard, b"pq")
            assert stopped.wait(60.0)
        assert termios.tcgetattr(terminal) == before
    finally:
        os.close(keyboard)
        os.close(terminal)


def test_without_a_terminal_nobody_listens(tmp_path: Path) -> None:
    with (tmp_path / "input").open("w+b") as file, keys_control(RunControl(), file.fileno()) as listening:
        assert not listening
    with keys_control(RunControl()) as listening:  # pytest's own standard input
        assert not listening
