"""HDF5 files written piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 2**20


def append(group: h5py.Group, name: str, rows: NDArray[Any]) -> None:
    """Add rows to a dataset that grows; it is made by the first of them."""
    if name not in group:
        row_bytes = max(1, rows[:1].nbytes)
        chunks = (max(1, min(CHUNK_BYTES // row_bytes, 2**16)), *rows.shape[1:])
        maxshape = (None, *rows.shape[1:])
        group.create_dataset(name, data=rows, maxshape=maxshape, chunks=chunks, **_compression(rows))
        return
    data = group[name]
    start = len(data)
    data.resize(start + len(rows), axis=0)
    data[start:] = rows


def put(group: h5py.Group, name: str, rows: NDArray[Any]) -> None:
    """Write a dataset whole."""
    group.create_dataset(name, data=rows, **_compression(rows))


def append_texts(group: h5py.Group, name: str, texts: list[str]) -> None:
    """Add strings to a dataset of them."""
    if name not in group:
        group.create_dataset(name, shape=(0,), maxshape=(None,), dtype=h5py.string_dtype())
    data = group[name]
    data.resize(len(data) + len(texts), axis=0)
    data[len(data) - len(texts) :] = np.array(texts, dtype=object)


def _compression(rows: NDArray[Any]) -> dict[str, Any]:
    """Images are compressed without loss: rendered ones shrink several times."""
    is_image = rows.dtype == np.uint8 and rows.ndim == 4
    return {"compression": "gzip", "compression_opts": 1} if is_image else {}
