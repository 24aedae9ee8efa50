"""The arrays of an episode store on disk, and the only file that knows zarr.

They grow first; then one atomic replacement of the root metadata states their new lengths, and readers trust only
those.
"""

from __future__ import annotations

import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
import zarr.storage

from robot_rlpd import chunk_files
from robot_rlpd.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from zarr.core.buffer import Buffer

CHUNK_BYTES = 2**20
COPY = "copy_of_the_root"
"""Attribute of the group `episodes`: what the root says of the store, in case its file is damaged."""
_LOADS = 10


class _SyncedStore(zarr.storage.LocalStore):
    """A local directory that remembers what was written, to bring it safely to the disk before a commit.

    Every file is written under a temporary name and renamed (by zarr itself).
    """

    unsynced: set[Path] | None = None
    _pool: ThreadPoolExecutor | None = None

    async def set(self, key: str, value: Buffer) -> None:
        await super().set(key, value)
        self.unsynced = (self.unsynced or set()) | {self.root / key}

    def sync(self) -> None:
        """Wait until the disk holds everything written since the last call."""
        written, self.unsynced = self.unsynced or set(), None
        # Together, so that the file system joins them; the threads stay, because to start them takes as long.
        self._pool = self._pool or ThreadPoolExecutor(max_workers=16, thread_name_prefix="sync")
        list(self._pool.map(_sync_file, written | {path.parent for path in written}))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class StoreArrays:
    """Named arrays that grow together; their committed lengths are in the attributes of the root group.

    Args:
        path: Local directory, or a URL to read from.
        format_name: What the attribute `format` has to say.
        versions: Versions that can be read.
        writable: Whether to write.
    """

    def __init__(self, path: str, *, format_name: str, versions: tuple[int, ...], writable: bool) -> None:
        self._path = path
        self._format = format_name
        self._versions = versions
        self._writable = writable
        self._store: zarr.storage.LocalStore | zarr.storage.FsspecStore
        self.attributes: dict[str, Any] = {}
        self.lengths: dict[str, int] = {}
        self._arrays: dict[str, zarr.Array[Any]] = {}
        if "://" not in path:
            self._store = (_SyncedStore if writable else zarr.storage.LocalStore)(Path(path), read_only=not writable)
            self.load()
            return
        try:
            self._store = zarr.storage.FsspecStore.from_url(path, read_only=True)
            self.load()
        except StoreError:
            raise
        except Exception as error:  # every file system behind a URL has errors of its own
            raise StoreError(f"cannot be read: {error}", field=path) from None

    def load(self) -> None:
        """Read the committed state.

        Raises:
            StoreError: Not such a store, of a version that cannot be read, or damaged.
        """
        for _ in range(_LOADS):
            self._inode = self._present_inode()
            self._load()
            if self._inode == self._present_inode():
                return
        raise StoreError("is being replaced all the time", field=self._path)

    def _load(self) -> None:
        mode: Literal["r+", "r"] = "r+" if self._writable else "r"
        try:
            self._group = zarr.open_group(self._store, mode=mode, zarr_format=3, use_consolidated=False)
            self.attributes = dict(self._group.attrs)
            if self.attributes.get("format") != self._format:
                raise StoreError("not an episode store", field=self._path)
            if self.attributes["version"] not in self._versions:
                raise StoreError(
                    "written by another version of this program",
                    field=f"{self._path}, version",
                    found=self.attributes["version"],
                    allowed=", ".join(map(str, self._versions)),
                )
            self.lengths = dict(self.attributes["committed"]["lengths"])
            with zarr.config.set({"array.write_empty_chunks": True}):  # a missing chunk is damage, never zeros
                self._arrays = {key: self._open_array(key) for key in self.lengths}
        except FileNotFoundError:
            raise StoreError("no such store" if not _exists(self._path) else "not a store", field=self._path) from None
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"damaged metadata: {error!r}", field=self._path) from None

    def _open_array(self, key: str) -> zarr.Array[Any]:
        array = self._group[key]
        if not isinstance(array, zarr.Array) or array.shape[0] < self.lengths[key]:
            raise StoreError("shorter than its committed length", field=f"{self._path}/{key}")
        return array

    def read(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` of one array.

        Raises:
            StoreError: There are no such rows, or they are damaged.
        """
        array = self._holding(key, start, stop)
        if not self._as_files:
            return np.asarray(array[start:stop])
        with self._the_same_store():
            return chunk_files.read_rows(Path(self._path, key), array.dtype, array.chunks, start, stop)

    def read_columns(self, key: str, start: int, stop: int, bounds: Mapping[str, slice]) -> dict[str, NDArray[Any]]:
        """Some columns of rows `start` to `stop` of a packed array, each `(rows, width)` and contiguous."""
        array = self._holding(key, start, stop)
        if not self._as_files:
            rows = np.asarray(array[start:stop])
            return {name: np.ascontiguousarray(rows[:, within]) for name, within in bounds.items()}
        with self._the_same_store():
            return chunk_files.read_columns(Path(self._path, key), array.dtype, array.chunks, start, stop, bounds)

    def _holding(self, key: str, start: int, stop: int) -> zarr.Array[Any]:
        """The array that has these rows; who asks may have them from a damaged index."""
        if not 0 <= start <= stop <= self.lengths[key]:
            found, allowed = f"rows {start} to {stop}", f"0 to {self.lengths[key]}"
            raise StoreError(
                "no such rows: the index is damaged", field=f"{self._path}/{key}", found=found, allowed=allowed
            )
        return self._arrays[key]

    def columns(self, key: str) -> Any:
        """The column list in the attributes of an array."""
        return self._arrays[key].attrs["columns"]

    def append(self, blocks: Mapping[str, NDArray[Any]], counts: Mapping[str, int]) -> None:
        """Add rows to some arrays, then commit."""
        try:
            for key, block in blocks.items():
                start = self.lengths[key]
                self._arrays[key].resize((start + len(block), *block.shape[1:]))
                if len(block):
                    self._arrays[key][start:] = block
            lengths = self.lengths | {key: self.lengths[key] + len(block) for key, block in blocks.items()}
            self._sync()
            committed = {**counts, "lengths": lengths}
            self._group.update_attributes({"committed": committed})
            self._sync()
        except OSError as error:
            raise StoreError(f"cannot write: {error.strerror}", field=self._path) from None
        self.lengths = lengths
        self.attributes["committed"] = committed

    def add(
        self,
        widths: Mapping[str, tuple[str, int | None]],
        columns: Mapping[str, Any],
        blocks: Mapping[str, NDArray[Any]],
        attributes: Mapping[str, Any],
    ) -> None:
        """Add arrays that are not there yet, with their rows, and change attributes of the root: one commit."""
        try:
            for key, (dtype, width) in widths.items():
                array = _make_array(self._group, key, dtype, width, columns.get(key))
                array.resize(blocks[key].shape)
                if len(blocks[key]):
                    array[:] = blocks[key]
            lengths = self.lengths | {key: len(block) for key, block in blocks.items()}
            self._sync()
            committed = {**self.attributes["committed"], "lengths": lengths}
            self._group.update_attributes({**attributes, "committed": committed})
            self._sync()
        except OSError as error:
            raise StoreError(f"cannot write: {error.strerror}", field=self._path) from None
        self.load()

    def truncate(self) -> None:
        """Cut off what was never committed."""
        for key, length in self.lengths.items():
            array = self._arrays[key]
            if array.shape[0] != length:
                array.resize((length, *array.shape[1:]))

    def _present_inode(self) -> int:
        try:
            return 0 if "://" in self._path else Path(self._path).stat().st_ino
        except OSError:
            return 0

    @contextlib.contextmanager
    def _the_same_store(self) -> Iterator[None]:
        """What is read inside comes from the directory whose metadata were read, and not from one put in its place."""
        damage: StoreError | None = None
        try:
            yield
        except StoreError as error:
            damage = error
        if self._present_inode() != self._inode:
            raise StoreError("was replaced meanwhile, by compacting it", field=self._path, hint="open it again")
        if damage is not None:
            raise damage

    @property
    def _as_files(self) -> bool:
        return "://" not in self._path and sys.byteorder == "little"

    def _sync(self) -> None:
        if isinstance(self._store, _SyncedStore):
            self._store.sync()


def _exists(path: str) -> bool:
    return "://" in path or Path(path).exists()


def make_arrays(
    directory: Path,
    widths: Mapping[str, tuple[str, int | None]],
    columns: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> None:
    """Make an empty store.

    Args:
        directory: Where; made here.
        widths: Dtype and width (None for one dimension) of every array by its path.
        columns: What the attribute `columns` of an array says, by its path.
        attributes: Attributes of the root; `committed` is added.
    """
    group = zarr.create_group(zarr.storage.LocalStore(directory), zarr_format=3)
    for key, (dtype, width) in widths.items():
        _make_array(group, key, dtype, width, columns.get(key))
    group.require_group("episodes").update_attributes({COPY: dict(attributes)})
    committed = {"episodes": 0, "rows": 0, "steps": 0, "lengths": dict.fromkeys(widths, 0)}
    group.update_attributes({**attributes, "committed": committed})


def _make_array(group: zarr.Group, key: str, dtype: str, width: int | None, columns: Any) -> zarr.Array[Any]:
    rows = max(1, CHUNK_BYTES // (np.dtype(dtype).itemsize * (width or 1)))
    with zarr.config.set({"array.write_empty_chunks": True}):
        return group.create_array(
            key,
            shape=(0,) if width is None else (0, width),
            chunks=(rows,) if width is None else (rows, width),
            dtype=dtype,
            compressors=None,
            filters=None,
            attributes={"columns": columns} if columns is not None else None,
            overwrite=True,
        )
