"""LeRobot data sets of version 3: steps in parquet files, cameras in mp4 files or as images in the parquet files.

There is no observation after the last step of an episode. `next.done` marks the end of a recording as well as the end
of a task: a done step counts as terminated only where `next.success` says so or, without that, its reward is positive.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from demos.converters import kept, lerobot_features, video
from demos.converters.conversion import Conversion, ConversionTarget, ImportReport, RawEpisode, with_signals
from demos.converters.fields import FieldSource, check_known
from demos.converters.kept import KeptFile
from demos.converters.lerobot_layout import (
    ACTION,
    DEFAULTS,
    DONE,
    INFO,
    KEPT,
    REWARD,
    STATS,
    SUCCESS,
    TASKS,
    VIDEO_FILE,
)
from robot_rlpd.episode import Ended
from robot_rlpd.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from robot_rlpd.specs import ArraySpec, RobotSpec

ROWS_AT_ONCE = 512
_SIGNALS = {"reward": REWARD, "terminated": DONE, "success": SUCCESS}


def read(path: Path, target: ConversionTarget) -> Conversion:
    """Open a data set's directory; see `Converter`."""
    info = _info(path)
    ours = KeptFile.parse((path / KEPT).read_bytes(), where=KEPT) if (path / KEPT).exists() else None
    features: dict[str, Any] = info["features"]
    wanted = target.spec or (
        ours.robot(where=KEPT) if ours else lerobot_features.describe(info, _json(path / STATS), target.control_rate_hz)
    )
    given = target.fields if ours is None else ours.known_sources(target, wanted)
    check_known(given, [s.name for s in (*wanted.observation, *wanted.signals)])
    sources = {s.name: given.get(s.name) or lerobot_features.source(features, s) for s in wanted.observation}
    for name in dict.fromkeys((*_SIGNALS, *(s.name for s in wanted.signals))):
        declared = name in {s.name for s in wanted.signals}
        if name in given:
            sources[name] = given[name]
        elif _SIGNALS.get(name) in features and (declared or ours is None):
            sources[name] = FieldSource(dataset=_SIGNALS[name])
    if DONE in features and not {REWARD, SUCCESS} & features.keys() and ours is None:
        sources.pop("terminated", None)
    spec = with_signals(wanted, set(sources) - {s.name for s in wanted.observation})
    _check(features, spec, sources)
    used = {ACTION, DONE, *DEFAULTS, *(source.dataset for source in sources.values())}
    used |= {f"{kept.NAME}.{name}" for name in kept.COLUMNS}
    report = ImportReport(
        fields={name: str(source) for name, source in sources.items()},
        unused=[name for name in features if name not in used],
        missing_signals=[s.name for s in wanted.signals if s.name not in sources],
        notes=[] if target.spec or ours else ["the bounds of the action are the least and the greatest that occur"],
    )

    def read_raw() -> Iterator[RawEpisode]:
        return _Reader(path, info, spec, sources, ours).episodes()

    steps = int(info["total_frames"])
    return Conversion(path=path, spec=spec, target=target, num_steps=steps, read_raw=read_raw, report=report)


def _info(path: Path) -> dict[str, Any]:
    info = _json(path / INFO)
    version = str(info.get("codebase_version", "unknown"))
    if not version.startswith("v3."):
        hint = "LeRobot has converters from older versions"
        raise DataError(field=f"{path / INFO}, codebase_version", found=version, allowed="v3.x", hint=hint)
    for key in ("features", "fps", "total_frames"):
        if key not in info:
            raise DataError("missing", field=f"{path / INFO}, {key}")
    return info


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError("no such file", field=str(path)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"not readable: {error}", field=str(path)) from None
    if not isinstance(found, dict):
        raise DataError(field=str(path), found=type(found).__name__, allowed="a JSON object")
    return found


def _check(features: dict[str, Any], spec: RobotSpec, sources: dict[str, FieldSource]) -> None:
    size = int(np.prod(features.get(ACTION, {"shape": [0]})["shape"]))
    if size != spec.action.size:
        raise DataError(field=ACTION, found=f"{size} components", allowed=str(spec.action.size))
    for s in (*spec.observation, *spec.signals):
        column = sources[s.name].dataset
        if column not in features:
            raise DataError(f"no column for '{s.name}'", field=column, allowed=", ".join(features))
        feature = features[column]
        if feature["dtype"] in ("video", "image"):
            height, width, _ = lerobot_features.pixels(feature)
            if not s.is_image or s.shape[:2] != (height, width):
                raise DataError(field=column, found=f"images of {height} x {width}", allowed=f"shape {s.shape}")
        else:
            sources[s.name].check((1, *feature["shape"]), np.dtype(feature["dtype"]), s)


class _Reader:
    """Reads steps piece by piece and puts the episodes together."""

    def __init__(
        self, path: Path, info: dict[str, Any], spec: RobotSpec, sources: dict[str, FieldSource], ours: KeptFile | None
    ) -> None:
        self._path, self._info, self._spec, self._sources, self._ours = path, info, spec, sources, ours
        self._features = info["features"]
        self._rate_hz = float(info["fps"])
        self._tasks = _tasks(path)
        stored = {source.dataset for source in sources.values() if self._kind(source) != "video"}
        columns = {ACTION, "episode_index", "task_index", "timestamp", *stored, *({DONE} & self._features.keys())}
        columns |= {f"{kept.NAME}.{name}" for name in kept.COLUMNS if f"{kept.NAME}.{name}" in self._features}
        self._columns = sorted(columns)

    def episodes(self) -> Iterator[RawEpisode]:
        """One after the other."""
        described = self._described()
        for number, table in self._tables():
            entry = next(described, None)
            if entry is None or entry["episode_index"] != number or entry["length"] != len(table):
                found = "nothing" if entry is None else f"episode {entry['episode_index']} of {entry['length']} steps"
                allowed = f"episode {number} of {len(table)} steps, as in data"
                raise DataError(field=f"{self._path.name}, meta/episodes", found=found, allowed=allowed)
            yield self._episode(number, table, entry)

    def _described(self) -> Iterator[dict[str, Any]]:
        for file in self._files("meta/episodes"):
            with _parquet(file) as parquet:
                names = [name for name in parquet.schema_arrow.names if not name.startswith("stats/")]
                for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=names):
                    yield from batch.to_pylist()

    def _tables(self) -> Iterator[tuple[int, pa.Table]]:
        """The number and the rows of each episode."""
        waiting: list[pa.Table] = []
        number = -1
        for file in self._files("data"):
            with _parquet(file) as parquet:
                missing = [name for name in self._columns if name not in parquet.schema_arrow.names]
                if missing:
                    raise DataError("no such column", field=f"{file}, {missing[0]}")
                for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=self._columns):
                    rows = pa.Table.from_batches([batch])
                    numbers = rows["episode_index"].to_numpy()
                    for part in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers)) + 1):
                        if waiting and numbers[part[0]] != number:
                            yield number, pa.concat_tables(waiting)
                            waiting = []
                        number = int(numbers[part[0]])
                        waiting.append(rows.slice(part[0], len(part)))
        if waiting:
            yield number, pa.concat_tables(waiting)

    def _files(self, folder: str) -> list[Path]:
        files = sorted((self._path / folder).glob("*/*.parquet"))
        if not files:
            raise DataError("no parquet files", field=str(self._path / folder))
        return files

    def _episode(self, number: int, table: pa.Table, entry: dict[str, Any]) -> RawEpisode:
        def rows(column: str) -> NDArray[Any]:
            return _numbers(table[column], f"{self._path.name}, {column}, episode {number}")

        observations = {s.name: self._field(s, table, entry, number) for s in self._spec.observation}
        signals = {
            s.name: self._sources[s.name].take(rows(self._sources[s.name].dataset), s) for s in self._spec.signals
        }
        success = signals["success"].any() if "success" in signals else None
        if success is None and SUCCESS in table.column_names:
            success = rows(SUCCESS).any()
        if self._ours is None and "terminated" in signals:
            good = signals["success"] if "success" in signals else signals.get("reward", np.zeros(len(table))) > 0
            signals["terminated"] = signals["terminated"] & (good.reshape(-1) != 0)
        terminated = "terminated" in signals and bool(signals["terminated"][-1])
        raw = RawEpisode(
            observations=observations,
            actions=rows(ACTION).reshape(len(table), -1),
            signals=signals,
            ended=Ended.TERMINATED if terminated else Ended.TRUNCATED,
            success=None if success is None else bool(success),
            robot_times_s=rows("timestamp").astype(np.float64),
            task=self._tasks.get(int(rows("task_index")[0]), ""),
        )
        if self._ours is None or kept.NAME not in entry:
            return raw
        held = {name: rows(f"{kept.NAME}.{name}") for name in kept.COLUMNS if f"{kept.NAME}.{name}" in self._columns}
        return kept.restored(raw, entry[kept.NAME], held, self._ours.actions, where=f"{self._path.name}, {number}")

    def _kind(self, source: FieldSource) -> str:
        return str(self._features[source.dataset]["dtype"])

    def _field(self, spec: ArraySpec, table: pa.Table, entry: dict[str, Any], number: int) -> NDArray[Any]:
        column = self._sources[spec.name].dataset
        where = f"{self._path.name}, {column}, episode {number}"
        match self._kind(self._sources[spec.name]):
            case "video":
                place = {name: entry[f"videos/{column}/{name}"] for name in ("chunk_index", "file_index")}
                file = self._path / (self._info.get("video_path") or VIDEO_FILE).format(video_key=column, **place)
                start_s = entry[f"videos/{column}/from_timestamp"]
                return video.read_frames(file, start_s, len(table), self._rate_hz, spec.shape)
            case "image":
                files = table[column].combine_chunks().field("bytes").to_pylist()
                return np.stack([video.decode_image(data or b"", spec.shape, where) for data in files])
        return self._sources[spec.name].take(_numbers(table[column], where), spec)


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"not readable: {str(error).splitlines()[0]}", field=str(path)) from None


def _numbers(column: pa.ChunkedArray, where: str) -> NDArray[Any]:
    """Rows of numbers `(T, ...)` of a column that may hold lists of lists."""
    steps = len(column)
    array = column.combine_chunks()
    while pa.types.is_nested(array.type):
        array = array.flatten()
    if array.null_count or len(array) % max(1, steps):
        raise DataError(field=where, found="missing values", allowed="a value, or as many as in other rows, per step")
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "biuf":
        raise DataError(field=where, found=str(array.type), allowed="numbers")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(field=where, found="NaN or infinity", allowed="finite numbers")
    return values if len(values) == steps else values.reshape(steps, -1)


def _tasks(path: Path) -> dict[int, str]:
    if not (path / TASKS).exists():
        return {}
    with _parquet(path / TASKS) as parquet:
        table = parquet.read()
    texts = [name for name in table.column_names if name != "task_index"]
    if not texts or "task_index" not in table.column_names:
        return {}
    return dict(zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist(), strict=True))
