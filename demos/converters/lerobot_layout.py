"""Names in a LeRobot data set of version 3, and which of them stand for what of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from demos.converters import kept, video
from robot_rlpd import images
from robot_rlpd.errors import DataError
from robot_rlpd.specs import ArraySpec

if TYPE_CHECKING:
    from demos.converters.export import Export

VERSION = "v3.0"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
KEPT = f"meta/{kept.NAME}.json"
EPISODES_FILE = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_FILE = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_FILE = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
FILES_PER_CHUNK, DATA_MB, VIDEO_MB = 1000, 100, 200

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
REWARD, DONE, SUCCESS = "next.reward", "next.done", "next.success"
DEFAULTS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything of a store goes.

    Attributes:
        state: Fields side by side in `observation.state`.
        single: Other fields that are no images, by their column.
        cameras: Image fields by their key.
        features: What `meta/info.json` says of each column.
        sources: Where each field and signal lies.
    """

    state: list[ArraySpec]
    single: dict[str, ArraySpec]
    cameras: dict[str, ArraySpec]
    features: dict[str, dict[str, Any]]
    sources: dict[str, str]


def layout_of(export: Export) -> Layout:
    """The layout for a store.

    Raises:
        DataError: An image that is neither grey nor RGB.
    """
    spec = export.spec
    for s in spec.observation:
        if s.is_image and not images.is_encodable(s):
            raise DataError(field=f"observation.{s.name}", found=f"{s.shape[2]} channels", allowed="1 or 3")
    state = [s for s in spec.observation if np.dtype(s.dtype).kind == "f"]
    cameras = {IMAGES + _column(s.name): s for s in spec.observation if s.is_image}
    others = [s for s in spec.observation if not s.is_image and s not in state]
    single = {f"observation.{_column(s.name)}": s for s in others}
    features, sources, start = {}, {}, 0
    for s in state:
        sources[s.name] = f"{STATE}[{start}:{start + s.size}]"
        start += s.size
    if state:
        dtype = str(np.result_type(*(s.dtype for s in state)))
        features[STATE] = _feature(dtype, (start,), [name for s in state for name in _entries(s)])
    for column, s in single.items():
        sources[s.name] = column
        features[column] = _feature(s.dtype, (s.size,), _entries(s))
    for key, s in cameras.items():
        sources[s.name] = key
        kind = "video" if video.can_be_video(*s.shape[:2]) else "image"
        features[key] = _feature(kind, (*s.shape[:2], 3), ["height", "width", "channels"])
    features[ACTION] = _feature("float32", (spec.action.size,), [c.name for c in spec.action.components])
    if export.has_rewards:
        sources["reward"] = REWARD
        features[REWARD] = _feature("float32", (1,), None)
    features[DONE] = _feature("bool", (1,), None)
    for s in export.column_specs:
        column = SUCCESS if s.name == "success" and s.size == 1 else f"{kept.NAME}.{_column(s.name)}"
        sources[s.name] = column
        features[column] = _feature(s.dtype, (s.size,), None)
    other = "commanded_action" if export.actions == "executed" else "executed_action"
    columns = {other: ("float32", spec.action.size), "source": ("uint8", 1)}
    columns |= {"robot_time_s": ("float64", 1), "wall_time_s": ("float64", 1)}
    features |= {f"{kept.NAME}.{name}": _feature(dtype, (size,), None) for name, (dtype, size) in columns.items()}
    features |= {name: _feature(dtype, (1,), None) for name, dtype in DEFAULTS.items()}
    return Layout(state=state, single=single, cameras=cameras, features=features, sources=sources)


def _feature(dtype: str, shape: tuple[int, ...], names: list[str] | None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "names": names}


def _column(name: str) -> str:
    """LeRobot refuses "/" in names."""
    return name.replace("/", ".")


def _entries(spec: ArraySpec) -> list[str]:
    if spec.size == 1:
        return [spec.name]
    return [f"{spec.name}.{entry}" for entry in spec.components or range(spec.size)]
