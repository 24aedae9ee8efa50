"""D4RL's layout: one row per step in `observations`, `actions`, `rewards`, `terminals` and `timeouts`.

The file has no observation after the last step of an episode. A terminated last step needs none; a timed-out one is
kept in the episode, and is no transition. A `next_observations` dataset is used where there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from demos.converters import hdf5
from demos.converters.conversion import Conversion, ConversionTarget, ImportReport, RawEpisode, with_signals
from demos.converters.fields import FieldSource, check_known
from robot_rlpd.episode import Ended
from robot_rlpd.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

    from robot_rlpd.specs import ArraySpec, RobotSpec

_SIGNAL_DATASETS = {"reward": "rewards", "terminated": "terminals", "truncated": "timeouts"}


def read(path: Path, target: ConversionTarget) -> Conversion:
    """Open a file in D4RL's layout; see `Converter`."""
    if target.spec is None:
        raise ConfigError("this format does not describe its robot", field="task", hint="name a task with --task")
    with hdf5.open_file(path) as file:
        sources = _sources(file, target.spec, target.fields)
        held = {name for name in sources if name not in {s.name for s in target.spec.observation}}
        spec = with_signals(target.spec, held)
        _check(file, spec, sources)
        num_steps = len(file["actions"])
        used = {"actions", "timeouts", "terminals", *(s.dataset for s in sources.values())}
        report = ImportReport(
            fields={name: str(source) for name, source in sources.items()},
            unused=[name for name in hdf5.names(file) if name not in used],
            missing_signals=[s.name for s in target.spec.signals if s.name not in held],
        )
        if "timeouts" not in file:
            report.notes.append("no timeouts in the file: episodes are split at terminals only")

    def read_raw() -> Iterator[RawEpisode]:
        with hdf5.open_file(path) as file:
            yield from _episodes(file, spec, sources)

    return Conversion(path=path, spec=spec, target=target, num_steps=num_steps, read_raw=read_raw, report=report)


def _sources(file: h5py.File, spec: RobotSpec, given: dict[str, FieldSource]) -> dict[str, FieldSource]:
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
        elif default is not None and default in file and (declared or name != "truncated"):
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


def _episodes(file: h5py.File, spec: RobotSpec, sources: dict[str, FieldSource]) -> Iterator[RawEpisode]:
    total = len(file["actions"])
    terminals, timeouts = (
        np.asarray(file[name][:], np.bool_).reshape(-1) if name in file else np.zeros(total, np.bool_)
        for name in ("terminals", "timeouts")
    )
    stops = sorted({*(np.flatnonzero(terminals | timeouts) + 1).tolist(), total} - {0})
    start = 0
    for episode, stop in enumerate(stops):
        cache: dict[str, NDArray[Any]] = {}

        def part(name: str, first: int = start, last: int = stop, episode: int = episode) -> NDArray[Any]:
            return hdf5.rows(file[name], first, last, episode=episode)

        for s in spec.observation:
            source = sources[s.name]
            rows = part(source.dataset)
            if _has_next(file, sources, spec):
                rows = np.concatenate([rows, part(f"next_{source.dataset}", stop - 1)])
            cache[s.name] = source.take(rows, s)
        yield RawEpisode(
            observations=cache,
            actions=part("actions"),
            signals={s.name: sources[s.name].take(part(sources[s.name].dataset), s) for s in spec.signals},
            ended=_ended(bool(terminals[stop - 1]), bool(timeouts[stop - 1])),
        )
        start = stop


def _has_next(file: h5py.File, sources: dict[str, FieldSource], spec: RobotSpec) -> bool:
    return all(f"next_{sources[s.name].dataset}" in file for s in spec.observation)


def _ended(terminated: bool, timed_out: bool) -> Ended:
    if terminated:
        return Ended.TERMINATED
    return Ended.TRUNCATED if timed_out else Ended.INTERRUPTED
