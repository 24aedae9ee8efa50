"""Writes diffusion_policy's replay buffer; see `demos.converters.replay_buffer`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
import zarr.storage

from demos.converters import kept
from demos.converters.replay_buffer import ACTION, FINAL, REWARD
from robot_rlpd.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from demos.converters.export import Export, ExportedEpisode

CHUNK_BYTES = 4 * 2**20


def write(export: Export, out: Path) -> None:
    """Write the directory; see `Exporter`."""
    spec = export.spec
    places = {s.name: f"data/{s.name.replace('/', '.')}" for s in spec.observation}
    sources = dict(places)
    if export.has_rewards:
        sources["reward"] = f"data/{REWARD}"
    sources |= {s.name: f"{kept.NAME}/{s.name.replace('/', '.')}" for s in export.column_specs}
    for name in (ACTION, REWARD):
        if f"data/{name}" in places.values():
            raise DataError("an observation field of this name has no place in the format", field=name)
    root = zarr.create_group(zarr.storage.LocalStore(out), zarr_format=2)
    columns = _Columns(root)
    columns.append(f"{kept.NAME}/entry_ends", np.zeros(1, np.int64))
    for exported in export.episodes():
        _append(columns, exported, places, has_final=export.all_have_final_observation)
        if not export.all_have_final_observation:
            export.report.left_out_observations += int(exported.episode.has_final_observation)
    columns.close()
    root.attrs[kept.NAME] = json.loads(export.keep(sources).to_json())


def _append(columns: _Columns, exported: ExportedEpisode, places: dict[str, str], *, has_final: bool) -> None:
    for name, place in places.items():
        columns.append(place, exported.steps(name))
        if has_final:
            columns.append(f"{FINAL}/{place.removeprefix('data/')}", exported.episode.observations[name][-1:])
    columns.append(f"data/{ACTION}", exported.actions)
    if exported.rewards is not None:
        columns.append(f"data/{REWARD}", exported.rewards)
    columns.append("meta/episode_ends", np.array([columns.length(f"data/{ACTION}")], np.int64))
    for name, column in exported.columns.items():
        columns.append(f"{kept.NAME}/{name.replace('/', '.')}", column)
    columns.append(f"{kept.NAME}/entries", np.frombuffer(exported.entry.encode(), np.uint8))
    columns.append(f"{kept.NAME}/entry_ends", np.array([columns.length(f"{kept.NAME}/entries")], np.int64))


class _Columns:
    """Arrays that grow; rows are gathered until they fill a chunk, so that none is written twice."""

    def __init__(self, root: zarr.Group) -> None:
        self._root = root
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._waiting: dict[str, list[NDArray[Any]]] = {}
        self._lengths: dict[str, int] = {}

    def length(self, name: str) -> int:
        """Rows so far."""
        return self._lengths.get(name, 0)

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows."""
        if name not in self._arrays:
            self._arrays[name] = self._make(name, rows)
        self._lengths[name] = self.length(name) + len(rows)
        waiting = self._waiting.setdefault(name, [])
        waiting.append(rows.copy())  # a view would keep the whole episode in memory
        chunk = self._arrays[name].chunks[0]
        gathered = sum(map(len, waiting))
        if gathered >= chunk:
            block = np.concatenate(waiting)
            whole = gathered - gathered % chunk
            self._write(name, block[:whole])
            self._waiting[name] = [block[whole:].copy()]

    def close(self) -> None:
        """Write what waits."""
        for name, waiting in self._waiting.items():
            self._write(name, np.concatenate(waiting))

    def _make(self, name: str, rows: NDArray[Any]) -> zarr.Array[Any]:
        from numcodecs import Blosc

        chunk = max(1, CHUNK_BYTES // max(1, rows[:1].nbytes or rows.itemsize * int(np.prod(rows.shape[1:]))))
        return self._root.create_array(
            name,
            shape=(0, *rows.shape[1:]),
            chunks=(chunk, *(max(1, n) for n in rows.shape[1:])),
            dtype=rows.dtype,
            config={"write_empty_chunks": True},
            compressors=Blosc(cname="zstd", clevel=5, shuffle=Blosc.SHUFFLE if rows.itemsize > 1 else Blosc.NOSHUFFLE),
        )

    def _write(self, name: str, rows: NDArray[Any]) -> None:
        array = self._arrays[name]
        start = array.shape[0]
        array.resize((start + len(rows), *array.shape[1:]))
        if len(rows):
            array[start:] = rows
