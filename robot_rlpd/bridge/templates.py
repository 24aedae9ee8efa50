"""Headers of steps and replies, of which all but the numbers is encoded once.

At control rates nothing stays in the processor's caches from one step to the next, and every function that need not be
called saves more than it takes when it is called in a loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from robot_rlpd.bridge.arrays import ArrayEntry, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from robot_rlpd.bridge.arrays import Buffer

_encode = msgspec.msgpack.Encoder().encode
SMALL_MAP = 0x80
"""First byte of a msgpack map of up to 15 keys, less their number."""


class Template:
    """Encodes messages of one kind that differ in their numbers and arrays only.

    Args:
        constants: Keys and values that stay, `type` first.
        numbers: Keys of the numbers, which follow them.
        layout: Of the arrays, whose table and packed bytes come last.
    """

    def __init__(self, constants: Mapping[str, str], numbers: tuple[str, ...], layout: Layout) -> None:
        head = bytes([SMALL_MAP + len(constants) + len(numbers) + 2])
        head += b"".join(_encode(text) for pair in constants.items() for text in pair)
        first, *others = numbers
        self._keys = (head + _encode(first), *map(_encode, others))
        packed = _encode(bytes(layout.packed_size))
        start = packed[: len(packed) - layout.packed_size]
        self._table = _encode("arrays") + bytes(layout.table) + _encode("packed") + start
        self._layout = layout

    def frames(self, numbers: tuple[float, ...], arrays: Mapping[str, NDArray[Any]]) -> list[Buffer]:
        """The frames, the same as `wire` makes of the whole message."""
        parts: list[bytes] = []
        for key, number in zip(self._keys, numbers, strict=True):
            parts += (key, _encode(number))
        parts.append(self._table)
        for name, padding in self._layout.padding:
            parts += (arrays[name].tobytes(), padding)
        header = b"".join(parts)
        return [header, *self._layout.frames(arrays)] if self._layout.large else [header]


def step_template(session: str, size: int) -> Template:
    """Of the steps of one session: the sequence number, and the array `action` of this size."""
    layout = Layout((ArrayEntry("action", "float32", (size,)),))
    return Template({"type": "step", "session": session}, ("sequence",), layout)


def reply_template(layout: Layout) -> Template:
    """Of replies that bring nothing out of the ordinary: the sequence number, the robot's time, and arrays."""
    return Template({"type": "reply"}, ("sequence", "robot_time_s"), layout)
