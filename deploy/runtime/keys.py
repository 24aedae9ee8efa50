"""The keyboard of the terminal as a control panel for a run."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.runtime.control import RunControl

LOOK_S = 0.1
HELP = "keys: p or space pauses and resumes, q stops"


def press(key: str, control: RunControl) -> None:
    """What a key does; others do nothing."""
    if key in ("p", " "):
        control.toggle()
        sys.stderr.write("paused\n" if control.paused else "resumed\n")
    elif key == "q":
        control.stop()


@contextlib.contextmanager
def keys_control(control: RunControl, descriptor: int | None = None) -> Iterator[bool]:
    """Listen to the keyboard of the terminal, if there is one.

    Args:
        control: Is told.
        descriptor: Of a terminal; default standard input.

    Yields:
        Whether a keyboard is listened to.
    """
    descriptor = _standard_input() if descriptor is None else descriptor
    if descriptor is None or not os.isatty(descriptor):
        yield False
        return
    before, ended = termios.tcgetattr(descriptor), threading.Event()

    def listen() -> None:
        while not ended.is_set():
            if select.select([descriptor], [], [], LOOK_S)[0]:
                read = os.read(descriptor, 1)
                if not read:
                    return
                press(read.decode(errors="replace"), control)

    thread = threading.Thread(target=listen, name="keyboard", daemon=True)
    tty.setcbreak(descriptor, termios.TCSANOW)
    try:
        thread.start()
        yield True
    finally:
        ended.set()
        thread.join(2 * LOOK_S)
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _standard_input() -> int | None:
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return None
