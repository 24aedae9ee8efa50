"""Writes D4RL's layout; see `demos.converters.d4rl`.

The numbers of all fields of a floating type lie side by side in `observations`; other fields, other signals and what is
kept besides are in `infos/`. `next_observations` is written where no final observation is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from demos.converters import hdf5_writing, kept

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from demos.converters.export import Export, ExportedEpisode
    from robot_rlpd.specs import ArraySpec


def write(export: Export, out: Path) -> None:
    """Write the file; see `Exporter`."""
    export.need_rewards("D4RL's layout")
    joint = _side_by_side(export.spec.observation)
    others = [s for s in export.spec.observation if s not in joint]
    sources = _sources(export, joint, others)
    if others:
        export.report.notes.append(f"not in observations but in infos/: {', '.join(s.name for s in others)}")
    has_next = export.all_have_final_observation
    with h5py.File(out, "w") as file:
        file.create_group(kept.NAME)["file"] = export.keep(sources).to_json()
        for exported in export.episodes():
            _append(file, exported, joint, others, has_next=has_next)
            if not has_next:
                export.report.left_out_observations += int(exported.episode.has_final_observation)


def _side_by_side(fields: tuple[ArraySpec, ...]) -> list[ArraySpec]:
    """The fields that make up `observations`."""
    floats = [s for s in fields if np.dtype(s.dtype).kind == "f"]
    numbers = [s for s in fields if not s.is_image]
    return floats or numbers or list(fields[:1])


def _sources(export: Export, joint: list[ArraySpec], others: list[ArraySpec]) -> dict[str, str]:
    sources, start = {}, 0
    for s in joint:
        sources[s.name] = "observations" if len(joint) == 1 else f"observations[{start}:{start + s.size}]"
        start += s.size
    sources |= {s.name: f"infos/{s.name}" for s in others}
    return sources | {"reward": "rewards"} | {s.name: f"infos/{s.name}" for s in export.column_specs}


def _append(
    file: h5py.File, exported: ExportedEpisode, joint: list[ArraySpec], others: list[ArraySpec], *, has_next: bool
) -> None:
    observations = exported.episode.observations
    rows = {"observations": _joined({s.name: exported.steps(s.name) for s in joint}, joint)}
    if has_next:
        rows["next_observations"] = _joined({s.name: observations[s.name][1:] for s in joint}, joint)
    for s in others:
        rows[f"infos/{s.name}"] = exported.steps(s.name)
        if has_next:
            rows[f"next_infos/{s.name}"] = observations[s.name][1:]
    rows |= {"actions": exported.actions, "terminals": exported.terminated, "timeouts": exported.truncated}
    if exported.rewards is not None:
        rows["rewards"] = exported.rewards
    rows |= {f"infos/{name}": column for name, column in exported.columns.items()}
    for name, column in rows.items():
        hdf5_writing.append(file, name, column)
    hdf5_writing.append_texts(file, f"{kept.NAME}/episodes", [exported.entry])
    hdf5_writing.append(file, f"{kept.NAME}/ends", np.array([len(file["actions"])]))


def _joined(rows: dict[str, NDArray[Any]], fields: list[ArraySpec]) -> NDArray[Any]:
    if len(fields) == 1:
        return rows[fields[0].name]
    dtype = np.result_type(*(s.dtype for s in fields))
    return np.concatenate([rows[s.name].reshape(len(rows[s.name]), -1).astype(dtype) for s in fields], axis=1)
