"""Writes Minari's layout; see `demos.converters.minari`. Images are written as they are, not as JPEG."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from demos.converters import hdf5_writing, kept, minari_spaces
from demos.converters.minari import DATA, METADATA

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from demos.converters.export import Export, ExportedEpisode
    from robot_rlpd.specs import RobotSpec

VERSION = "0.5.4"
"""Of Minari, whose layout this is: the first that reads images that are not JPEG."""
_ID = re.compile(r"[-_\w]+-v\d+")


def write(export: Export, out: Path) -> None:
    """Write the directory; see `Exporter`."""
    export.need_rewards("Minari")
    spec, report = export.spec, export.report
    alone = len(spec.observation) == 1
    sources = {s.name: "observations" if alone else f"observations/{s.name}" for s in spec.observation}
    sources |= {"reward": "rewards"} | {s.name: f"infos/{s.name}" for s in export.column_specs}
    data = out / "data"
    data.mkdir(parents=True)
    with h5py.File(data / DATA, "w", track_order=True) as file:
        for exported in export.episodes(every_step_followed=True):
            _add(file.create_group(f"episode_{exported.index}"), exported, sources)
    name = dataset_id(export.name)
    if name != export.name:
        report.notes.append(f"the data set is called {name}: Minari finds it in a directory of that name")
    metadata = {
        "total_episodes": report.episodes,
        "total_steps": report.steps,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": json.dumps(minari_spaces.describe_observation(spec)),
        "action_space": json.dumps(_action_space(spec, export.actions)),
        "dataset_id": name,
        "minari_version": VERSION,
        "dataset_size": round((data / DATA).stat().st_size / 1e6, 1),
        **({"env_spec": spec.metadata["env_spec"]} if "env_spec" in spec.metadata else {}),
        kept.NAME: json.loads(export.keep(sources).to_json()),
    }
    (data / METADATA).write_text(json.dumps(metadata))


def dataset_id(name: str) -> str:
    """`name` as Minari allows it: letters, digits, "-" and "_", and a version at the end."""
    allowed = re.sub(r"[^-_\w]+", "-", name).strip("-") or "dataset"
    return allowed if _ID.fullmatch(allowed) else f"{allowed}-v0"


def _action_space(spec: RobotSpec, actions: kept.ActionKind) -> dict[str, Any]:
    space = minari_spaces.describe_action(spec)
    if actions == "commanded":  # which may lie outside the bounds
        infinite = np.full(spec.action.size, np.inf)
        space |= {"low": (-infinite).tolist(), "high": infinite.tolist()}
    return space


def _add(group: h5py.Group, exported: ExportedEpisode, sources: dict[str, str]) -> None:
    episode = exported.episode
    group.attrs["id"] = exported.index
    group.attrs["total_steps"] = len(episode)
    if episode.info.seed is not None:
        group.attrs["seed"] = episode.info.seed
    group.attrs[kept.NAME] = exported.entry
    for s in episode.spec.observation:
        hdf5_writing.put(group, sources[s.name], _followed(episode.observations[s.name], len(episode)))
    hdf5_writing.put(group, "actions", exported.actions)
    if exported.rewards is not None:
        hdf5_writing.put(group, "rewards", exported.rewards)
    hdf5_writing.put(group, "terminations", exported.terminated)
    hdf5_writing.put(group, "truncations", exported.truncated)
    for name, column in exported.columns.items():
        hdf5_writing.put(group, f"infos/{name}", column)


def _followed(rows: NDArray[Any], steps: int) -> NDArray[Any]:
    """With a row after the last step: after a termination nothing is read of it, so the last one stands there again."""
    return rows if len(rows) == steps + 1 else np.concatenate([rows, rows[-1:]])
