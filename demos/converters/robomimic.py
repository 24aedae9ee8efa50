"""robomimic's layout: one group `data/demo_*` per episode with `actions`, `obs/*`, `next_obs/*`, `rewards`, `dones`.

`dones` marks the end of a recording as well as the end of a task: a done step counts as terminated only where its
reward is positive. Without a named task the robot is described from the file itself.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from demos.converters import hdf5, kept
from demos.converters.conversion import Conversion, ConversionTarget, ImportReport, RawEpisode, with_signals
from demos.converters.fields import FieldSource, check_known
from robot_rlpd.episode import Ended
from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.specs import DTYPES, ActionComponent, ActionSpec, ArraySpec, RobotSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from demos.converters.kept import KeptFile


def read(path: Path, target: ConversionTarget) -> Conversion:
    """Open a file in robomimic's layout; see `Converter`."""
    with hdf5.open_file(path) as file:
        demos = _demos(file)
        first = demos[0]
        ours = hdf5.kept_file(file)
        wanted = target.spec or (ours.robot(where=path.name) if ours else describe(file, target.control_rate_hz))
        check_known(target.fields, [s.name for s in wanted.observation])
        sources = {s.name: target.fields.get(s.name) or FieldSource(dataset=s.name) for s in wanted.observation}
        signals, notes = {"reward": "rewards"} if "rewards" in first else {}, list[str]()
        if ours is not None:
            signals |= {name: place for name, place in ours.sources.items() if place.startswith(f"{kept.NAME}/")}
        elif {"rewards", "dones"} <= first.keys():
            signals["terminated"] = "dones"
            notes.append("done with a reward counts as terminated, done without one as truncated")
        spec = with_signals(wanted, set(signals))
        signals = {s.name: signals[s.name] for s in spec.signals}
        for demo in demos:
            _check(demo, spec, sources, signals)
        used = {f"obs/{source.dataset}" for source in sources.values()}
        used |= {f"next_{name}" for name in used} | {"actions", "rewards", "dones", *signals.values()}
        used |= {f"{kept.NAME}/{name}" for name in kept.COLUMNS if ours is not None}
        report = ImportReport(
            fields={name: f"obs/{source}" for name, source in sources.items()} | signals,
            unused=[name for name in hdf5.names(first) if name not in used],
            missing_signals=[s.name for s in wanted.signals if s.name not in signals],
            notes=notes,
        )
        num_steps = sum(len(demo["actions"]) for demo in demos)
        names = [demo.name for demo in demos]

    def read_raw() -> Iterator[RawEpisode]:
        with hdf5.open_file(path) as file:
            for index, name in enumerate(names):
                raw = _episode(file[name], index, spec, sources, signals)
                yield raw if ours is None else _restored(raw, file[name], ours)

    return Conversion(path=path, spec=spec, target=target, num_steps=num_steps, read_raw=read_raw, report=report)


def _restored(raw: RawEpisode, demo: h5py.Group, ours: KeptFile) -> RawEpisode:
    held = {name: demo[f"{kept.NAME}/{name}"][:] for name in kept.COLUMNS if f"{kept.NAME}/{name}" in demo}
    return kept.restored(raw, demo.attrs[kept.NAME], held, ours.actions, where=hdf5.where(demo))


def describe(file: h5py.File, control_rate_hz: float | None) -> RobotSpec:
    """The robot as the file shows it: every observation of the first episode, actions within [-1, 1].

    Raises:
        ConfigError: The file does not say its control rate and it is not given.
    """
    first = _demos(file)[0]
    arguments = _environment(file)
    kwargs = arguments.get("env_kwargs", {})
    rate = control_rate_hz or kwargs.get("control_freq")
    if not isinstance(rate, (int, float)):
        raise ConfigError(
            "the file does not say its control rate", field="control_rate_hz", hint="give --control-rate-hz"
        )
    observations = hdf5.names(first["obs"]) if "obs" in first else []
    if not observations:
        raise DataError(
            "no observations", field=hdf5.where(first, "obs"), hint="extract observations from states first"
        )
    size = hdf5.dataset(first, "actions").shape[-1]
    robots = kwargs.get("robots", "")
    return RobotSpec(
        name=" ".join(str(part) for part in (arguments.get("env_name", "robomimic"), robots) if part),
        observation=tuple(_field(name, first["obs"][name]) for name in observations),
        action=ActionSpec(components=tuple(ActionComponent(name=f"action_{i}") for i in range(size))),
        control_rate_hz=float(rate),
        metadata={"env_args": json.dumps(arguments)} if arguments else {},
    )


def _environment(file: h5py.File) -> dict[str, Any]:
    try:
        arguments = json.loads(file["data"].attrs.get("env_args", "{}"))
    except (TypeError, ValueError):
        raise DataError("not JSON", field="data, attribute env_args") from None
    return arguments if isinstance(arguments, dict) else {}


def _field(name: str, data: h5py.Dataset) -> ArraySpec:
    is_image = data.dtype == np.uint8 and data.ndim == 4
    dtype = str(data.dtype) if str(data.dtype) in DTYPES and data.dtype != np.float64 else "float32"
    return ArraySpec(name=name, shape=data.shape[1:], dtype=dtype, is_image=is_image)


def _demos(file: h5py.File) -> list[h5py.Group]:
    group = file.get("data")
    names = list(group) if isinstance(group, h5py.Group) else []
    names = [name for name in names if re.fullmatch(r"demo_\d+", name) and isinstance(group[name], h5py.Group)]
    if not names:
        raise DataError("no episodes", field=f"{file.filename}, data/demo_*", found=", ".join(file) or "an empty file")
    return [group[name] for name in sorted(names, key=lambda name: int(name.rpartition("_")[2]))]


def _check(demo: h5py.Group, spec: RobotSpec, sources: dict[str, FieldSource], signals: dict[str, str]) -> None:
    actions = hdf5.dataset(demo, "actions")
    if actions.shape[1:] != (spec.action.size,):
        found = f"shape {actions.shape[1:]} per step"
        raise DataError(field=hdf5.where(demo, "actions"), found=found, allowed=f"({spec.action.size},)")
    steps = {name: hdf5.dataset(demo, name) for name in signals.values()}
    for s in spec.observation:
        data = steps[f"obs/{s.name}"] = hdf5.dataset(demo, f"obs/{sources[s.name].dataset}")
        sources[s.name].check(data.shape, data.dtype, s)
    for name, data in steps.items():
        if len(data) != len(actions):
            allowed = f"{len(actions)} as in actions"
            raise DataError(field=hdf5.where(demo, name), found=f"{len(data)} rows", allowed=allowed)


def _episode(
    demo: h5py.Group,
    index: int,
    spec: RobotSpec,
    sources: dict[str, FieldSource],
    places: dict[str, str],
) -> RawEpisode:
    steps = len(demo["actions"])
    signals: dict[str, Any] = {}
    for s in spec.signals:
        rows = hdf5.rows(demo[places[s.name]], 0, steps, episode=index)
        signals[s.name] = rows.reshape(steps, *s.shape).astype(s.dtype)
    if places.get("terminated") == "dones":
        signals["terminated"] &= signals["reward"] > 0
    has_next = all(f"next_obs/{sources[s.name].dataset}" in demo for s in spec.observation)
    observations = {}
    for s in spec.observation:
        name = sources[s.name].dataset
        rows = hdf5.rows(demo[f"obs/{name}"], 0, steps, episode=index)
        if has_next:
            last = hdf5.rows(demo[f"next_obs/{name}"], steps - 1, steps, episode=index)
            rows = np.concatenate([rows, last])
        observations[s.name] = sources[s.name].take(rows, s)
    terminated = "terminated" in signals and steps > 0 and signals["terminated"][-1]
    return RawEpisode(
        observations=observations,
        actions=hdf5.rows(demo["actions"], 0, steps, episode=index),
        signals=signals,
        ended=Ended.TERMINATED if terminated else Ended.TRUNCATED,
    )
