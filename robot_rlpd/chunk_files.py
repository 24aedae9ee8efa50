"""Reading rows of an uncompressed array straight from its chunk files, at the speed of the disk.

The zarr library copies every chunk twice and reads a missing one as zeros; this does neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.errors import StoreError

if TYPE_CHECKING:
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
    rows = chunk_shape[0]
    out = np.empty((stop - start, *chunk_shape[1:]), dtype)
    row_bytes = out.itemsize * (chunk_shape[1] if len(chunk_shape) == 2 else 1)
    flat = out.reshape(-1).view(np.uint8).data
    at = start
    while at < stop:
        chunk = at // rows
        until = min(stop, (chunk + 1) * rows)
        path = directory.joinpath("c", str(chunk), *("0" for _ in chunk_shape[1:]))
        part = flat[(at - start) * row_bytes : (until - start) * row_bytes]
        try:
            with path.open("rb", buffering=0) as file:
                file.seek((at - chunk * rows) * row_bytes)
                length = file.readinto(part)
        except OSError as error:
            raise StoreError(f"cannot read: {error.strerror}", field=str(path)) from None
        if length != len(part):
            raise StoreError("the file is cut short", field=str(path), found=f"{length} bytes", allowed=f"{len(part)}")
        at = until
    return out
