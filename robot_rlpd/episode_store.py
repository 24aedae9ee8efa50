"""The one place on disk where experience is kept, and the only file that knows zarr.

The layout is described in docs/store-format.md. An appended episode is wholly visible or not at all: the arrays grow
first, then one atomic replacement of the root metadata states their new lengths, and readers trust only those.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import uuid
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec
import numpy as np
import zarr
import zarr.storage

from robot_rlpd import chunk_files, spool, store_layout
from robot_rlpd.episode import Episode, EpisodeInfo
from robot_rlpd.errors import StoreError
from robot_rlpd.images import JPEG_QUALITY
from robot_rlpd.specs import RobotSpec, from_builtins, to_builtins

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from numpy.typing import NDArray
    from zarr.core.buffer import Buffer

FORMAT = "robot-rlpd-episodes"
VERSION = 1
CHUNK_BYTES = 2**20
_BATCH_BYTES = 64 * 2**20
_BATCH_EPISODES = 1000


class _SyncedStore(zarr.storage.LocalStore):
    """A local directory that remembers what was written, to bring it safely to the disk before a commit.

    Every file is written under a temporary name and renamed (by zarr itself).
    """

    unsynced: set[Path] | None = None

    async def set(self, key: str, value: Buffer) -> None:
        await super().set(key, value)
        self.unsynced = (self.unsynced or set()) | {self.root / key}

    def sync(self) -> None:
        """Wait until the disk holds everything written since the last call."""
        written, self.unsynced = self.unsynced or set(), None
        with ThreadPoolExecutor(max_workers=16) as pool:  # together, so that the file system joins them
            list(pool.map(_sync_file, written | {path.parent for path in written}))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Arrays:
    """Named arrays that grow together; their committed lengths are in the attributes of the root group."""

    def __init__(self, path: str, *, writable: bool) -> None:
        self._path = path
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
        """Read the committed state."""
        mode: Literal["r+", "r"] = "r+" if self._writable else "r"
        try:
            self._group = zarr.open_group(self._store, mode=mode, zarr_format=3, use_consolidated=False)
            self.attributes = dict(self._group.attrs)
            if self.attributes.get("format") != FORMAT:
                raise StoreError("not an episode store", field=self._path)
            if self.attributes["version"] != VERSION:
                raise StoreError(
                    "written by another version of this program",
                    field=f"{self._path}, version",
                    found=self.attributes["version"],
                    allowed=str(VERSION),
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
        """Rows `start` to `stop` of one array."""
        array = self._arrays[key]
        if "://" not in self._path and sys.byteorder == "little":
            return chunk_files.read_rows(Path(self._path, key), array.dtype, array.chunks, start, stop)
        return np.asarray(array[start:stop])

    def columns(self, key: str) -> Any:
        """The column list in the attributes of an array."""
        return self._arrays[key].attrs["columns"]

    def append(self, blocks: Mapping[str, NDArray[Any]], counts: Mapping[str, int]) -> None:
        """Add rows to every array, then commit."""
        try:
            for key, block in blocks.items():
                start = self.lengths[key]
                self._arrays[key].resize((start + len(block), *block.shape[1:]))
                if len(block):
                    self._arrays[key][start:] = block
            lengths = {key: self.lengths[key] + len(block) for key, block in blocks.items()}
            self._sync()
            committed = {**counts, "lengths": lengths}
            self._group.update_attributes({"committed": committed})
            self._sync()
        except OSError as error:
            raise StoreError(f"cannot write: {error.strerror}", field=self._path) from None
        self.lengths = lengths
        self.attributes["committed"] = committed

    def truncate(self) -> None:
        """Cut off what was never committed."""
        for key, length in self.lengths.items():
            array = self._arrays[key]
            if array.shape[0] != length:
                array.resize((length, *array.shape[1:]))

    def _sync(self) -> None:
        if isinstance(self._store, _SyncedStore):
            self._store.sync()


def _exists(path: str) -> bool:
    return "://" in path or Path(path).exists()


@dataclass(frozen=True, kw_only=True)
class StoredEpisode:
    """What the index of a store says about one episode.

    Attributes:
        info: Everything that is not an array.
        num_steps: Number of steps T.
        first_row: First of its rows in the packed arrays.
        end_row: Row after its last.
    """

    info: EpisodeInfo
    num_steps: int
    first_row: int
    end_row: int

    @property
    def has_final_observation(self) -> bool:
        """Whether the observation after the last action exists."""
        return self.end_row - self.first_row == self.num_steps + 1


class EpisodeStore:
    """Episodes in a directory: one writer, any number of readers, also while the writer writes.

    Get one from `create` or `open`; use it as a context manager. Used from one thread. Errors are `StoreError`.

    Attributes:
        path: Local path or URL.
        spec: Spec of the robot.
        writable: Whether this is the one writer.
    """

    def __init__(self, path: str, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._unlock = weakref.finalize(self, os.close, _lock(path)) if writable else None
        try:
            self._arrays = _Arrays(path, writable=writable)
            self.spec = from_builtins(self._arrays.attributes["spec"], RobotSpec)
            self._layout = {
                key.removeprefix("steps/"): tuple(
                    msgspec.convert(column, store_layout.Column) for column in self._arrays.columns(key)
                )
                for key in self._arrays.lengths
                if key.startswith("steps/")
            }
            self._accepted_spec = self.spec
            self._stored: list[StoredEpisode] = []
            self._uuids: set[str] = set()
            self._load_index()
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(
        cls, path: str | Path, spec: RobotSpec, *, exist_ok: bool = False, jpeg_quality: int = JPEG_QUALITY
    ) -> Self:
        """Make an empty store and open it for writing.

        Args:
            path: Local directory that does not exist yet.
            spec: Spec of the robot.
            exist_ok: Open an existing store of the same spec instead.
            jpeg_quality: 1 to 100.

        Raises:
            StoreError: It exists already.
            MismatchError: It exists with another spec.
        """
        path = Path(path)
        if path.exists():
            if exist_ok:
                return cls.open(path, "a", spec=spec)
            raise StoreError("exists already", field=str(path), hint="choose another name, or say that it may exist")
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            _make_tree(temporary, spec, jpeg_quality)
            temporary.rename(path)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise StoreError(f"cannot create: {error.strerror}", field=str(path)) from None
        return cls.open(path, "a")

    @classmethod
    def open(
        cls,
        path: str | Path,
        mode: Literal["r", "a"] = "r",
        *,
        spec: RobotSpec | None = None,
        recover_interrupted: bool = True,
    ) -> Self:
        """Open a store.

        Args:
            path: Local directory; for reading also any fsspec URL.
            mode: "r" to read; "a" to append, which cuts off what was never committed and recovers episodes that were
                running when an earlier writer died.
            spec: Refuse a store of another spec.
            recover_interrupted: Whether "a" recovers such episodes; False forgets them, because they are run again.

        Raises:
            StoreError: Not a store, of another version, damaged, or written by someone else at the moment.
            MismatchError: The spec differs; names the field.
        """
        store = cls(str(path), writable=mode == "a")
        try:
            if spec is not None:
                store_layout.check_spec(spec, store.spec, who=f"store {path}")
            if store.writable:
                store._arrays.truncate()
                if not recover_interrupted:
                    spool.forget(store)
                spool.recover(store)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Let another process write."""
        if self._unlock is not None:
            self._unlock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, episode_uuid: str) -> bool:
        return episode_uuid in self._uuids

    def __iter__(self) -> Iterator[Episode]:
        for index in range(len(self)):
            yield self.read(index)

    @property
    def version(self) -> int:
        """Version of the format on disk."""
        return int(self._arrays.attributes["version"])

    @property
    def num_steps(self) -> int:
        """Steps of all episodes."""
        return int(self._arrays.attributes["committed"]["steps"])

    @property
    def spool_directory(self) -> Path:
        """Where episodes lie while they run."""
        return Path(self.path + "-spool")

    def infos(self) -> list[StoredEpisode]:
        """The index: one entry per episode, in the order of writing; reads no columns."""
        return list(self._stored)

    def append(self, episode: Episode) -> bool:
        """Store an episode; when this returns it survives a loss of power.

        Returns:
            False if an episode with this UUID is stored already; nothing is changed then.

        Raises:
            DataError: NaN, infinity or a wrong shape; names field and step.
            MismatchError: The episode has another spec.
        """
        return self.extend([episode]) == 1

    def extend(self, episodes: Iterable[Episode]) -> int:
        """Store many episodes, committing in batches of about 64 MB.

        Returns:
            How many were new.
        """
        added, size = 0, 0
        batch: dict[str, Episode] = {}
        for episode in episodes:
            if episode.info.uuid in self or episode.info.uuid in batch:
                continue
            if episode.spec is not self._accepted_spec:
                store_layout.check_spec(self.spec, episode.spec, who=f"episode {episode.info.uuid}")
                self._accepted_spec = episode.spec
            store_layout.check_episode(episode)
            batch[episode.info.uuid] = episode
            size += sum(array.nbytes for array in episode.observations.values())
            if size > _BATCH_BYTES or len(batch) == _BATCH_EPISODES:
                added += self._write(list(batch.values()))
                batch, size = {}, 0
        return added + self._write(list(batch.values()))

    def read(self, index: int) -> Episode:
        """One episode; images are decoded.

        Raises:
            IndexError: No such episode.
            StoreError: Its data are damaged or missing.
        """
        stored = self._stored[index]
        packed, pixels = self._read_rows(stored.first_row, stored.end_row)
        return store_layout.unpack(self.spec, self._layout, packed, pixels, stored.num_steps, stored.info)

    def load_all(self) -> list[Episode]:
        """All episodes, each array read once; the episodes are views into them, images decoded in memory."""
        packed, pixels = self._read_rows(0, self._arrays.lengths["steps/float64"])
        episodes = []
        for stored in self._stored:
            rows = slice(stored.first_row, stored.end_row)
            own = {dtype: block[rows] for dtype, block in packed.items()}
            own_pixels = {name: block[rows] for name, block in pixels.items()}
            episodes.append(
                store_layout.unpack(self.spec, self._layout, own, own_pixels, stored.num_steps, stored.info)
            )
        return episodes

    def column(self, name: str) -> NDArray[Any]:
        """All rows of one column, such as "source" or "observation/cube_position"; see `StoredEpisode` for the rows.

        Raises:
            StoreError: No such column; lists those that exist.
        """
        for dtype, columns in self._layout.items():
            for c in columns:
                if c.name == name:
                    block = self._arrays.read(f"steps/{dtype}", 0, self._arrays.lengths[f"steps/{dtype}"])
                    return block[:, c.start : c.stop].reshape(len(block), *c.shape)
        known = ", ".join(c.name for columns in self._layout.values() for c in columns)
        raise StoreError("no such column", field=self.path, found=name, allowed=known)

    def refresh(self) -> int:
        """See what another process has appended meanwhile; returns the number of new episodes."""
        before = len(self)
        if not self.writable:
            self._arrays.load()
            self._load_index()
        return len(self) - before

    def _write(self, episodes: list[Episode]) -> int:
        if not self.writable:
            raise StoreError("opened for reading only", field=self.path)
        if self._unlock is None or not self._unlock.alive:
            raise StoreError("closed", field=self.path)
        if not episodes:
            return 0
        arrays = self._arrays
        quality = arrays.attributes["jpeg_quality"]
        blocks = store_layout.encode_batch(episodes, self.spec, self._layout, arrays.lengths, quality)
        committed = {
            "episodes": len(self) + len(episodes),
            "rows": int(blocks["episodes/index"][-1, 0]),
            "steps": self.num_steps + sum(len(episode) for episode in episodes),
        }
        arrays.append(blocks, committed)
        self._load_index()
        return len(episodes)

    def _load_index(self) -> None:
        lengths = self._arrays.lengths
        known = len(self._stored)
        index = self._arrays.read("episodes/index", max(0, known - 1), lengths["episodes/index"]).tolist()
        row, _, at = index.pop(0) if known else (0, 0, 0)
        base = at
        data = self._arrays.read("episodes/info", base, lengths["episodes/info"]).tobytes()
        decoder = msgspec.json.Decoder(EpisodeInfo)
        try:
            for end_row, num_steps, info_end in index:
                info = decoder.decode(data[at - base : info_end - base])
                self._stored.append(StoredEpisode(info=info, num_steps=num_steps, first_row=row, end_row=end_row))
                self._uuids.add(info.uuid)
                row, at = end_row, info_end
        except msgspec.MsgspecError as error:
            raise StoreError(f"damaged index: {error}", field=f"{self.path}, episode {len(self)}") from None

    def _read_rows(self, start: int, stop: int) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.uint8]]]:
        packed = {dtype: self._arrays.read(f"steps/{dtype}", start, stop) for dtype in self._layout}
        pixels = {}
        for field in store_layout.image_fields(self.spec):
            ends = self._arrays.read(f"images/{field.name}/ends", max(0, start - 1), stop)
            base, ends = (ends[0], ends[1:]) if start else (np.int64(0), ends)
            data = self._arrays.read(f"images/{field.name}/jpeg", int(base), int(ends[-1]) if len(ends) else int(base))
            pixels[field.name] = store_layout.decode_images(data, ends - base, field)
        return packed, pixels


def _make_tree(directory: Path, spec: RobotSpec, jpeg_quality: int) -> None:
    layout = store_layout.make_layout(spec)
    widths = store_layout.array_widths(spec)
    columns: dict[str, Any] = {
        f"steps/{dtype}": [to_builtins(asdict(column)) for column in columns] for dtype, columns in layout.items()
    }
    columns["episodes/index"] = list(store_layout.INDEX_COLUMNS)
    group = zarr.create_group(zarr.storage.LocalStore(directory), zarr_format=3)
    for key, (dtype, width) in widths.items():
        rows = max(1, CHUNK_BYTES // (np.dtype(dtype).itemsize * (width or 1)))
        group.create_array(
            key,
            shape=(0,) if width is None else (0, width),
            chunks=(rows,) if width is None else (rows, width),
            dtype=dtype,
            compressors=None,
            filters=None,
            attributes={"columns": columns[key]} if key in columns else None,
        )
    group.update_attributes(
        {
            "format": FORMAT,
            "version": VERSION,
            "spec": to_builtins(spec),
            "fingerprint": spec.fingerprint,
            "jpeg_quality": jpeg_quality,
            "committed": {"episodes": 0, "rows": 0, "steps": 0, "lengths": dict.fromkeys(widths, 0)},
        }
    )


def _lock(path: str) -> int:
    """Take the writer's lock on the directory itself; it goes with the process, however that ends."""
    if "://" in path:
        raise StoreError("a URL can only be read", field=path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        what = "no such store" if isinstance(error, FileNotFoundError) else f"cannot open: {error.strerror}"
        raise StoreError(what, field=path) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        busy = isinstance(error, BlockingIOError)
        what = "another process is writing to it" if busy else f"cannot be locked: {error.strerror}"
        raise StoreError(what, field=path, hint="wait for it, or open the store for reading" if busy else "") from None
    return descriptor
