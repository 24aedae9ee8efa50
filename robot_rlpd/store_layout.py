"""How an episode becomes rows of packed columns and back; pure functions on arrays, no files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from robot_rlpd import images
from robot_rlpd.episode import Episode, EpisodeInfo
from robot_rlpd.errors import DataError, MismatchError
from robot_rlpd.specs import check_contract

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from robot_rlpd.specs import ArraySpec, RobotSpec


@dataclass(frozen=True, kw_only=True)
class Column:
    """Where one field lies in the packed array of its dtype: entries `start` to `stop` of every row, in C order.

    Attributes:
        name: "observation/<field>", "signal/<field>", "action", "executed_action", "source", "robot_time_s" or
            "wall_time_s".
        start: First entry.
        stop: Entry after the last.
        shape: Shape of one value.
        per_step: Whether the row of the final observation holds zeros, because the field belongs to a step.
    """

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]
    per_step: bool


Layout = dict[str, tuple[Column, ...]]
"""Columns per dtype name."""


def make_layout(spec: RobotSpec) -> Layout:
    """Columns for everything in an episode that is not stored as JPEG."""
    columns: dict[str, list[Column]] = {}
    for name, dtype, shape, per_step in _fields(spec):
        packed = columns.setdefault(dtype, [])
        start = packed[-1].stop if packed else 0
        stop = start + math.prod(shape)
        packed.append(Column(name=name, start=start, stop=stop, shape=shape, per_step=per_step))
    return {dtype: tuple(packed) for dtype, packed in columns.items()}


def _fields(spec: RobotSpec) -> Iterator[tuple[str, str, tuple[int, ...], bool]]:
    for s in spec.observation:
        if not images.is_encodable(s):
            yield f"observation/{s.name}", s.dtype, s.shape, False
    yield "action", "float32", (spec.action.size,), True
    yield "executed_action", "float32", (spec.action.size,), True
    for s in spec.signals:
        yield f"signal/{s.name}", s.dtype, s.shape, True
    yield "source", "uint8", (), True
    yield "robot_time_s", "float64", (), False
    yield "wall_time_s", "float64", (), False


def image_fields(spec: RobotSpec) -> tuple[ArraySpec, ...]:
    """Observation fields that are stored as JPEG."""
    return tuple(s for s in spec.observation if images.is_encodable(s))


def pack(episode: Episode, layout: Layout) -> dict[str, NDArray[Any]]:
    """One `(rows, width)` array per dtype; rows are T + 1, or T without the final observation."""
    rows, steps = len(episode.robot_times_s), len(episode)
    values: dict[str, NDArray[Any]] = {
        **{f"observation/{name}": array for name, array in episode.observations.items()},
        **{f"signal/{name}": array for name, array in episode.signals.items()},
        "action": episode.actions,
        "executed_action": episode.executed_actions,
        "source": episode.sources,
        "robot_time_s": episode.robot_times_s,
        "wall_time_s": episode.wall_times_s,
    }
    packed = {}
    for dtype, columns in layout.items():
        block = np.zeros((rows, columns[-1].stop), dtype)
        for c in columns:
            length = steps if c.per_step else rows
            block[:length, c.start : c.stop] = values[c.name].reshape(length, c.stop - c.start)
        packed[dtype] = block
    return packed


def unpack(
    spec: RobotSpec,
    layout: Layout,
    packed: Mapping[str, NDArray[Any]],
    pixels: Mapping[str, NDArray[np.uint8]],
    steps: int,
    info: EpisodeInfo,
) -> Episode:
    """The inverse of `pack`: an episode whose arrays are views of `packed` and `pixels`."""
    values: dict[str, NDArray[Any]] = {}
    for dtype, columns in layout.items():
        for c in columns:
            block = packed[dtype][:steps] if c.per_step else packed[dtype]
            values[c.name] = block[:, c.start : c.stop].reshape(len(block), *c.shape)
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
        info=info,
    )


def check_spec(wanted: RobotSpec, offered: RobotSpec, *, who: str) -> None:
    """Refuse episodes that the columns of a store cannot hold; bounds and metadata may differ.

    Raises:
        MismatchError: Names the field that differs, is missing, or would be dropped.
    """
    check_contract(wanted.contract([s.name for s in wanted.observation]), offered, who=who)
    wanted_names, offered_names = ({s.name for s in spec.observation} for spec in (wanted, offered))
    for name in sorted(offered_names - wanted_names):
        raise MismatchError(f"{who} has one field more", field=f"observation.{name}", allowed=", ".join(wanted_names))
    found, allowed = ({s.name: (s.dtype, s.shape) for s in spec.signals} for spec in (offered, wanted))
    for name in sorted(found.keys() | allowed.keys()):
        if found.get(name) != allowed.get(name):
            raise MismatchError(
                f"{who} does not fit",
                field=f"signals.{name}",
                found=str(found.get(name, "nothing")),
                allowed=str(allowed.get(name, "no such signal")),
            )


def check_episode(episode: Episode) -> None:
    """Refuse what must not enter a store.

    Raises:
        DataError: Wrong lengths, NaN or infinity; names field and step.
    """
    episode.validate()
    for name, value in episode.info.randomization.items():
        if not math.isfinite(value):
            raise DataError(field=f"randomization.{name}", found=str(value), allowed="finite numbers")


INDEX_COLUMNS = ("row_end", "num_steps", "info_end")
"""Columns of the int64 array episodes/index: the row after the episode's last, T, and the end of its info bytes."""


def array_widths(spec: RobotSpec) -> dict[str, tuple[str, int | None]]:
    """Path, dtype and width (None for one dimension) of every array of a store."""
    arrays: dict[str, tuple[str, int | None]] = {
        f"steps/{dtype}": (dtype, columns[-1].stop) for dtype, columns in make_layout(spec).items()
    }
    for s in image_fields(spec):
        arrays |= {f"images/{s.name}/jpeg": ("uint8", None), f"images/{s.name}/ends": ("int64", None)}
    return arrays | {"episodes/info": ("uint8", None), "episodes/index": ("int64", len(INDEX_COLUMNS))}


def encode_batch(
    episodes: Sequence[Episode], spec: RobotSpec, layout: Layout, lengths: Mapping[str, int], quality: int
) -> dict[str, NDArray[Any]]:
    """What to append to every array of a store, given their present lengths."""
    blocks: dict[str, list[NDArray[Any]]] = {f"steps/{dtype}": [] for dtype in layout}
    for episode in episodes:
        for dtype, block in pack(episode, layout).items():
            blocks[f"steps/{dtype}"].append(block)
    arrays = {key: np.concatenate(parts) for key, parts in blocks.items()}
    for s in image_fields(spec):
        encoded = [images.encode(image, quality) for episode in episodes for image in episode.observations[s.name]]
        arrays[f"images/{s.name}/ends"] = _ends(encoded) + lengths[f"images/{s.name}/jpeg"]
        arrays[f"images/{s.name}/jpeg"] = np.frombuffer(b"".join(encoded), np.uint8)
    infos = [msgspec.json.encode(episode.info) for episode in episodes]
    arrays["episodes/info"] = np.frombuffer(b"".join(infos), np.uint8)
    row_ends = np.cumsum([len(episode.robot_times_s) for episode in episodes]) + lengths["steps/float64"]
    num_steps = np.array([len(episode) for episode in episodes])
    arrays["episodes/index"] = np.stack([row_ends, num_steps, _ends(infos) + lengths["episodes/info"]], axis=1)
    return arrays


def _ends(parts: Sequence[bytes]) -> NDArray[np.int64]:
    return np.cumsum([len(part) for part in parts], dtype=np.int64)


def decode_images(data: NDArray[np.uint8], ends: NDArray[np.int64], spec: ArraySpec) -> NDArray[np.uint8]:
    """All images of a field `(N, H, W, C)`; `ends` count from the beginning of `data`."""
    out = np.empty((len(ends), *spec.shape), np.uint8)
    start = 0
    for row, end in enumerate(ends.tolist()):
        out[row] = images.decode(data[start:end], spec.shape, f"observation.{spec.name}, image {row}")
        start = end
    return out
