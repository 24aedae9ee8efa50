"""Keeps a running episode safe: every step goes to a spool file, and a finished episode to the store.

A spool file is `<store>-spool/<episode uuid>.spool`: frames of `length, crc32` (little-endian uint32 each) and a
msgpack payload; a start frame, one frame per step, an end frame. A killed process loses at most the step it was
writing; a power loss what the disk had not yet taken, about a second.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from robot_rlpd.episode import Ended, Episode, EpisodeBuilder, EpisodeInfo
from robot_rlpd.errors import RobotRlpdError, StoreError
from robot_rlpd.robot import Source, StepResult
from robot_rlpd.specs import RobotSpec, from_builtins, to_builtins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedWriter
    from pathlib import Path

    from numpy.typing import NDArray

    from robot_rlpd.episode import Step
    from robot_rlpd.robot import Action
    from robot_rlpd.specs import ArraySpec

SYNC_PERIOD_S = 1.0
_HEADER = struct.Struct("<II")
_log = logging.getLogger(__name__)


class _Observed(msgspec.Struct):
    observation: dict[str, bytes]
    robot_time_s: float
    wall_time_s: float
    frame_times_s: dict[str, float] = {}
    dropped_frames: tuple[str, ...] = ()


class _Start(msgspec.Struct, tag="start"):
    spec: Any
    info: EpisodeInfo
    observed: _Observed


class _Step(msgspec.Struct, tag="step"):
    action: bytes
    executed_action: bytes
    source: int
    signals: dict[str, bytes]
    observed: _Observed


class _End(msgspec.Struct, tag="end"):
    info: EpisodeInfo


class Store(Protocol):
    """What the spool needs of an episode store."""

    @property
    def spool_directory(self) -> Path:
        """Where episodes lie while they run."""
        ...

    def append(self, episode: Episode) -> bool:
        """Store an episode once."""
        ...


class EpisodeWriter:
    """Writes one running episode to its spool file, step by step."""

    def __init__(self, path: Path, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._spec = spec
        self._file: BufferedWriter = path.open("xb")
        self._syncer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool-sync")
        self._syncing: Future[None] | None = None
        self._synced_s = time.monotonic()
        try:
            self._write(_Start(spec=to_builtins(spec), info=info, observed=self._observed(first, wall_time_s)))
        except BaseException:
            self.close()
            raise

    def step(self, action: Action, source: Source, result: StepResult, wall_time_s: float) -> None:
        """Write one step; the operating system has it when this returns.

        Raises:
            StoreError: The disk is full or gone.
        """
        executed = action if result.executed_action is None else result.executed_action
        zeros = {s.name: np.zeros(s.shape, s.dtype) for s in self._spec.signals}
        self._write(
            _Step(
                action=np.asarray(action, np.float32).tobytes(),
                executed_action=np.asarray(executed, np.float32).tobytes(),
                source=int(source),
                signals=_to_bytes(self._spec.signals, zeros | result.signals),
                observed=self._observed(result, wall_time_s),
            )
        )
        if time.monotonic() - self._synced_s >= SYNC_PERIOD_S and (self._syncing is None or self._syncing.done()):
            self._synced_s = time.monotonic()
            self._syncing = self._syncer.submit(os.fsync, self._file.fileno())

    def end(self, info: EpisodeInfo) -> None:
        """Write how the episode ended."""
        self._write(_End(info=info))

    def close(self) -> None:
        """Close the file; it stays."""
        self._syncer.shutdown(wait=True)
        with contextlib.suppress(OSError):  # told already: every frame is flushed when it is written
            self._file.close()

    def remove(self) -> None:
        """Close and delete the file, and the spool directory with its last file."""
        self.close()
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def _observed(self, result: StepResult, wall_time_s: float) -> _Observed:
        observation = _to_bytes(self._spec.observation, result.observation)
        return _Observed(
            observation=observation,
            robot_time_s=result.robot_time_s,
            wall_time_s=wall_time_s,
            frame_times_s=result.frame_times_s,
            dropped_frames=result.dropped_frames,
        )

    def _write(self, frame: _Start | _Step | _End) -> None:
        payload = msgspec.msgpack.encode(frame)
        try:
            self._file.write(_HEADER.pack(len(payload), zlib.crc32(payload)) + payload)
            self._file.flush()
        except OSError as error:
            raise StoreError(f"cannot write: {error.strerror}", field=str(self.path)) from None


class StoreListener:
    """A `rollout.Listener` that records into a store, safe against `kill -9` at any step.

    Args:
        store: Opened for writing.
        keep: Whether a finished episode is stored; default: every one with a step.
        label: Changes a finished episode before that, such as its success flag.
    """

    def __init__(
        self,
        store: Store,
        *,
        keep: Callable[[Episode], bool] = lambda episode: len(episode) > 0,
        label: Callable[[Episode], Episode] = lambda episode: episode,
    ) -> None:
        self._store = store
        self._keep = keep
        self._label = label
        self._writer: EpisodeWriter | None = None
        self.kept: Episode | None = None

    def on_start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """Open the spool file."""
        self.kept = None
        path = self._store.spool_directory / f"{info.uuid}.spool"
        self._writer = EpisodeWriter(path, spec, info, first, wall_time_s)

    def on_step(self, step: Step) -> None:
        """Spool the step."""
        if self._writer is not None:
            self._writer.step(step.action, step.source, step.result, step.wall_time_s)

    def on_end(self, episode: Episode) -> None:
        """Store the episode, or drop it; the spool file goes when the store has it on disk."""
        writer, self._writer = self._writer, None
        episode = self._label(episode)
        if self._keep(episode):
            try:
                if writer is not None:
                    writer.end(episode.info)
                self._store.append(episode)
            except BaseException:
                if writer is not None:
                    writer.close()
                raise
            self.kept = episode
        if writer is not None:
            writer.remove()


def recover(store: Store) -> list[Episode]:
    """Bring episodes that were running when their writer died into the store.

    They end as interrupted at the last whole frame, with unknown success, unless the end was written too. A file
    that the store refuses is renamed to `*.refused` with a warning.

    Raises:
        StoreError: The store cannot be written; the files stay for the next time.
    """
    recovered = []
    for path in sorted(store.spool_directory.glob("*.spool")):
        try:
            episode = read_spool(path)
            if episode is not None and len(episode) > 0 and store.append(episode):
                _log.warning("recovered an interrupted episode of %s steps: %s", len(episode), episode.info.uuid)
                recovered.append(episode)
        except StoreError:  # nothing is wrong with the episode: the disk may be full
            raise
        except RobotRlpdError as error:
            refused = path.rename(path.with_suffix(".refused"))
            _log.warning("an interrupted episode cannot be recovered, it stays in %s: %s", refused, error)
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        store.spool_directory.rmdir()
    return recovered


def forget(store: Store) -> None:
    """Remove what was recorded of episodes whose writer died."""
    for path in store.spool_directory.glob("*.spool"):
        path.unlink()


def read_spool(path: Path) -> Episode | None:
    """The episode in a spool file, up to its last whole frame; None if not even the start is whole.

    Raises:
        SpecError: The frames are whole, but do not hold an episode.
    """
    frames = _frames(path.read_bytes())
    start = next(frames, None)
    if not isinstance(start, _Start):
        return None
    spec = from_builtins(start.spec, RobotSpec)
    builder = EpisodeBuilder(spec, start.info)
    builder.start(_result(spec, start.observed), start.observed.wall_time_s)
    changes: dict[str, Any] = {"ended": Ended.INTERRUPTED, "success": None}
    for frame in frames:
        if isinstance(frame, _Step):
            action = np.frombuffer(frame.action, np.float32)
            executed = np.frombuffer(frame.executed_action, np.float32)
            result = _result(spec, frame.observed, executed, _from_bytes(spec.signals, frame.signals))
            builder.step(action, Source(frame.source), result, frame.observed.wall_time_s)
        elif isinstance(frame, _End):
            changes = {"ended": frame.info.ended, "success": frame.info.success, "notes": frame.info.notes}
            changes["outcome_unknown"] = frame.info.outcome_unknown
    return builder.finish(**changes)


def _frames(data: bytes) -> Iterator[_Start | _Step | _End]:
    decoder = msgspec.msgpack.Decoder(_Start | _Step | _End)
    at = 0
    while at + _HEADER.size <= len(data):
        length, checksum = _HEADER.unpack_from(data, at)
        payload = data[at + _HEADER.size : at + _HEADER.size + length]
        if len(payload) < length or zlib.crc32(payload) != checksum:
            return
        try:
            yield decoder.decode(payload)
        except msgspec.MsgspecError:
            return
        at += _HEADER.size + length


def _result(
    spec: RobotSpec, observed: _Observed, executed: Action | None = None, signals: dict[str, NDArray[Any]] | None = None
) -> StepResult:
    return StepResult(
        observation=_from_bytes(spec.observation, observed.observation),
        executed_action=executed,
        signals=signals or {},
        robot_time_s=observed.robot_time_s,
        frame_times_s=observed.frame_times_s,
        dropped_frames=observed.dropped_frames,
    )


def _to_bytes(group: tuple[ArraySpec, ...], values: dict[str, NDArray[Any]]) -> dict[str, bytes]:
    return {s.name: np.asarray(values[s.name], s.dtype).reshape(s.shape).tobytes() for s in group}


def _from_bytes(group: tuple[ArraySpec, ...], values: dict[str, bytes]) -> dict[str, NDArray[Any]]:
    return {s.name: np.frombuffer(values[s.name], s.dtype).reshape(s.shape) for s in group}
