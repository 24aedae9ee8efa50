"""Reading rows of an uncompressed array straight from its chunk files, at the speed of the disk.

The zarr library copies every chunk twice and reads a missing one as zeros; this does neither.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray


def read_rows(directory: Path, dtype: DTypeLike, chunk_shape: tuple[int, ...], start: int, stop: int) -> NDArray[Any]:
    """Rows `start` to `stop` of an array of one or two dimensions that is chunked along its first only.

    Args:
        directory: Directory of the zarr array.
        dtype: Its type, in this machine's byte order (which has to be little-endian).
        chunk_shape: Shape of one chunk; chunks are stored whole, the last one padded.
        start: First row.
        stop: Row after the last.

    Raises:
        StoreError: A chunk is missing, short or unreadable; names its file.
    """
    out = np.empty((stop - start, *chunk_shape[1:]), dtype)
    for at, until in _parts(start, stop, chunk_shape[0]):
        _read_part(directory, chunk_shape, at, out[at - start : until - start])
    return out


def read_columns(
    directory: Path,
    dtype: DTypeLike,
    chunk_shape: tuple[int, ...],
    start: int,
    stop: int,
    bounds: Mapping[str, slice],
) -> dict[str, NDArray[Any]]:
    """Like `read_rows` for an array of two dimensions, but some of its columns, each an array of its own.

    Rows are spread over the columns chunk by chunk, while they are in the processor's cache.

    Args:
        directory: Directory of the zarr array.
        dtype: Its type.
        chunk_shape: Shape of one chunk.
        start: First row.
        stop: Row after the last.
        bounds: Where each column lies in a row.

    Returns:
        One contiguous `(stop - start, width)` array per entry of `bounds`.
    """
    out = {name: np.empty((stop - start, within.stop - within.start), dtype) for name, within in bounds.items()}
    buffer = np.empty(chunk_shape, dtype)
    for at, until in _parts(start, stop, chunk_shape[0]):
        part = buffer[: until - at]
        _read_part(directory, chunk_shape, at, part)
        for name, within in bounds.items():
            out[name][at - start : until - start] = part[:, within]
    return out


def read_surviving(
    directory: Path, dtype: DTypeLike, chunk_shape: tuple[int, ...], start: int, stop: int
) -> NDArray[Any]:
    """Like `read_rows`, but of damaged files as many whole rows from `start` on as are there."""
    found = []
    for at, until in _parts(start, stop, chunk_shape[0]):
        path, offset = _place(directory, chunk_shape, at)
        row_bytes = np.dtype(dtype).itemsize * math.prod(chunk_shape[1:])
        try:
            with path.open("rb") as file:
                file.seek(offset * row_bytes)
                data = file.read((until - at) * row_bytes)
        except OSError:
            data = b""
        whole = len(data) // row_bytes
        found.append(np.frombuffer(data[: whole * row_bytes], dtype).reshape(whole, *chunk_shape[1:]))
        if whole < until - at:
            break
    return np.concatenate([np.empty((0, *chunk_shape[1:]), dtype), *found])


def _parts(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """First row and row after the last of what lies in each chunk."""
    at = start
    while at < stop:
        until = min(stop, (at // rows + 1) * rows)
        yield at, until
        at = until


def _read_part(directory: Path, chunk_shape: tuple[int, ...], row: int, into: NDArray[Any]) -> None:
    """Fill `into` with the rows from `row` on, all in one chunk."""
    path, offset = _place(directory, chunk_shape, row)
    flat = into.reshape(-1).view(np.uint8).data
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset * (flat.nbytes // len(into)))
            length = file.readinto(flat)
    except OSError as error:
        raise StoreError(f"cannot read: {error.strerror}", field=str(path)) from None
    if length != len(flat):
        raise StoreError("the file is cut short", field=str(path), found=f"{length} bytes", allowed=f"{len(flat)}")


def _place(directory: Path, chunk_shape: tuple[int, ...], row: int) -> tuple[Path, int]:
    """File of the chunk that holds a row, and the row's place in it."""
    chunk, offset = divmod(row, chunk_shape[0])
    return directory.joinpath("c", str(chunk), *("0" for _ in chunk_shape[1:])), offset
