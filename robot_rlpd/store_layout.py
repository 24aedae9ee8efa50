"""How an episode becomes rows of packed columns and back; pure functions on arrays, no files."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd import images
from robot_rlpd.errors import DataError, MismatchError
from robot_rlpd.frames import FRAME_COLUMNS
from robot_rlpd.specs import check_contract, to_builtins

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from robot_rlpd.episode import Episode
    from robot_rlpd.images import ImageCodec
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


def unpack(layout: Layout, packed: Mapping[str, NDArray[Any]], steps: int) -> dict[str, NDArray[Any]]:
    """The inverse of `pack`: every column by its name, as a view of `packed`."""
    values: dict[str, NDArray[Any]] = {}
    for dtype, columns in layout.items():
        for c in columns:
            block = packed[dtype][:steps] if c.per_step else packed[dtype]
            values[c.name] = block[:, c.start : c.stop].reshape(len(block), *c.shape)
    return values


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
CHECK_COLUMNS = (*INDEX_COLUMNS, "data_crc32", "info_crc32")
"""Columns of the int64 array episodes/check: the index once more, with checksums; -1 where nobody wrote them down."""


def array_widths(spec: RobotSpec, codec: ImageCodec) -> dict[str, tuple[str, int | None]]:
    """Path, dtype and width (None for one dimension) of every array of a store."""
    arrays: dict[str, tuple[str, int | None]] = {
        f"steps/{dtype}": (dtype, columns[-1].stop) for dtype, columns in make_layout(spec).items()
    }
    for s in image_fields(spec):
        arrays[f"images/{s.name}/{codec.name}"] = ("uint8", None)
        arrays[f"images/{s.name}/ends"] = ("int64", None)
    arrays |= {"episodes/info": ("uint8", None), "episodes/index": ("int64", len(INDEX_COLUMNS))}
    return arrays | added_widths(spec)


def added_widths(spec: RobotSpec) -> dict[str, tuple[str, int | None]]:
    """Those arrays that version 1 of the format did not have."""
    frames: dict[str, tuple[str, int | None]] = {
        f"images/{s.name}/frames": ("float64", len(FRAME_COLUMNS)) for s in image_fields(spec)
    }
    return frames | {"episodes/check": ("int64", len(CHECK_COLUMNS)), "edits/log": ("uint8", None)}


def column_attributes(spec: RobotSpec) -> dict[str, Any]:
    """What the attribute `columns` of an array says, by its path."""
    steps = {
        f"steps/{dtype}": [to_builtins(asdict(column)) for column in columns]
        for dtype, columns in make_layout(spec).items()
    }
    frames = {f"images/{s.name}/frames": list(FRAME_COLUMNS) for s in image_fields(spec)}
    return {**steps, **frames, "episodes/index": list(INDEX_COLUMNS), "episodes/check": list(CHECK_COLUMNS)}
