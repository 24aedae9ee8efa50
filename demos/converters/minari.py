"""Minari's layout: `data/metadata.json`, and `data/main_data.hdf5` with one group `episode_*` per episode.

Every step has the observation after it. The spaces in the metadata describe the robot; its control rate is not there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from demos.converters import hdf5, kept, minari_spaces
from demos.converters.conversion import Conversion, ConversionTarget, ImportReport, RawEpisode, with_signals
from demos.converters.fields import FieldSource, check_known
from demos.converters.kept import KeptFile
from robot_rlpd import images
from robot_rlpd.episode import Ended
from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.specs import RobotSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from robot_rlpd.specs import ArraySpec

DATA, METADATA = "main_data.hdf5", "metadata.json"
_SIGNALS = {"reward": "rewards", "terminated": "terminations", "truncated": "truncations"}


def read(path: Path, target: ConversionTarget) -> Conversion:
    """Open a data set: its directory, or the directory `data` in it; see `Converter`."""
    folder = path / "data" if (path / "data").is_dir() else path
    metadata = _metadata(folder)
    ours = KeptFile.parse(json.dumps(metadata[kept.NAME]), where=METADATA) if kept.NAME in metadata else None
    wanted = target.spec or (ours.robot(where=METADATA) if ours else _describe(metadata, target.control_rate_hz))
    given = target.fields if ours is None else ours.known_sources(target, wanted)
    check_known(given, [s.name for s in (*wanted.observation, *wanted.signals)])
    with hdf5.open_file(folder / DATA) as file:
        names = _episodes(file)
        first = file[names[0]]
        sources = _sources(first, wanted, given, foreign=ours is None)
        spec = with_signals(wanted, {name for name in sources if name not in {s.name for s in wanted.observation}})
        for name in names:
            _check(file[name], spec, sources)
        used = {"actions", *_SIGNALS.values(), *(source.dataset for source in sources.values())}
        used |= {f"infos/{name}" for name in kept.COLUMNS if ours is not None}
        report = ImportReport(
            fields={name: str(source) for name, source in sources.items()},
            unused=[name for name in hdf5.names(first) if name not in used],
            missing_signals=[s.name for s in wanted.signals if s.name not in sources],
        )
        num_steps = sum(len(file[name]["rewards"]) for name in names)

    def read_raw() -> Iterator[RawEpisode]:
        with hdf5.open_file(folder / DATA) as file:
            for index, name in enumerate(names):
                raw = _episode(file[name], index, spec, sources)
                yield raw if ours is None else _restored(raw, file[name], ours)

    return Conversion(path=path, spec=spec, target=target, num_steps=num_steps, read_raw=read_raw, report=report)


def _metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA
    try:
        metadata = json.loads(path.read_text())
        data_format = metadata.get("data_format", "hdf5")
    except FileNotFoundError:
        raise DataError("no such file", field=str(path)) from None
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"not readable: {error}", field=str(path)) from None
    if data_format != "hdf5":
        raise DataError(field=f"{path}, data_format", found=str(data_format), allowed="hdf5")
    found: dict[str, Any] = metadata
    return found


def _describe(metadata: dict[str, Any], rate_hz: float | None) -> RobotSpec:
    if rate_hz is None:
        raise ConfigError(
            "the file does not say its control rate",
            field="control_rate_hz",
            hint="give --control-rate-hz, or name a task with --task",
        )
    for name in ("observation_space", "action_space"):
        if name not in metadata:
            raise DataError("the metadata do not hold the space", field=name, hint="name a task with --task")
    return RobotSpec(
        name=str(metadata.get("dataset_id", "minari")),
        observation=minari_spaces.fields(json.loads(metadata["observation_space"])),
        action=minari_spaces.action(json.loads(metadata["action_space"])),
        control_rate_hz=rate_hz,
        metadata={"env_spec": str(metadata["env_spec"])} if metadata.get("env_spec") else {},
    )


def _episodes(file: h5py.File) -> list[str]:
    names = [name for name in file if name.startswith("episode_") and name[8:].isdecimal()]
    if not names:
        raise DataError("no episodes", field=f"{file.filename}, episode_*", found=", ".join(file) or "an empty file")
    return sorted(names, key=lambda name: int(name[8:]))


def _sources(
    first: h5py.Group, spec: RobotSpec, given: dict[str, FieldSource], *, foreign: bool
) -> dict[str, FieldSource]:
    """The source of every observation field and of every signal that the file holds."""
    alone = isinstance(first.get("observations"), h5py.Dataset)
    sources = {
        s.name: given.get(s.name) or FieldSource(dataset="observations" if alone else f"observations/{s.name}")
        for s in spec.observation
    }
    declared = {s.name for s in spec.signals}
    for name in dict.fromkeys(("reward", "terminated", *(s.name for s in spec.signals), "success")):
        places = [_SIGNALS.get(name, f"infos/{name}"), *(["infos/is_success"] if name == "success" else [])]
        found = [place for place in places if isinstance(first.get(place), h5py.Dataset)]
        if name in given:
            sources[name] = given[name]
        elif found and (name in declared or foreign):
            sources[name] = FieldSource(dataset=found[0])
    return sources


def _check(episode: h5py.Group, spec: RobotSpec, sources: dict[str, FieldSource]) -> None:
    actions = hdf5.dataset(episode, "actions")
    steps = len(hdf5.dataset(episode, "rewards"))
    if actions.shape[1:] != (spec.action.size,) or len(actions) != steps:
        allowed = str((steps, spec.action.size))
        raise DataError(field=hdf5.where(episode, "actions"), found=f"shape {actions.shape}", allowed=allowed)
    for s in spec.observation:
        name = sources[s.name].dataset
        data = episode.get(name)
        if not _is_encoded(data, s):
            data = hdf5.dataset(episode, name)
            sources[s.name].check(data.shape, data.dtype, s)
        if len(data) != steps + 1:
            allowed = f"{steps + 1}, one more than rewards"
            raise DataError(field=hdf5.where(episode, name), found=f"{len(data)} rows", allowed=allowed)
    for s in spec.signals:
        data = hdf5.dataset(episode, sources[s.name].dataset)
        sources[s.name].check(data.shape, data.dtype, s)
        if len(data) not in (steps, steps + 1):
            where = hdf5.where(episode, sources[s.name].dataset)
            raise DataError(field=where, found=f"{len(data)} rows", allowed=f"{steps} or {steps + 1}")


def _is_encoded(data: Any, spec: ArraySpec) -> bool:
    """Whether a dataset holds one JPEG file per row: of their own lengths, or by chance all of one."""
    return (
        isinstance(data, h5py.Dataset)
        and images.is_encodable(spec)
        and (data.dtype.kind == "O" or (data.dtype == np.uint8 and data.ndim == 2 and len(spec.shape) == 3))
    )


def _episode(group: h5py.Group, index: int, spec: RobotSpec, sources: dict[str, FieldSource]) -> RawEpisode:
    steps = len(group["rewards"])

    def part(name: str, start: int, stop: int) -> NDArray[Any]:
        return hdf5.rows(group[name], start, stop, episode=index)

    observations, signals = {}, {}
    for s in spec.observation:
        name = sources[s.name].dataset
        if _is_encoded(group[name], s):
            observations[s.name] = _decoded(group[name], s)
        else:
            observations[s.name] = sources[s.name].take(part(name, 0, steps + 1), s)
    for s in spec.signals:
        name = sources[s.name].dataset
        first = len(group[name]) - steps  # infos begin with those of the reset
        signals[s.name] = sources[s.name].take(part(name, first, first + steps), s)
    terminated = steps > 0 and bool(part("terminations", steps - 1, steps).any())
    truncated = steps > 0 and bool(part("truncations", steps - 1, steps).any())
    ended = Ended.TERMINATED if terminated else (Ended.TRUNCATED if truncated else Ended.INTERRUPTED)
    seed = group.attrs.get("seed")
    return RawEpisode(
        observations=observations,
        actions=part("actions", 0, steps),
        signals=signals,
        ended=ended,
        success=bool(signals["success"].any()) if "success" in signals else None,
        seed=int(seed) if isinstance(seed, (int, np.integer)) else None,
    )


def _decoded(data: h5py.Dataset, spec: ArraySpec) -> NDArray[np.uint8]:
    rows = np.empty((len(data), *spec.shape), np.uint8)
    for t in range(len(data)):
        rows[t] = images.decode(np.ascontiguousarray(data[t]), spec.shape, f"{data.name}, step {t}")
    return rows


def _restored(raw: RawEpisode, group: h5py.Group, ours: KeptFile) -> RawEpisode:
    held = {name: group[f"infos/{name}"][:] for name in kept.COLUMNS if f"infos/{name}" in group}
    return kept.restored(raw, group.attrs[kept.NAME], held, ours.actions, where=hdf5.where(group))
