"""HDF5 files, with errors in one line."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from demos.converters import kept
from demos.converters.kept import KeptFile
from robot_rlpd.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open for reading.

    Raises:
        DataError: No such file, not HDF5, or truncated.
    """
    if not path.is_file():
        raise DataError("no such file", field=str(path))
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        what = "the file is truncated" if "truncated" in str(error) else "not a readable HDF5 file"
        raise DataError(f"{what} ({error})", field=str(path)) from None
    with file:
        try:
            yield file
        except (OSError, RuntimeError, KeyError) as error:  # what h5py raises wherever a damaged structure is touched
            raise DataError(f"damaged: {error}", field=path.name) from None


def dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """A dataset with one row per step.

    Raises:
        DataError: There is none of that name (lists those that exist), or it holds no numbers.
    """
    found = group.get(name)
    if not isinstance(found, h5py.Dataset) or not found.shape:
        raise DataError("no such dataset", field=where(group, name), allowed=", ".join(names(group)) or "none")
    if found.dtype.kind not in "biuf":
        raise DataError(field=where(group, name), found=f"dtype {found.dtype}", allowed="numbers")
    return found


def names(group: h5py.Group) -> list[str]:
    """Paths below `group` of all datasets that have rows."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape:
            found.append(name)

    group.visititems(visit)
    return found


def kept_file(file: h5py.File) -> KeptFile | None:
    """What an export of ours left in the file; None in a file of others.

    Raises:
        DataError: Damaged.
    """
    found = file.get(f"{kept.NAME}/file")
    if not isinstance(found, h5py.Dataset):
        return None
    return KeptFile.parse(found[()], where=Path(file.filename).name)


def rows(data: h5py.Dataset, start: int, stop: int, *, episode: int) -> NDArray[Any]:
    """Rows `start` to `stop`, which belong to one episode.

    Raises:
        DataError: Unreadable, or NaN or infinity among them; names dataset, episode and step.
    """
    named = f"{Path(data.file.filename).name}, {data.name.strip('/')}, episode {episode}"
    try:
        array: NDArray[Any] = data[start:stop]
    except (OSError, RuntimeError) as error:
        raise DataError(f"damaged: {error}", field=named) from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        step = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DataError(field=f"{named}, step {step}", found="NaN or infinity", allowed="finite numbers")
    return array


def where(group: h5py.Group, name: str = "") -> str:
    """Name of something in a file, for messages."""
    inside = f"{group.name}/{name}".strip("/")
    return f"{Path(group.file.filename).name}, {inside}"
