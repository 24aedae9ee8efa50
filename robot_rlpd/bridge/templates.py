"""Headers of steps and replies, of which all but the numbers is encoded once, and known again when they arrive.

At control rates nothing stays in the processor's caches from one step to the next, and every function that need not be
called saves more than it takes when it is called in a loop.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec

from robot_rlpd.bridge.arrays import ArrayEntry, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from robot_rlpd.bridge.arrays import Buffer

_encode = msgspec.msgpack.Encoder().encode
FLOAT, TIME = b"\xcb", struct.Struct(">d")
"""How a msgpack float begins and goes on."""
SMALL_MAP = 0x80
"""First byte of a msgpack map of up to 15 keys, less their number."""


class Template:
    """Messages of one kind that differ in their sequence number, perhaps a time, and their arrays only.

    Args:
        constants: Keys and values that stay, `type` first. The sequence number follows them.
        layout: Of the arrays, whose table and packed bytes come last.
        time_key: Key of the time after the sequence number; empty where there is none.
    """

    def __init__(self, constants: Mapping[str, str], layout: Layout, time_key: str = "") -> None:
        size = len(constants) + 3 + bool(time_key)
        texts = [text for pair in constants.items() for text in pair]
        self._head = bytes([SMALL_MAP + size]) + b"".join(map(_encode, [*texts, "sequence"]))
        self._time = _encode(time_key) + FLOAT if time_key else b""
        packed = _encode(bytes(layout.packed_size))
        start = packed[: len(packed) - layout.packed_size]
        self._table = _encode("arrays") + bytes(layout.table) + _encode("packed") + start
        self._layout = layout

    def frames(self, sequence: int, arrays: Mapping[str, NDArray[Any]], time_s: float = 0.0) -> list[Buffer]:
        """The frames, the same as `wire` makes of the whole message."""
        parts = [self._head, _encode(sequence)]
        if self._time:
            parts += (self._time, TIME.pack(time_s))
        parts.append(self._table)
        for name, padding in self._layout.padding:
            parts += (arrays[name].tobytes(), padding)
        header = b"".join(parts)
        return [header, *self._layout.frames(arrays)] if self._layout.large else [header]

    def read(self, frames: Sequence[Buffer], sequence: int) -> tuple[float, dict[str, NDArray[Any]]] | None:
        """Time (0 where there is none) and arrays of such a message with this sequence number.

        None of any other, and of one that is written in another way: it has to be decoded.

        Raises:
            ProtocolError: The frames after the header are not those that its table names.
        """
        header = frames[0] if frames else b""
        start = self._head + _encode(sequence) + self._time
        at = len(start) + (TIME.size if self._time else 0)
        end = at + len(self._table)
        if not isinstance(header, bytes) or len(header) != end + self._layout.packed_size:
            return None
        if not (header.startswith(start) and header.startswith(self._table, at)):
            return None
        time_s: float = TIME.unpack_from(header, len(start))[0] if self._time else 0.0
        return time_s, self._layout.unpack(bytearray(header[end:]), frames[1:] if len(frames) > 1 else ())


def step_template(session: str, size: int) -> Template:
    """Of the steps of one session, with the array `action` of this size."""
    layout = Layout((ArrayEntry("action", "float32", (size,)),))
    return Template({"type": "step", "session": session}, layout)


def reply_template(layout: Layout) -> Template:
    """Of replies that bring nothing out of the ordinary: the robot's time and arrays."""
    return Template({"type": "reply"}, layout, "robot_time_s")
