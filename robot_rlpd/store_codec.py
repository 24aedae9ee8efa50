"""An episode as it is stored, its images encoded; made from an `Episode` and back, and joined into array blocks."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from robot_rlpd import store_layout
from robot_rlpd.episode import Episode, EpisodeInfo
from robot_rlpd.frames import Frames

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from robot_rlpd.images import ImageCodec
    from robot_rlpd.specs import ArraySpec, RobotSpec
    from robot_rlpd.store_layout import Layout


@dataclass(frozen=True, kw_only=True)
class EncodedImages:
    """The images of one camera in one episode.

    Attributes:
        data: Their encoded bytes, one behind the other, uint8.
        ends: Where each ends in `data`, int64 `(rows,)`; one that was dropped has no bytes.
        frames: When each was taken, float64 `(rows, 3)` with `FRAME_COLUMNS`.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]
    frames: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class EncodedEpisode:
    """One episode: what it says of itself, its rows per dtype, its images per camera."""

    info: EpisodeInfo
    num_steps: int
    packed: dict[str, NDArray[Any]]
    images: dict[str, EncodedImages]

    @property
    def num_rows(self) -> int:
        """T + 1, or T where the observation after the last action is missing."""
        return len(self.packed["float64"])

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(b.nbytes for b in self.packed.values()) + sum(i.data.nbytes for i in self.images.values())

    def data_crc(self) -> int:
        """CRC-32 over its arrays: rows by dtype, then per camera ends, bytes and frames, both in order of name."""
        crc = 0
        for _, block in sorted(self.packed.items()):
            crc = zlib.crc32(np.ascontiguousarray(block).data, crc)
        for _, images in sorted(self.images.items()):
            for array in (images.ends, images.data, images.frames):
                crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
        return crc


def encode_episode(episode: Episode, layout: Layout, codec: ImageCodec) -> EncodedEpisode:
    """Pack the rows and encode the images of an episode."""
    return EncodedEpisode(
        info=episode.info,
        num_steps=len(episode),
        packed=store_layout.pack(episode, layout),
        images={s.name: _encode_images(episode, s.name, codec) for s in store_layout.image_fields(episode.spec)},
    )


def _encode_images(episode: Episode, name: str, codec: ImageCodec) -> EncodedImages:
    frames = episode.frames.get(name) or Frames.at(episode.robot_times_s, episode.wall_times_s)
    encoded = [
        b"" if row and frames.dropped[row] else codec.encode(image)
        for row, image in enumerate(episode.observations[name])
    ]
    return EncodedImages(data=np.frombuffer(b"".join(encoded), np.uint8), ends=ends_of(encoded), frames=frames.rows())


def decode_episode(encoded: EncodedEpisode, spec: RobotSpec, layout: Layout, codec: ImageCodec) -> Episode:
    """The inverse: an episode whose arrays are views of the packed rows.

    Raises:
        DataError: An image is damaged; names the field and the row.
    """
    values = store_layout.unpack(layout, encoded.packed, encoded.num_steps)
    pixels, frames = {}, {}
    for s in store_layout.image_fields(spec):
        pixels[s.name] = _decode_images(encoded.images[s.name], s, codec)
        frames[s.name] = Frames.of_rows(encoded.images[s.name].frames)
    return Episode(
        spec=spec,
        observations={
            s.name: pixels[s.name] if s.name in pixels else values[f"observation/{s.name}"] for s in spec.observation
        },
        actions=values["action"],
        executed_actions=values["executed_action"],
        signals={s.name: values[f"signal/{s.name}"] for s in spec.signals},
        sources=values["source"],
        robot_times_s=values["robot_time_s"],
        wall_times_s=values["wall_time_s"],
        info=encoded.info,
        frames=frames,
    )


def _decode_images(images: EncodedImages, spec: ArraySpec, codec: ImageCodec) -> NDArray[np.uint8]:
    out = np.empty((len(images.ends), *spec.shape), np.uint8)
    start = 0
    for row, end in enumerate(images.ends.tolist()):
        if end == start and row:
            out[row] = out[row - 1]
        else:
            out[row] = codec.decode(images.data[start:end], spec.shape, f"observation.{spec.name}, image {row}")
        start = end
    return out


def join(episodes: Sequence[EncodedEpisode], lengths: Mapping[str, int], codec: ImageCodec) -> dict[str, NDArray[Any]]:
    """What to append to the arrays of a store for these episodes, given its present lengths."""
    arrays = {
        f"steps/{dtype}": np.concatenate([episode.packed[dtype] for episode in episodes])
        for dtype in episodes[0].packed
    }
    for name in episodes[0].images:
        parts = [episode.images[name] for episode in episodes]
        offsets = np.cumsum([0, *(len(part.data) for part in parts)]) + lengths[f"images/{name}/{codec.name}"]
        arrays[f"images/{name}/{codec.name}"] = np.concatenate([part.data for part in parts])
        arrays[f"images/{name}/ends"] = np.concatenate(
            [part.ends + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
        )
        arrays[f"images/{name}/frames"] = np.concatenate([part.frames for part in parts])
    infos = [msgspec.json.encode(episode.info) for episode in episodes]
    arrays["episodes/info"] = np.frombuffer(b"".join(infos), np.uint8)
    row_ends = np.cumsum([episode.num_rows for episode in episodes]) + lengths["steps/float64"]
    index = np.stack(
        [row_ends, [episode.num_steps for episode in episodes], ends_of(infos) + lengths["episodes/info"]], axis=1
    ).astype(np.int64)
    sums = [(episode.data_crc(), zlib.crc32(info)) for episode, info in zip(episodes, infos, strict=True)]
    arrays["episodes/check"] = np.concatenate([index, np.array(sums, np.int64)], axis=1)
    arrays["episodes/index"] = index
    return arrays


def ends_of(parts: Sequence[bytes]) -> NDArray[np.int64]:
    """Where each part ends when they lie one behind the other."""
    return np.cumsum([len(part) for part in parts], dtype=np.int64)
