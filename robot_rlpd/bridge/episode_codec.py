"""An episode as bytes, for its way to the learner: a msgpack header, then its arrays; camera images as JPEG."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from robot_rlpd import images
from robot_rlpd.episode import Episode, EpisodeInfo
from robot_rlpd.errors import ProtocolError, RobotRlpdError
from robot_rlpd.specs import DTYPES, RobotSpec, from_builtins, to_builtins

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
_LENGTH = struct.Struct("<Q")


class _Array(msgspec.Struct, array_like=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    """Bytes."""
    ends: list[int]
    """End of each image in the bytes; empty for an array that is not JPEG."""


class _Header(msgspec.Struct):
    version: int
    spec: Any
    info: EpisodeInfo
    arrays: list[_Array]


def encode_episode(episode: Episode) -> bytes:
    """All of an episode; images lose what JPEG of quality 90 takes, as they do in a store."""
    cameras = {f"observations.{s.name}" for s in episode.spec.observation if images.is_encodable(s)}
    table, parts = [], []
    for name, array in _arrays(episode).items():
        if name in cameras:
            encoded = [images.encode(image) for image in array]
            ends = np.cumsum([len(image) for image in encoded], dtype=np.int64).tolist()
            data = b"".join(encoded)
        else:
            ends, data = [], np.ascontiguousarray(array).tobytes()
        table.append(_Array(name, array.dtype.name, array.shape, len(data), ends))
        parts.append(data)
    header = msgspec.msgpack.encode(_Header(VERSION, to_builtins(episode.spec), episode.info, table))
    return b"".join([_LENGTH.pack(len(header)), header, *parts])


def decode_episode(data: bytes | bytearray) -> Episode:
    """The inverse, checked against its own spec.

    Raises:
        ProtocolError: These bytes are no episode.
        DataError: The episode does not follow its spec.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        header = msgspec.msgpack.decode(memoryview(data)[_LENGTH.size : _LENGTH.size + length], type=_Header)
    except (msgspec.MsgspecError, ValueError, struct.error) as error:
        raise ProtocolError(f"not an episode: {error}") from None
    if header.version != VERSION:
        raise ProtocolError("an episode of another version", found=str(header.version), allowed=str(VERSION))
    spec = from_builtins(header.spec, RobotSpec)
    at = _LENGTH.size + length
    arrays: dict[str, NDArray[Any]] = {}
    for entry in header.arrays:
        arrays[entry.name] = _array(entry, memoryview(data)[at : at + entry.size])
        at += entry.size
    try:
        episode = Episode(
            spec=spec,
            observations={s.name: arrays[f"observations.{s.name}"] for s in spec.observation},
            actions=arrays["actions"],
            executed_actions=arrays["executed_actions"],
            signals={s.name: arrays[f"signals.{s.name}"] for s in spec.signals},
            sources=arrays["sources"],
            robot_times_s=arrays["robot_times_s"],
            wall_times_s=arrays["wall_times_s"],
            info=header.info,
        )
    except KeyError as error:
        raise ProtocolError("the episode is incomplete", field=str(error.args[0])) from None
    episode.validate()
    return episode


def _arrays(episode: Episode) -> dict[str, NDArray[Any]]:
    return {
        **{f"observations.{name}": array for name, array in episode.observations.items()},
        **{f"signals.{name}": array for name, array in episode.signals.items()},
        "actions": episode.actions,
        "executed_actions": episode.executed_actions,
        "sources": episode.sources,
        "robot_times_s": episode.robot_times_s,
        "wall_times_s": episode.wall_times_s,
    }


def _array(entry: _Array, data: memoryview) -> NDArray[Any]:
    if entry.dtype not in DTYPES:
        raise ProtocolError(field=entry.name, found=f"dtype {entry.dtype[:40]}", allowed=", ".join(DTYPES))
    if entry.ends:
        try:
            starts = [0, *entry.ends[:-1]]
            decoded = [
                images.decode(data[start:end], entry.shape[1:], entry.name)
                for start, end in zip(starts, entry.ends, strict=True)
            ]
        except (RobotRlpdError, ValueError, KeyError, IndexError) as error:
            raise ProtocolError(f"damaged images: {error}", field=entry.name) from None
        return np.stack(decoded)
    size = math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
    if any(n < 0 for n in entry.shape) or size != entry.size or len(data) != size:
        raise ProtocolError(field=entry.name, found=f"{len(data)} B", allowed=f"{size} B")
    return np.frombuffer(data, entry.dtype).reshape(entry.shape)
