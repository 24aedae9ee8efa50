"""D4RL's layout: one row per step in `observations`, `actions`, `rewards`, `terminals` and `timeouts`.

The file has no observation after the last step of an episode. A terminated last step needs none; a timed-out one is
kept in the episode, and is no transition. A `next_observations` dataset is used where there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from demos.converters import hdf5, kept
from demos.converters.conversion import Conversion, ConversionTarget, ImportReport, RawEpisode, with_signals
from demos.converters.fields import FieldSource, check_known
from robot_rlpd.episode import Ended
from robot_rlpd.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py
    from numpy.typing import NDArray

    from demos.converters.kept import KeptFile
    from robot_rlpd.specs import ArraySpec, RobotSpec

FLAGS_AT_ONCE = 2**20
"""Steps whose ends are read together."""
_SIGNAL_DATASETS = {"reward": "rewards", "terminated": "terminals", "truncated": "timeouts"}


def read(path: Path, target: ConversionTarget) -> Conversion:
    """Open a file in D4RL's layout; see `Converter`."""
    with hdf5.open_file(path) as file:
        ours = hdf5.kept_file(file)
        wanted = target.spec or (ours.robot(where=path.name) if ours is not None else None)
        if wanted is None:
            raise ConfigError("this format does not describe its robot", field="task", hint="name a task with --task")
        given = target.fields if ours is None else ours.known_sources(target, wanted)
        sources = _sources(file, wanted, given, foreign=ours is None)
        held = {name for name in sources if name not in {s.name for s in wanted.observation}}
        spec = with_signals(wanted, held)
        sources = {s.name: sources[s.name] for s in (*spec.observation, *spec.signals)}
        _check(file, spec, sources)
        num_steps = len(file["actions"])
        used = {"actions", "timeouts", "terminals", *(s.dataset for s in sources.values())}
        used |= {f"next_{name}" for name in used}
        report = ImportReport(
            fields={name: str(source) for name, source in sources.items()},
            unused=[name for name in hdf5.names(file) if name not in used and not _is_kept(name, ours)],
            missing_signals=[s.name for s in wanted.signals if s.name not in held],
        )
        if "timeouts" not in file:
            report.notes.append("no timeouts in the file: episodes are split at terminals only")

    def read_raw() -> Iterator[RawEpisode]:
        with hdf5.open_file(path) as file:
            yield from _episodes(file, spec, sources, ours)

    return Conversion(path=path, spec=spec, target=target, num_steps=num_steps, read_raw=read_raw, report=report)


def _is_kept(name: str, ours: KeptFile | None) -> bool:
    return ours is not None and (name.startswith(f"{kept.NAME}/") or name.removeprefix("infos/") in kept.COLUMNS)


def _sources(
    file: h5py.File, spec: RobotSpec, given: dict[str, FieldSource], *, foreign: bool
) -> dict[str, FieldSource]:
    """The source of every observation field and of every signal that the file holds."""
    check_known(given, [s.name for s in (*spec.observation, *spec.signals)])
    sources = {}
    for s in spec.observation:
        source = given.get(s.name) or _default(file, s, alone=len(spec.observation) == 1)
        if source is None:
            raise DataError(
                f"no source for field '{s.name}' of shape {s.shape}",
                field=file.filename,
                allowed=", ".join(f"{name} {file[name].shape[1:]}" for name in hdf5.names(file)),
                hint=f"name one with --field {s.name}=DATASET",
            )
        sources[s.name] = source
    for name in (*_SIGNAL_DATASETS, *(s.name for s in spec.signals)):
        declared = name in {s.name for s in spec.signals}
        default = _SIGNAL_DATASETS.get(name)
        if name in given:
            sources[name] = given[name]
        elif declared and f"infos/{name}" in file:
            sources[name] = FieldSource(dataset=f"infos/{name}")
        elif default is not None and default in file and (declared or (foreign and name != "truncated")):
            sources[name] = FieldSource(dataset=default)
    return sources


def _default(file: h5py.File, spec: ArraySpec, *, alone: bool) -> FieldSource | None:
    """A dataset of the field's name; `observations` for a field of that name, or for the only one."""
    names = [spec.name, f"infos/{spec.name}"]
    if alone or spec.name in ("observation", "observations"):
        names.append("observations")
    return next((FieldSource(dataset=name) for name in names if name in file), None)


def _check(file: h5py.File, spec: RobotSpec, sources: dict[str, FieldSource]) -> None:
    actions = hdf5.dataset(file, "actions")
    if actions.shape[1:] != (spec.action.size,):
        found = f"shape {actions.shape[1:]} per step"
        raise DataError(field=hdf5.where(file, "actions"), found=found, allowed=f"({spec.action.size},)")
    if "terminals" not in file and "timeouts" not in file:
        hdf5.dataset(file, "terminals")
    checked = {name: hdf5.dataset(file, source.dataset) for name, source in sources.items()}
    for s in (*spec.observation, *spec.signals):
        data = checked[s.name]
        sources[s.name].check(data.shape, data.dtype, s)
    flags = {name: hdf5.dataset(file, name) for name in ("terminals", "timeouts") if name in file}
    for name, data in {**checked, **flags}.items():
        if len(data) != len(actions):
            allowed = f"{len(actions)} as in actions"
            raise DataError(field=hdf5.where(file, name), found=f"{len(data)} rows", allowed=allowed)
    for name, data in flags.items():
        if data.size != len(data):
            raise DataError(field=hdf5.where(file, name), found=f"shape {data.shape}", allowed="one flag per step")


def _episodes(
    file: h5py.File, spec: RobotSpec, sources: dict[str, FieldSource], ours: KeptFile | None
) -> Iterator[RawEpisode]:
    start = 0
    has_next = all(f"next_{sources[s.name].dataset}" in file for s in spec.observation)
    columns = [name for name in kept.COLUMNS if ours is not None and f"infos/{name}" in file]
    for episode, (stop, ended) in enumerate(_ends(file, ours)):

        def part(name: str, first: int = start, last: int = stop, episode: int = episode) -> NDArray[Any]:
            return hdf5.rows(file[name], first, last, episode=episode)

        observations = {}
        for s in spec.observation:
            source = sources[s.name]
            rows = part(source.dataset)
            if has_next:
                rows = np.concatenate([rows, part(f"next_{source.dataset}", stop - 1)])
            observations[s.name] = source.take(rows, s)
        raw = RawEpisode(
            observations=observations,
            actions=part("actions"),
            signals={s.name: sources[s.name].take(part(sources[s.name].dataset), s) for s in spec.signals},
            ended=ended,
        )
        if ours is not None:
            held = {name: part(f"infos/{name}") for name in columns}
            entry = file[f"{kept.NAME}/episodes"][episode]
            where = f"{Path(file.filename).name}, episode {episode}"
            raw = kept.restored(raw, entry, held, ours.actions, where=where)
        yield raw
        start = stop


def _ends(file: h5py.File, ours: KeptFile | None) -> Iterator[tuple[int, Ended]]:
    """The row after each episode, and how it ended; flags are read piece by piece."""
    total, last = len(file["actions"]), 0
    if ours is not None:
        for end in file[f"{kept.NAME}/ends"][:].tolist():
            yield end, Ended.INTERRUPTED  # what was kept says how
        return
    for start in range(0, total, FLAGS_AT_ONCE):
        stop = min(start + FLAGS_AT_ONCE, total)
        terminals, timeouts = (
            np.asarray(file[name][start:stop], np.bool_).reshape(-1) if name in file else np.zeros(stop - start, bool)
            for name in ("terminals", "timeouts")
        )
        for row in np.flatnonzero(terminals | timeouts).tolist():
            last = start + row + 1
            yield last, Ended.TERMINATED if terminals[row] else Ended.TRUNCATED
    if last < total:
        yield total, Ended.INTERRUPTED
