"""How named arrays travel: a table in the header, small arrays packed there too, each large one in its own frame."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from robot_rlpd.errors import ProtocolError
from robot_rlpd.specs import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview
"""One frame: to be sent, or as it was received."""

PACKED_BYTES = 4096
"""Arrays up to this size are packed into the header: a frame costs more than copying so few bytes."""
MAX_ARRAYS = 256
MAX_DIMENSIONS = 8
MAX_ARRAY_BYTES = 64 * 1024 * 1024
ALIGNMENT = 8
"""Every packed array starts at a multiple of this many bytes."""
NO_ARRAYS = msgspec.Raw(b"\x90")
"""The empty table."""


class ArrayEntry(msgspec.Struct, array_like=True, frozen=True):
    """One row of the table: `[name, dtype, [shape]]`; little-endian, C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def check(self) -> None:
        """Refuse what cannot or must not be an array.

        Raises:
            ProtocolError: Naming the array and what is allowed.
        """
        field = f"arrays.{self.name[:80]}"
        if self.dtype not in DTYPES:
            raise ProtocolError(field=field, found=f"dtype {self.dtype[:40]}", allowed=", ".join(DTYPES))
        if len(self.shape) > MAX_DIMENSIONS or any(n < 0 for n in self.shape):
            raise ProtocolError(field=field, found=f"shape {self.shape[:16]}", allowed=f"up to {MAX_DIMENSIONS} axes")
        if self.size_bytes > MAX_ARRAY_BYTES:
            raise ProtocolError(field=field, found=f"{self.size_bytes} B", allowed=f"up to {MAX_ARRAY_BYTES} B")


class Layout:
    """Where each array of one table lies among the packed bytes and in the frames after the header.

    Robots send the same table at every step, so layouts are made once and remembered.

    Attributes:
        entries: The rows of the table.
        table: Encoded.
        large: Name, dtype, shape and bytes of each array that has a frame of its own.
        packed: Name, dtype, shape and start of each array among the packed bytes.
        packed_size: How many bytes those are.
        padding: Names of the packed arrays, and the zeros after each.
    """

    def __init__(self, entries: tuple[ArrayEntry, ...]) -> None:
        if len(entries) > MAX_ARRAYS or len({e.name for e in entries}) != len(entries):
            raise ProtocolError(field="arrays", found=f"{len(entries)}", allowed=f"up to {MAX_ARRAYS}, different names")
        self.entries = entries
        self.table = msgspec.Raw(msgspec.msgpack.encode(entries))
        self.large: list[tuple[str, np.dtype[Any], tuple[int, ...], int]] = []
        self.packed: list[tuple[str, np.dtype[Any], tuple[int, ...], int]] = []
        self.packed_size = 0
        self.padding: list[tuple[str, bytes]] = []
        # A byte other than 0 and 1 would make an invalid bool: they are read as numbers first.
        self._bools = [entry.name for entry in entries if entry.dtype == "bool"]
        for entry in entries:
            entry.check()
            dtype = np.dtype("uint8" if entry.dtype == "bool" else entry.dtype).newbyteorder("<")
            size = entry.size_bytes
            if size > PACKED_BYTES:
                self.large.append((entry.name, dtype, entry.shape, size))
            else:
                start = self.packed_size
                self.packed.append((entry.name, dtype, entry.shape, start))
                self.packed_size = -(-(start + size) // ALIGNMENT) * ALIGNMENT
                self.padding.append((entry.name, bytes(self.packed_size - start - size)))

    def pack(self, arrays: Mapping[str, NDArray[Any]]) -> bytearray:
        """The small arrays."""
        return bytearray().join([part for name, padding in self.padding for part in (arrays[name].tobytes(), padding)])

    def frames(self, arrays: Mapping[str, NDArray[Any]]) -> list[Buffer]:
        """The frames after the header, one for each large array; not copied here."""
        return [np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data for name, _, _, _ in self.large]

    def unpack(self, packed: bytearray, frames: Sequence[Buffer]) -> dict[str, NDArray[Any]]:
        """Arrays by name in table order; they are writable, belong to the caller, and share the memory of `packed`.

        Raises:
            ProtocolError: The frames are not as many or not as long as the table says.
        """
        if len(packed) != self.packed_size:
            raise ProtocolError(field="packed", found=f"{len(packed)} B", allowed=f"{self.packed_size} B")
        arrays: dict[str, NDArray[Any]] = {}
        for name, dtype, shape, start in self.packed:
            arrays[name] = np.ndarray(shape, dtype, packed, start)
        if frames or self.large:
            arrays |= self._unpack_large(frames)
            arrays = {entry.name: arrays[entry.name] for entry in self.entries}
        for name in self._bools:
            arrays[name] = arrays[name].astype(np.bool_)
        return arrays

    def _unpack_large(self, frames: Sequence[Buffer]) -> dict[str, NDArray[Any]]:
        sizes = [size for _, _, _, size in self.large]
        if [len(frame) for frame in frames] != sizes:
            found = f"{[len(f) for f in frames][:16]} B"
            raise ProtocolError(field="frames", found=found, allowed=f"{sizes[:16]} B")
        return {
            name: np.ndarray(shape, dtype, bytearray(frame) if isinstance(frame, bytes) else frame)
            for (name, dtype, shape, _), frame in zip(self.large, frames, strict=True)
        }


@functools.lru_cache(maxsize=64)
def _layout_of(key: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]) -> Layout:
    for name, dtype, _ in key:
        if not dtype.isnative:
            raise ProtocolError(field=f"arrays.{name}", found=f"dtype {dtype.str}", allowed="native byte order")
    return Layout(tuple(ArrayEntry(name, dtype.name, shape) for name, dtype, shape in key))


def layout_of(arrays: Mapping[str, NDArray[Any]]) -> Layout:
    """The layout of these arrays.

    Raises:
        ProtocolError: An array that must not be sent (object dtype, too large).
    """
    return _layout_of(tuple([(name, array.dtype, array.shape) for name, array in arrays.items()]))


@functools.lru_cache(maxsize=64)
def _parsed(table: bytes) -> Layout:
    try:
        return Layout(msgspec.msgpack.decode(table, type=tuple[ArrayEntry, ...]))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"not a table of arrays: {error}", field="arrays") from None


def parse_layout(table: msgspec.Raw) -> Layout:
    """The layout that a received table describes.

    Raises:
        ProtocolError: The table is malformed or exceeds a limit.
    """
    return _parsed(bytes(table))
