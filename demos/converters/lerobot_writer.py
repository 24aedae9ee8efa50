"""Writes LeRobot data sets of version 3; see `demos.converters.lerobot`.

Several episodes lie in one parquet file and, per camera, in one mp4 file. Images that are too small or of an odd size
for the video codec are PNG files within the parquet file. The observation after the last step is left out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from demos.converters import kept, lerobot_layout, lerobot_stats, video
from demos.converters.lerobot_layout import (
    ACTION,
    DATA_FILE,
    DATA_MB,
    DONE,
    EPISODES_FILE,
    FILES_PER_CHUNK,
    REWARD,
    STATE,
    VERSION,
    VIDEO_FILE,
    VIDEO_MB,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from demos.converters.export import Export, ExportedEpisode
    from demos.converters.lerobot_layout import Layout

_EPISODES_AT_ONCE = 10


def write(export: Export, out: Path) -> None:
    """Write the directory; see `Exporter`."""
    layout = lerobot_layout.layout_of(export)
    writer = _Writer(export, layout, out)
    try:
        for exported in export.episodes():
            export.report.left_out_observations += int(exported.episode.has_final_observation)
            writer.append(exported)
    finally:
        writer.close()
    writer.write_metadata()
    for key in layout.cameras:
        kind = layout.features[key]["dtype"]
        how = f"AV1 video, rate factor {video.RATE_FACTOR}: lossy" if kind == "video" else "PNG images: without loss"
        export.report.notes.append(f"{key} as {how}")


class _Files:
    """Numbers of the file that is written to, as LeRobot counts them."""

    def __init__(self) -> None:
        self.number = 0

    @property
    def indices(self) -> dict[str, int]:
        """Chunk and file."""
        return {"chunk_index": self.number // FILES_PER_CHUNK, "file_index": self.number % FILES_PER_CHUNK}


class _Table:
    """Parquet files of one kind, a new one begun when the last has its size."""

    def __init__(self, out: Path, pattern: str) -> None:
        self.files = _Files()
        self._out, self._pattern = out, pattern
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> dict[str, int]:
        """Add rows; returns where they lie."""
        self.begin()
        if self._writer is None:
            self._path().parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path(), table.schema, compression="snappy")
        self._writer.write_table(table)
        return self.files.indices

    def begin(self) -> None:
        """Go to the next file if this one has its size."""
        if self._writer is not None and self._path().stat().st_size > DATA_MB * 2**20:
            self.close()
            self.files.number += 1

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _path(self) -> Path:
        return self._out / self._pattern.format(**self.files.indices)


class _Camera:
    """Video files of one camera."""

    def __init__(self, out: Path, key: str, rate_hz: float) -> None:
        self._out, self._key, self._rate_hz = out, key, rate_hz
        self._files = _Files()
        self._writer: video.VideoWriter | None = None

    def append(self, frames: NDArray[np.uint8]) -> dict[str, Any]:
        """Add an episode; returns where it lies."""
        if self._writer is not None and self._writer.num_bytes > VIDEO_MB * 2**20:
            self.close()
            self._files.number += 1
        if self._writer is None:
            path = self._out / VIDEO_FILE.format(video_key=self._key, **self._files.indices)
            self._writer = video.VideoWriter(path, self._rate_hz, *frames.shape[1:3])
        start = self._writer.frames
        self._writer.append(frames)
        times = {"from_timestamp": start / self._rate_hz, "to_timestamp": self._writer.frames / self._rate_hz}
        return {f"videos/{self._key}/{name}": value for name, value in {**self._files.indices, **times}.items()}

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _Writer:
    def __init__(self, export: Export, layout: Layout, out: Path) -> None:
        self._export, self._layout, self._out = export, layout, out
        self._rate_hz = export.spec.control_rate_hz
        self._data, self._episodes = _Table(out, DATA_FILE), _Table(out, EPISODES_FILE)
        videos = [key for key in layout.cameras if layout.features[key]["dtype"] == "video"]
        self._cameras = {key: _Camera(out, key, self._rate_hz) for key in videos}
        self._tasks: dict[str, int] = {}
        self._stats: dict[str, lerobot_stats.Stats] = {}
        self._waiting: list[pa.Table] = []
        self._steps = 0

    def append(self, exported: ExportedEpisode) -> None:
        """Write one episode."""
        steps, task = len(exported.actions), exported.episode.info.task or self._export.spec.name
        task_index = self._tasks.setdefault(task, len(self._tasks))
        columns = _columns(exported, self._layout) | {
            "timestamp": np.arange(steps) / self._rate_hz,
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, exported.index),
            "index": np.arange(self._steps, self._steps + steps),
            "task_index": np.full(steps, task_index),
        }
        stats = {name: lerobot_stats.of_column(rows) for name, rows in columns.items()}
        places: dict[str, Any] = {}
        arrays = {name: _array(rows, self._layout.features[name]) for name, rows in columns.items()}
        for key, s in self._layout.cameras.items():
            frames = np.broadcast_to(exported.steps(s.name), (steps, *s.shape[:2], 3))
            stats[key] = lerobot_stats.of_images(frames)
            if key in self._cameras:
                places |= self._cameras[key].append(frames)
            else:
                arrays[key] = _images(frames)
        ordered = {name: arrays[name] for name in self._layout.features if name in arrays}
        places |= {f"data/{name}": value for name, value in self._data.write(pa.table(ordered)).items()}
        self._describe(exported, task, places, stats)
        self._steps += steps

    def close(self) -> None:
        """Finish the files."""
        self._flush()
        self._data.close()
        self._episodes.close()
        for camera in self._cameras.values():
            camera.close()

    def write_metadata(self) -> None:
        """Write what is known at the end."""
        report, out = self._export.report, self._out
        rate = int(self._rate_hz) if self._rate_hz.is_integer() else self._rate_hz
        details = {"video.codec": "av1", "video.pix_fmt": video.PIXELS, "video.fps": rate, "video.channels": 3}
        details |= {"video.is_depth_map": False, "has_audio": False}
        for key in self._cameras:
            height, width, _ = self._layout.features[key]["shape"]
            self._layout.features[key]["info"] = {"video.height": height, "video.width": width, **details}
        info = {
            "codebase_version": VERSION,
            "robot_type": self._export.spec.name,
            "total_episodes": report.episodes,
            "total_frames": report.steps,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": DATA_MB,
            "video_files_size_in_mb": VIDEO_MB,
            "fps": rate,
            "splits": {"train": f"0:{report.episodes}"},
            "data_path": DATA_FILE,
            "video_path": VIDEO_FILE if self._cameras else None,
            "features": self._layout.features,
        }
        (out / lerobot_layout.INFO).write_text(json.dumps(info, indent=4))
        (out / lerobot_layout.STATS).write_text(json.dumps(lerobot_stats.plain(self._stats), indent=4))
        (out / lerobot_layout.KEPT).write_text(self._export.keep(self._layout.sources).to_json())
        pq.write_table(_tasks_table(self._tasks), out / lerobot_layout.TASKS)

    def _describe(
        self, exported: ExportedEpisode, task: str, places: dict[str, Any], stats: dict[str, lerobot_stats.Stats]
    ) -> None:
        for name, entry in stats.items():
            self._stats[name] = lerobot_stats.pooled(self._stats[name], entry) if name in self._stats else entry
        if len(self._waiting) == _EPISODES_AT_ONCE:
            self._flush()
        self._episodes.begin()
        row = {
            "episode_index": exported.index,
            "tasks": [task],
            "length": len(exported.actions),
            "dataset_from_index": self._steps,
            "dataset_to_index": self._steps + len(exported.actions),
            **places,
            **{f"meta/episodes/{name}": value for name, value in self._episodes.files.indices.items()},
            kept.NAME: exported.entry,
        }
        for name, entry in lerobot_stats.plain(stats).items():
            row |= {f"stats/{name}/{key}": value for key, value in entry.items()}
        self._waiting.append(pa.Table.from_pylist([row]))

    def _flush(self) -> None:
        if self._waiting:
            self._episodes.write(pa.concat_tables(self._waiting))
            self._waiting = []


def _columns(exported: ExportedEpisode, layout: Layout) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    if layout.state:
        parts = [exported.steps(s.name).reshape(len(exported.actions), -1) for s in layout.state]
        columns[STATE] = np.concatenate(parts, axis=1)
    columns |= {name: exported.steps(s.name) for name, s in layout.single.items()}
    columns |= {ACTION: exported.actions, DONE: exported.terminated | exported.truncated}
    if exported.rewards is not None:
        columns[REWARD] = exported.rewards
    for name, rows in exported.columns.items():
        columns[layout.sources.get(name, f"{kept.NAME}.{name}")] = rows
    return columns


def _array(rows: NDArray[Any], feature: dict[str, Any]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(rows, feature["dtype"]).reshape(-1))
    size = feature["shape"][0]
    return flat if size == 1 else pa.FixedSizeListArray.from_arrays(flat, size)


def _images(frames: NDArray[np.uint8]) -> pa.Array:
    files = [{"bytes": video.encode_png(frame), "path": None} for frame in frames]
    return pa.array(files, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def _tasks_table(tasks: dict[str, int]) -> pa.Table:
    """A table that pandas reads with the texts as its index."""
    index = "__index_level_0__"
    texts = {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    numbers = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    labels = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    described = {
        "index_columns": [index],
        "column_indexes": [labels],
        "columns": [{**numbers, "metadata": None}, texts],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table(
        {"task_index": pa.array(list(tasks.values()), pa.int64()), index: pa.array(list(tasks), pa.string())}
    )
    return table.replace_schema_metadata({"pandas": json.dumps(described)})
