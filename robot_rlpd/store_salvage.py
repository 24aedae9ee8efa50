"""Reads what is left of a store whose files are damaged, without trusting any of them."""

from __future__ import annotations

import json
import uuid
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from robot_rlpd import chunk_files, store_layout
from robot_rlpd.episode import Ended, EpisodeInfo
from robot_rlpd.errors import RobotRlpdError, StoreError
from robot_rlpd.frames import FRAME_COLUMNS
from robot_rlpd.specs import RobotSpec, from_builtins
from robot_rlpd.store_arrays import COPY
from robot_rlpd.store_codec import EncodedEpisode, EncodedImages, decode_episode
from robot_rlpd.store_edits import Edit
from robot_rlpd.store_format import FORMAT, READABLE, codec_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_NAMESPACE = uuid.UUID("0e3bfa3c-3b35-5a58-9b0e-9d4ad1a2f6a1")


@dataclass(frozen=True, kw_only=True)
class Salvaged:
    """What is left of one episode.

    Attributes:
        number: Its position among all that were recorded.
        episode: What can be read; None if nothing can.
        recorded_steps: How many steps it had, as far as that is known.
        problem: What is wrong, empty if nothing.
    """

    number: int
    episode: EncodedEpisode | None
    recorded_steps: int
    problem: str


class DamagedStore:
    """A store of which any file may be cut, changed or missing.

    Raises:
        StoreError: Nothing says what the store held: both copies of that are lost.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        attributes = self._attributes()
        self.spec: RobotSpec = from_builtins(attributes["spec"], RobotSpec)
        self.codec = codec_of(attributes)
        self._identity = attributes.get("identity", str(path))
        self._layout = store_layout.make_layout(self.spec)
        self._widths = store_layout.array_widths(self.spec, self.codec)
        committed = attributes.get("committed", {})
        self._lengths: dict[str, int] = dict(committed.get("lengths", {}))
        self._is_counted = bool(self._lengths)

    def episodes(self) -> Iterator[Salvaged]:
        """Every recorded episode, as far as it can be found."""
        start = np.zeros(3, np.int64)
        number = 0
        while number < self._lengths.get("episodes/index", 2**62):
            entry, checksums = self._entry(number, start)
            if entry is None and not self._is_counted:
                return
            if entry is None or start[0] < 0:
                yield Salvaged(number=number, episode=None, recorded_steps=0, problem="its place in the store is lost")
            else:
                yield self._salvage(number, start, entry, checksums)
            start = np.full(3, -1, np.int64) if entry is None else entry
            number += 1

    def edits(self) -> list[Edit]:
        """The log up to its first damaged line."""
        stop = self._lengths.get("edits/log", 2**40)
        edits: list[Edit] = []
        for line in self._read("edits/log", 0, stop).tobytes().splitlines():
            try:
                edit = msgspec.json.decode(line, type=Edit)
            except msgspec.MsgspecError:
                break
            if edit.number != len(edits) + 1:
                break
            edits.append(edit)
        return edits

    def _attributes(self) -> dict[str, Any]:
        for name in ("zarr.json", "episodes/zarr.json"):
            try:
                attributes: dict[str, Any] = json.loads((self._path / name).read_bytes())["attributes"]
                attributes = attributes.get(COPY, attributes)
                if attributes["format"] == FORMAT and attributes["version"] in READABLE:
                    from_builtins(attributes["spec"], RobotSpec)
                    return attributes
            except (OSError, ValueError, KeyError, TypeError, RobotRlpdError):
                continue
        raise StoreError("neither of the two files that describe it can be read", field=str(self._path))

    def _read(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """As many whole rows of an array from `start` on as are there."""
        dtype, width = self._widths[key]
        shape = (self._chunk_rows(key, np.dtype(dtype).itemsize * (width or 1)), *(() if width is None else (width,)))
        return chunk_files.read_surviving(self._path / key, dtype, shape, start, stop)

    def _chunk_rows(self, key: str, row_bytes: int) -> int:
        try:
            grid = json.loads((self._path / key / "zarr.json").read_bytes())["chunk_grid"]
            return int(grid["configuration"]["chunk_shape"][0])
        except (OSError, ValueError, KeyError, TypeError):
            sizes = [file.stat().st_size for file in (self._path / key / "c").rglob("*") if file.is_file()]
            return max(1, max(sizes, default=0) // row_bytes)  # all are of one size, but for those that were cut

    def _entry(self, number: int, start: NDArray[np.int64]) -> tuple[NDArray[np.int64] | None, tuple[int, int]]:
        """Row of the index, from either of its copies, and the checksums."""
        check = self._read("episodes/check", number, number + 1)
        checksums = (int(check[0, 3]), int(check[0, 4])) if len(check) else (-1, -1)
        for rows in (self._read("episodes/index", number, number + 1), check[:, :3]):
            if len(rows) and _is_plausible(rows[0], start):
                return rows[0], checksums
        return None, (-1, -1)

    def _salvage(
        self, number: int, start: NDArray[np.int64], entry: NDArray[np.int64], checksums: tuple[int, int]
    ) -> Salvaged:
        first, end, steps = int(start[0]), int(entry[0]), int(entry[1])
        info, problem = self._info(number, int(start[2]), int(entry[2]), checksums[1])
        packed = {dtype: self._read(f"steps/{dtype}", first, end) for dtype in self._layout}
        rows = min(len(block) for block in packed.values())
        images = {s.name: self._images(s.name, first, end, rows, packed) for s in store_layout.image_fields(self.spec)}
        rows = min([rows, *(len(found.ends) for found in images.values())])
        encoded = _first_rows(EncodedEpisode(info=info, num_steps=steps, packed=packed, images=images), rows)
        if rows == end - first and checksums[0] not in (-1, encoded.data_crc()):
            return Salvaged(
                number=number, episode=None, recorded_steps=steps, problem="its data were changed: another checksum"
            )
        rows = self._readable_rows(encoded)
        if rows < end - first:
            problem = f"cut after {max(0, rows - 1)} of {steps} steps" + (f"; {problem}" if problem else "")
        if rows < min(2, end - first):
            return Salvaged(number=number, episode=None, recorded_steps=steps, problem=problem)
        return Salvaged(number=number, episode=_first_rows(encoded, rows), recorded_steps=steps, problem=problem)

    def _info(self, number: int, start: int, end: int, checksum: int) -> tuple[EpisodeInfo, str]:
        data = self._read("episodes/info", start, end).tobytes()
        if checksum in (-1, zlib.crc32(data)):
            try:
                return msgspec.json.decode(data, type=EpisodeInfo), ""
            except msgspec.MsgspecError:
                pass
        name = str(uuid.uuid5(_NAMESPACE, f"{self._identity}/{number}"))
        return EpisodeInfo(uuid=name, notes="what it said of itself is lost"), "its info is lost"

    def _images(self, field: str, first: int, end: int, rows: int, packed: dict[str, NDArray[Any]]) -> EncodedImages:
        ends = self._read(f"images/{field}/ends", max(0, first - 1), end)
        ends = ends if first else np.concatenate([np.zeros(1, np.int64), ends])
        if len(ends) == 0 or (np.diff(ends) < 0).any():
            return EncodedImages(data=np.zeros(0, np.uint8), ends=ends[:0], frames=np.zeros((0, len(FRAME_COLUMNS))))
        data = self._read(f"images/{field}/{self.codec.name}", int(ends[0]), int(ends[-1]))
        own = ends[1:] - ends[0]
        own = own[own <= len(data)]
        frames = self._read(f"images/{field}/frames", first, end)
        if not (self._path / f"images/{field}/frames").exists():  # version 1
            times = store_layout.unpack({"float64": self._layout["float64"]}, packed, rows)
            frames = np.stack([times["robot_time_s"], times["wall_time_s"], np.zeros(len(packed["float64"]))], axis=1)
        rows = min(len(own), len(frames))
        return EncodedImages(data=data, ends=own[:rows], frames=frames[:rows])

    def _readable_rows(self, encoded: EncodedEpisode) -> int:
        """How many rows from the first on can be decoded and hold what an episode may hold."""
        low, high = 0, encoded.num_rows
        if _is_readable(encoded, self):
            return high
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (middle, high) if _is_readable(_first_rows(encoded, middle), self) else (low, middle)
        return low


def _is_plausible(entry: NDArray[np.int64], start: NDArray[np.int64]) -> bool:
    if start[0] < 0:
        return bool((entry >= 0).all() and entry[2] > 0)
    rows = entry[0] - start[0]
    return bool(rows > 0 and entry[1] in (rows, rows - 1) and entry[2] > start[2])


def _first_rows(encoded: EncodedEpisode, rows: int) -> EncodedEpisode:
    """What is left when an episode is cut after so many rows: interrupted, its success unknown."""
    if rows == encoded.num_rows and all(len(found.ends) == rows for found in encoded.images.values()):
        return encoded
    images = {}
    for name, found in encoded.images.items():
        ends = found.ends[:rows]
        data = found.data[: int(ends[-1]) if rows else 0]
        images[name] = EncodedImages(data=data, ends=ends, frames=found.frames[:rows])
    return EncodedEpisode(
        info=replace(encoded.info, ended=Ended.INTERRUPTED, success=None),
        num_steps=max(0, rows - 1),
        packed={dtype: block[:rows] for dtype, block in encoded.packed.items()},
        images=images,
    )


def _is_readable(encoded: EncodedEpisode, store: DamagedStore) -> bool:
    try:
        decode_episode(encoded, store.spec, store._layout, store.codec).validate()
    except RobotRlpdError:
        return False
    return True
