"""The one place on disk where experience is kept.

The layout is described in docs/store-format.md. An appended episode is wholly visible or not at all.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec
import numpy as np

from robot_rlpd import spool, store_layout
from robot_rlpd.errors import StoreError
from robot_rlpd.images import JPEG_QUALITY, ImageCodec
from robot_rlpd.specs import RobotSpec, from_builtins
from robot_rlpd.store_codec import EncodedEpisode, EncodedImages, decode_episode, encode_episode, join
from robot_rlpd.store_edits import Edit, decode_edits, encode_edits
from robot_rlpd.store_format import codec_of, make_store, open_arrays, upgrade
from robot_rlpd.store_index import EpisodeIndex, StoredColumns
from robot_rlpd.store_lock import lock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    from robot_rlpd.episode import Episode
    from robot_rlpd.store_index import StoredEpisode

BATCH_BYTES = 64 * 2**20
BATCH_EPISODES = 1000


class EpisodeStore:
    """Episodes in a directory: one writer, any number of readers, also while the writer writes.

    Get one from `create` or `open`; use it as a context manager. Used from one thread. Errors are `StoreError`.
    Episodes are seen as their edits left them (`editing.py`).

    Attributes:
        path: Local path or URL.
        spec: Spec of the robot.
        codec: How its images are kept.
        writable: Whether this is the one writer.
    """

    def __init__(self, path: str, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._unlock = weakref.finalize(self, os.close, lock(path)) if writable else None
        try:
            self._arrays = open_arrays(path, writable=writable)
            if writable:
                upgrade(self._arrays)
            self.spec = from_builtins(self._arrays.attributes["spec"], RobotSpec)
            self.codec = codec_of(self._arrays.attributes)
            self._layout = {
                key.removeprefix("steps/"): tuple(
                    msgspec.convert(column, store_layout.Column) for column in self._arrays.columns(key)
                )
                for key in self._arrays.lengths
                if key.startswith("steps/")
            }
            self._accepted_spec = self.spec
            self._index = EpisodeIndex(path)
            self._edits_end = 0
            self._load_index()
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(
        cls,
        path: str | Path,
        spec: RobotSpec,
        *,
        exist_ok: bool = False,
        jpeg_quality: int = JPEG_QUALITY,
        lossless: bool = False,
    ) -> Self:
        """Make an empty store and open it for writing.

        Args:
            path: Local directory that does not exist yet.
            spec: Spec of the robot.
            exist_ok: Open an existing store of the same spec instead.
            jpeg_quality: 1 to 100.
            lossless: Keep images exactly, in several times the space of JPEG.

        Raises:
            StoreError: It exists already.
            MismatchError: It exists with another spec.
            ConfigError: No such quality.
        """
        path = Path(path)
        codec = ImageCodec(name="zstd" if lossless else "jpeg", quality=jpeg_quality)
        if path.exists():
            if exist_ok:
                return cls.open(path, "a", spec=spec)
            raise StoreError("exists already", field=str(path), hint="choose another name, or say that it may exist")
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            make_store(temporary, spec, codec)
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
                running when an earlier writer died. A store of an older version is upgraded.
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
        """Whether such an episode was ever stored; a deleted one counts until the store is compacted."""
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
        return int(self._index.num_steps.sum())

    @property
    def edits(self) -> list[Edit]:
        """Everything that was trimmed, relabelled, deleted and undone, in order."""
        return list(self._index.edits)

    @property
    def spool_directory(self) -> Path:
        """Where episodes lie while they run."""
        return Path(self.path + "-spool")

    def infos(self) -> list[StoredEpisode]:
        """The index: one entry per episode, in the order of writing; reads no columns."""
        return list(self._index.episodes())

    def recorded(self) -> list[StoredEpisode]:
        """The index as if nothing had been edited: deleted episodes too, nothing trimmed or relabelled."""
        return self._index.recorded()

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

        def encoded() -> Iterator[EncodedEpisode]:
            offered: set[str] = set()
            for episode in episodes:
                if episode.info.uuid in self or episode.info.uuid in offered:
                    continue
                offered.add(episode.info.uuid)
                if episode.spec is not self._accepted_spec:
                    store_layout.check_spec(self.spec, episode.spec, who=f"episode {episode.info.uuid}")
                    self._accepted_spec = episode.spec
                store_layout.check_episode(episode)
                yield encode_episode(episode, self._layout, self.codec)

        return self.extend_encoded(encoded())

    def extend_encoded(self, episodes: Iterable[EncodedEpisode]) -> int:
        """Store episodes that come out of another store of the same spec and image codec, without coding them anew.

        Returns:
            How many were new.
        """
        added, size = 0, 0
        batch: dict[str, EncodedEpisode] = {}
        for episode in episodes:
            if episode.info.uuid in self or episode.info.uuid in batch:
                continue
            batch[episode.info.uuid] = episode
            size += episode.nbytes
            if size > BATCH_BYTES or len(batch) == BATCH_EPISODES:
                added += self._write(list(batch.values()))
                batch, size = {}, 0
        return added + self._write(list(batch.values()))

    def add_edit(self, kind: Literal["trim", "relabel", "delete", "undo"], **what: Any) -> Edit:
        """Add a line to the log of edits and commit it; `editing.py` knows which lines make sense."""
        self._check_writable()
        edit = Edit(number=len(self._index.edits) + 1, kind=kind, unix_s=time.time(), **what)
        self._commit({"edits/log": np.frombuffer(encode_edits([edit]), np.uint8)}, {})
        return edit

    def take_over_edits(self, edits: Iterable[Edit]) -> None:
        """Put a whole log of edits into a store that has none."""
        self._check_writable()
        self._commit({"edits/log": np.frombuffer(encode_edits(edits), np.uint8)}, {})

    def read(self, index: int) -> Episode:
        """One episode; images are decoded.

        Raises:
            IndexError: No such episode.
            StoreError: Its data are damaged or missing.
        """
        return self.decode(self.read_encoded(self._index.episodes()[index]))

    def read_encoded(self, stored: StoredEpisode) -> EncodedEpisode:
        """One episode of `infos()` or `recorded()` as it lies on the disk."""
        first, end = stored.first_row, stored.end_row
        packed = {dtype: self._arrays.read(f"steps/{dtype}", first, end) for dtype in self._layout}
        images = {
            field.name: self._read_images(field.name, stored, packed) for field in store_layout.image_fields(self.spec)
        }
        return EncodedEpisode(info=stored.info, num_steps=stored.num_steps, packed=packed, images=images)

    def decode(self, encoded: EncodedEpisode) -> Episode:
        """The episode in what `read_encoded` found."""
        return decode_episode(encoded, self.spec, self._layout, self.codec)

    def load_all(self) -> list[Episode]:
        """All episodes, their columns read at once; the episodes are views into them, images decoded in memory.

        Raises:
            StoreError: The index or the data are damaged.
        """
        rows = self._arrays.lengths["steps/float64"]
        self._index.require_rows(rows)
        packed = {dtype: self._arrays.read(f"steps/{dtype}", 0, rows) for dtype in self._layout}
        fields = [field.name for field in store_layout.image_fields(self.spec)]
        episodes = []
        for stored in self._index.episodes():
            own = {dtype: block[stored.first_row : stored.end_row] for dtype, block in packed.items()}
            images = {name: self._read_images(name, stored, own) for name in fields}
            encoded = EncodedEpisode(info=stored.info, num_steps=stored.num_steps, packed=own, images=images)
            episodes.append(self.decode(encoded))
        return episodes

    def load_columns(self, names: Collection[str] | None = None) -> StoredColumns:
        """Whole columns of all episodes, near the speed of reading the same bytes; images are not among them.

        Args:
            names: Such as "action" or "observation/cube_position"; default all.

        Raises:
            StoreError: No such column, and lists those that exist; or the index or the data are damaged.
        """
        known = [c.name for columns in self._layout.values() for c in columns]
        for name in names or ():
            if name not in known:
                raise StoreError("no such column", field=self.path, found=name, allowed=", ".join(known))
        rows = self._arrays.lengths["steps/float64"]
        self._index.require_rows(rows)
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

    def frames(self, camera: str) -> NDArray[np.float64]:
        """When each image of a camera was taken, and whether it was dropped: all rows `(N, 3)`, `FRAME_COLUMNS`.

        Raises:
            StoreError: No such camera; lists those that exist.
        """
        cameras = [field.name for field in store_layout.image_fields(self.spec)]
        if camera not in cameras:
            raise StoreError("no such camera", field=self.path, found=camera, allowed=", ".join(cameras) or "none")
        rows = self._arrays.lengths["steps/float64"]
        packed = {"float64": self._arrays.read("steps/float64", 0, rows)}
        return self._read_frames(camera, 0, rows, packed)

    def checksums(self) -> NDArray[np.int64] | None:
        """Of all recorded episodes `(E, 5)` with `CHECK_COLUMNS`; None in a store of version 1."""
        if "episodes/check" not in self._arrays.lengths:
            return None
        return self._arrays.read("episodes/check", 0, self._arrays.lengths["episodes/check"])

    def info_bytes(self, number: int) -> bytes:
        """The JSON of a recorded episode's info, as it lies on the disk."""
        bounds = self._arrays.read("episodes/index", max(0, number - 1), number + 1)[:, 2].tolist()
        start = bounds[0] if number else 0
        return self._arrays.read("episodes/info", start, bounds[-1]).tobytes()

    def refresh(self) -> int:
        """See what another process has appended or edited meanwhile; returns by how many episodes there are more."""
        before = len(self)
        if not self.writable:
            identity = self._arrays.attributes.get("identity")
            self._arrays.load()
            if self._arrays.attributes.get("identity") != identity:
                self._index, self._edits_end = EpisodeIndex(self.path), 0
            self._load_index()
        return len(self) - before

    def _write(self, episodes: list[EncodedEpisode]) -> int:
        self._check_writable()
        if not episodes:
            return 0
        blocks = join(episodes, self._arrays.lengths, self.codec)
        committed = self._arrays.attributes["committed"]
        counts = {
            "episodes": committed["episodes"] + len(episodes),
            "rows": int(blocks["episodes/index"][-1, 0]),
            "steps": committed["steps"] + sum(episode.num_steps for episode in episodes),
        }
        self._commit(blocks, counts)
        return len(episodes)

    def _check_writable(self) -> None:
        if not self.writable:
            raise StoreError("opened for reading only", field=self.path)
        if self._unlock is None or not self._unlock.alive:
            raise StoreError("closed", field=self.path)

    def _commit(self, blocks: dict[str, NDArray[Any]], counts: dict[str, int]) -> None:
        committed = {name: value for name, value in self._arrays.attributes["committed"].items() if name != "lengths"}
        self._arrays.append(blocks, committed | counts)
        self._load_index()

    def _load_index(self) -> None:
        lengths, index = self._arrays.lengths, self._index
        entries = self._arrays.read("episodes/index", index.num_recorded, lengths["episodes/index"])
        infos = self._arrays.read("episodes/info", index.info_end, lengths["episodes/info"])
        edits_end = lengths.get("edits/log", 0)
        log = self._arrays.read("edits/log", self._edits_end, edits_end).tobytes() if edits_end else b""
        self._edits_end = edits_end
        index.extend(entries, infos.tobytes(), decode_edits(log, where=self.path))

    def _read_images(self, field: str, stored: StoredEpisode, packed: dict[str, NDArray[Any]]) -> EncodedImages:
        first, end = stored.first_row, stored.end_row
        earlier = stored.recorded_first_row
        ends = self._arrays.read(f"images/{field}/ends", max(0, earlier - 1), end)
        ends = ends if earlier else np.concatenate([np.zeros(1, np.int64), ends])
        own = ends[first - earlier :]
        begins = int(own[0])
        if len(own) > 1 and own[1] == own[0]:  # trimmed in the midst of dropped frames: the one before them stays
            begins = int(ends[np.searchsorted(ends, begins) - 1])
        data = self._arrays.read(f"images/{field}/{self.codec.name}", begins, int(own[-1]))
        return EncodedImages(data=data, ends=own[1:] - begins, frames=self._read_frames(field, first, end, packed))

    def _read_frames(self, field: str, first: int, end: int, packed: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
        if f"images/{field}/frames" in self._arrays.lengths:
            return self._arrays.read(f"images/{field}/frames", first, end)
        times = store_layout.unpack({"float64": self._layout["float64"]}, packed, end - first)
        return np.stack([times["robot_time_s"], times["wall_time_s"], np.zeros(end - first)], axis=1)
