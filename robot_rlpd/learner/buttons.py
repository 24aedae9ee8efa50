"""The buttons of a device, for several who listen to some of them each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Buttons:
    """Keeps what was asked for until somebody takes it.

    Args:
        poll: What was asked for since the last call, each once; never blocks.
    """

    def __init__(self, poll: Callable[[], list[str]]) -> None:
        self._poll = poll
        self._waiting: list[str] = []

    def take(self, *names: str) -> list[str]:
        """Those of `names` that were asked for, in order, each once."""
        self._waiting += self._poll()
        taken = [name for name in self._waiting if name in names]
        self._waiting = [name for name in self._waiting if name not in names]
        return taken

    def pressed(self, name: str) -> bool:
        """Whether it was asked for and not taken; it stays."""
        self._waiting += self._poll()
        return name in self._waiting

    def forget(self, *names: str) -> None:
        """What was asked for of `names` is too old."""
        self.take(*names)


def buttons_of(device: Any) -> Buttons | None:
    """Those of a device; None where it has none."""
    return Buttons(device.poll) if hasattr(device, "poll") else None
