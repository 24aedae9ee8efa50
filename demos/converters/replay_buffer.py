"""diffusion_policy's replay buffer: a zarr group of format 2, `data/*` with one row per step, `meta/episode_ends`.

There is no observation after the last step of an episode, no reward and no end of a task. A directory or a zip file.
"""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
import zarr.storage

from demos.converters import kept
from demos.converters.conversion import Conversion, ConversionTarget, ImportReport, RawEpisode, with_signals
from demos.converters.fields import FieldSource, check_known
from demos.converters.kept import KeptFile
from robot_rlpd.episode import Ended
from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.specs import DTYPES, ActionComponent, ActionSpec, ArraySpec, RobotSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ACTION, REWARD = "action", "reward"
"""Names of the arrays in `data` that are no observation."""
FINAL = f"{kept.NAME}/final"
"""Group of the observations after the last step, one row per episode, in an export of ours."""


def read(path: Path, target: ConversionTarget) -> Conversion:
    """Open a replay buffer; see `Converter`."""
    root = _open(path)
    ours = _kept_file(root, path)
    arrays = dict(root["data"].arrays()) if "data" in root else {}
    ends = _ends(root, arrays, path)
    wanted = target.spec or (
        ours.robot(where=path.name) if ours else _describe(path, arrays, ends, target.control_rate_hz)
    )
    given = target.fields if ours is None else ours.known_sources(target, wanted)
    check_known(given, [s.name for s in (*wanted.observation, *wanted.signals)])
    sources = {s.name: given.get(s.name) or FieldSource(dataset=f"data/{s.name}") for s in wanted.observation}
    for name in (REWARD, *(s.name for s in wanted.signals)):
        if name in given or f"data/{name}" in root:
            sources[name] = given.get(name) or FieldSource(dataset=f"data/{name}")
    spec = with_signals(wanted, set(sources) - {s.name for s in wanted.observation})
    _check(root, spec, sources, int(ends[-1]), path)
    used = {f"data/{ACTION}", *(source.dataset for source in sources.values())}
    report = ImportReport(
        fields={name: str(source) for name, source in sources.items()},
        unused=[f"data/{name}" for name in arrays if f"data/{name}" not in used],
        missing_signals=[s.name for s in wanted.signals if s.name not in sources],
        notes=[] if ours else ["nothing says how episodes ended: all count as truncated"],
    )

    def read_raw() -> Iterator[RawEpisode]:
        return _episodes(_open(path), ends, spec, sources, ours, path)

    return Conversion(path=path, spec=spec, target=target, num_steps=int(ends[-1]), read_raw=read_raw, report=report)


def _open(path: Path) -> Any:
    """The root group; typed as anything, because what lies in a group is an array or a group."""
    if not path.exists():
        raise DataError("no such file", field=str(path))
    try:
        store = (
            zarr.storage.ZipStore(path, mode="r") if path.is_file() else zarr.storage.LocalStore(path, read_only=True)
        )
        return zarr.open_group(store, mode="r", zarr_format=2)
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise DataError(f"not a zarr group of format 2 ({error})", field=str(path)) from None


def _kept_file(root: Any, path: Path) -> KeptFile | None:
    entry = root.attrs.get(kept.NAME)
    return None if entry is None else KeptFile.parse(json.dumps(entry), where=path.name)


def _ends(root: Any, arrays: dict[str, Any], path: Path) -> NDArray[np.int64]:
    for name, there in (("data/action", ACTION in arrays), ("meta/episode_ends", "meta/episode_ends" in root)):
        if not there:
            raise DataError("no such array", field=f"{path.name}, {name}", allowed=", ".join(sorted(arrays)) or "none")
    ends = _rows(root, "meta/episode_ends", 0, root["meta/episode_ends"].shape[0], path).astype(np.int64)
    if not len(ends) or (np.diff(ends, prepend=0) < 0).any() or ends[-1] > arrays[ACTION].shape[0]:
        found = f"{ends[:5].tolist()} ..." if len(ends) else "no episode"
        allowed = f"increasing, up to the {arrays[ACTION].shape[0]} rows of data/action"
        raise DataError(field=f"{path.name}, meta/episode_ends", found=found, allowed=allowed)
    return ends


def _describe(path: Path, arrays: dict[str, Any], ends: NDArray[np.int64], rate_hz: float | None) -> RobotSpec:
    """Every array but the action is an observation; the bounds of the action are those that occur."""
    if rate_hz is None:
        raise ConfigError(
            "the file does not say its control rate", field="control_rate_hz", hint="give --control-rate-hz"
        )
    action = arrays[ACTION]
    low, high = np.full(action.shape[-1], np.inf), np.full(action.shape[-1], -np.inf)
    for start, stop in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        if stop > start:
            rows = _rows_of(action, start, stop, path)
            low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
    return RobotSpec(
        name=path.name,
        observation=tuple(
            _field(name, array) for name, array in sorted(arrays.items()) if name not in (ACTION, REWARD)
        ),
        action=ActionSpec(
            components=tuple(
                ActionComponent(name=f"action_{i}", low=a, high=b if b > a else a + 1.0)
                for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True))
            )
        ),
        control_rate_hz=rate_hz,
    )


def _field(name: str, array: Any) -> ArraySpec:
    is_image = len(array.shape) == 4 and array.shape[-1] in (1, 3)
    dtype = str(array.dtype) if str(array.dtype) in DTYPES and array.dtype != np.float64 else "float32"
    return ArraySpec(name=name, shape=array.shape[1:], dtype="uint8" if is_image else dtype, is_image=is_image)


def _check(root: Any, spec: RobotSpec, sources: dict[str, FieldSource], steps: int, path: Path) -> None:
    action = root["data/action"]
    if action.shape[1:] != (spec.action.size,):
        found = f"shape {action.shape[1:]} per step"
        raise DataError(field=f"{path.name}, data/action", found=found, allowed=f"({spec.action.size},)")
    for s in (*spec.observation, *spec.signals):
        name = sources[s.name].dataset
        if name not in root:
            known = ", ".join(key for key, _ in root["data"].arrays())
            raise DataError(f"no array for '{s.name}'", field=f"{path.name}, {name}", allowed=f"of data: {known}")
        array = root[name]
        dtype = np.dtype(np.uint8) if s.is_image else array.dtype  # pixels are often stored as floats
        sources[s.name].check(array.shape, dtype, s)
        if array.shape[0] < steps:
            raise DataError(field=f"{path.name}, {name}", found=f"{array.shape[0]} rows", allowed=f"{steps}")


def _episodes(
    root: Any,
    ends: NDArray[np.int64],
    spec: RobotSpec,
    sources: dict[str, FieldSource],
    ours: KeptFile | None,
    path: Path,
) -> Iterator[RawEpisode]:
    start = 0
    for index, stop in enumerate(ends.tolist()):
        rows = {
            s.name: _taken(_rows(root, sources[s.name].dataset, start, stop, path), sources[s.name], s)
            for s in (*spec.observation, *spec.signals)
        }
        raw = RawEpisode(
            observations={s.name: rows[s.name] for s in spec.observation},
            actions=_rows(root, f"data/{ACTION}", start, stop, path),
            signals={s.name: rows[s.name] for s in spec.signals},
            ended=Ended.TRUNCATED,
        )
        yield raw if ours is None else _restored(root, raw, index, (start, stop), ours, path)
        start = stop


def _restored(root: Any, raw: RawEpisode, index: int, span: tuple[int, int], ours: KeptFile, path: Path) -> RawEpisode:
    held = {
        name: _rows(root, f"{kept.NAME}/{name}", *span, path) for name in kept.COLUMNS if f"{kept.NAME}/{name}" in root
    }
    observations = {}
    for name, rows in raw.observations.items():
        place = f"{FINAL}/{ours.sources[name].removeprefix('data/')}" if name in ours.sources else ""
        if place not in root or rows.shape[1:] != root[place].shape[1:]:
            break
        final = _rows(root, place, index, index + 1, path).astype(rows.dtype)
        observations[name] = np.concatenate([rows, final])
    else:
        raw = RawEpisode(observations=observations, actions=raw.actions, signals=raw.signals, ended=raw.ended)
    begin, end = _rows(root, f"{kept.NAME}/entry_ends", index, index + 2, path).tolist()
    entry = _rows(root, f"{kept.NAME}/entries", begin, end, path).tobytes()
    return kept.restored(raw, entry, held, ours.actions, where=f"{path.name}, episode {index}")


def _taken(rows: NDArray[Any], source: FieldSource, spec: ArraySpec) -> NDArray[Any]:
    if spec.is_image and rows.dtype.kind == "f":
        rows = np.clip(np.rint(rows), 0, 255)
    return source.take(rows, spec)


def _rows(root: Any, name: str, start: int, stop: int, path: Path) -> NDArray[Any]:
    return _rows_of(root[name], start, stop, path)


def _rows_of(array: Any, start: int, stop: int, path: Path) -> NDArray[Any]:
    where = f"{path.name}, {array.path}"
    try:
        rows = np.asarray(array[start:stop])
    except Exception as error:  # every codec has errors of its own
        raise DataError(f"not readable: {error}", field=where) from None
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        step = start + int(np.argwhere(~np.isfinite(rows))[0][0])
        raise DataError(field=f"{where}, row {step}", found="NaN or infinity", allowed="finite numbers")
    return rows
