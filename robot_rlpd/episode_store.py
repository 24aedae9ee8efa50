"""The one place on disk where experience is kept.

The layout is described in docs/store-format.md. An appended episode is wholly visible or not at all.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
import weakref
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec
import numpy as np

from robot_rlpd import spool, store_layout
from robot_rlpd.errors import StoreError
from robot_rlpd.images import JPEG_QUALITY
from robot_rlpd.specs import RobotSpec, from_builtins, to_builtins
from robot_rlpd.store_arrays import StoreArrays, make_arrays
from robot_rlpd.store_index import EpisodeIndex, StoredColumns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    from robot_rlpd.episode import Episode
    from robot_rlpd.store_index import StoredEpisode

FORMAT = "robot-rlpd-episodes"
VERSION = 1
_BATCH_BYTES = 64 * 2**20
_BATCH_EPISODES = 1000


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
            self._arrays = StoreArrays(path, format_name=FORMAT, versions=(VERSION,), writable=writable)
            self.spec = from_builtins(self._arrays.attributes["spec"], RobotSpec)
            self._layout = {
                key.removeprefix("steps/"): tuple(
                    msgspec.convert(column, store_layout.Column) for column in self._arrays.columns(key)
                )
                for key in self._arrays.lengths
                if key.startswith("steps/")
            }
            self._accepted_spec = self.spec
            self._index = EpisodeIndex(path)
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
        return len(self._index)

    def __contains__(self, episode_uuid: str) -> bool:
        return episode_uuid in self._index

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
        return list(self._index.episodes())

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
        stored = self._index.episodes()[index]
        packed, pixels = self._read_rows(stored.first_row, stored.end_row)
        return store_layout.unpack(self.spec, self._layout, packed, pixels, stored.num_steps, stored.info)

    def load_all(self) -> list[Episode]:
        """All episodes, each array read once; the episodes are views into them, images decoded in memory."""
        packed, pixels = self._read_rows(0, self._arrays.lengths["steps/float64"])
        episodes = []
        for stored in self._index.episodes():
            rows = slice(stored.first_row, stored.end_row)
            own = {dtype: block[rows] for dtype, block in packed.items()}
            own_pixels = {name: block[rows] for name, block in pixels.items()}
            episodes.append(
                store_layout.unpack(self.spec, self._layout, own, own_pixels, stored.num_steps, stored.info)
            )
        return episodes

    def load_columns(self, names: Collection[str] | None = None) -> StoredColumns:
        """Whole columns of all episodes, near the speed of reading the same bytes; images are not among them.

        Args:
            names: Such as "action" or "observation/cube_position"; default all.

        Raises:
            StoreError: No such column; lists those that exist.
        """
        known = [c.name for columns in self._layout.values() for c in columns]
        for name in names or ():
            if name not in known:
                raise StoreError("no such column", field=self.path, found=name, allowed=", ".join(known))
        rows = self._arrays.lengths["steps/float64"]
        values: dict[str, NDArray[Any]] = {}
        for dtype, columns in self._layout.items():
            wanted = [c for c in columns if names is None or c.name in names]
            if wanted:
                bounds = {c.name: slice(c.start, c.stop) for c in wanted}
                found = self._arrays.read_columns(f"steps/{dtype}", 0, rows, bounds)
                values |= {c.name: found[c.name].reshape(rows, *c.shape) for c in wanted}
        index = self._index
        return StoredColumns(
            values=values, first_rows=index.first_rows, num_steps=index.num_steps, end_rows=index.end_rows
        )

    def column(self, name: str) -> NDArray[Any]:
        """All rows of one column, such as "source" or "observation/cube_position"; see `StoredEpisode` for the rows.

        Raises:
            StoreError: No such column; lists those that exist.
        """
        return self.load_columns([name]).values[name]

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
        entries = self._arrays.read("episodes/index", len(self._index), lengths["episodes/index"])
        infos = self._arrays.read("episodes/info", self._index.info_end, lengths["episodes/info"])
        self._index.extend(entries, infos.tobytes())

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
    columns: dict[str, Any] = {
        f"steps/{dtype}": [to_builtins(asdict(column)) for column in columns]
        for dtype, columns in store_layout.make_layout(spec).items()
    }
    columns["episodes/index"] = list(store_layout.INDEX_COLUMNS)
    attributes = {
        "format": FORMAT,
        "version": VERSION,
        "spec": to_builtins(spec),
        "fingerprint": spec.fingerprint,
        "jpeg_quality": jpeg_quality,
    }
    make_arrays(directory, store_layout.array_widths(spec), columns, attributes)


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
