"""Writes robomimic's layout; see `demos.converters.robomimic`. Without `states`, which only its simulators can give."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from demos.converters import hdf5_writing, kept

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from demos.converters.export import Export, ExportedEpisode

_GYM_TYPE = 2
"""Of environments, as robomimic numbers them."""


def write(export: Export, out: Path) -> None:
    """Write the file; see `Exporter`."""
    export.need_rewards("robomimic's layout")
    spec, report = export.spec, export.report
    sources = {s.name: s.name for s in spec.observation} | {"reward": "rewards"}
    sources |= {s.name: f"{kept.NAME}/{s.name}" for s in export.column_specs}
    if (spec.action.low != -1).any() or (spec.action.high != 1).any():
        report.notes.append("actions are in robot units; robomimic trains on [-1, 1]")
    with h5py.File(out, "w") as file:
        file.create_group(kept.NAME)["file"] = export.keep(sources).to_json()
        data = file.create_group("data")
        data.attrs["env_args"] = spec.metadata.get("env_args") or _environment(spec.name, spec.control_rate_hz)
        for exported in export.episodes():
            _add(data.create_group(f"demo_{exported.index}"), exported)
        data.attrs["total"] = report.steps
    if not export.all_have_final_observation:
        report.notes.append("episodes without a final observation have no next_obs")


def _environment(name: str, rate_hz: float) -> str:
    kwargs = {"control_freq": rate_hz}
    return json.dumps({"env_name": name, "env_version": "", "type": _GYM_TYPE, "env_kwargs": kwargs})


def _add(demo: h5py.Group, exported: ExportedEpisode) -> None:
    episode = exported.episode
    demo.attrs["num_samples"] = len(episode)
    demo.attrs[kept.NAME] = exported.entry
    hdf5_writing.put(demo, "actions", exported.actions)
    hdf5_writing.put(demo, "dones", (exported.terminated | exported.truncated).astype(np.int64))
    if exported.rewards is not None:
        hdf5_writing.put(demo, "rewards", exported.rewards)
    for name in episode.observations:
        hdf5_writing.put(demo, f"obs/{name}", _column(exported.steps(name)))
        if episode.has_final_observation:
            hdf5_writing.put(demo, f"next_obs/{name}", _column(episode.observations[name][1:]))
    for name, column in exported.columns.items():
        hdf5_writing.put(demo, f"{kept.NAME}/{name}", column)


def _column(rows: NDArray[Any]) -> NDArray[Any]:
    """Scalars become vectors of one."""
    return rows[:, None] if rows.ndim == 1 else rows
