"""Data sets as LeRobot writes them, made here by pyarrow alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demos.converters import lerobot, video
from demos.converters.conversion import Conversion, ConversionTarget
from robot_rlpd.episode import Ended
from robot_rlpd.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = (6, 4, 5)
RATE = 10
TOP = "observation.images.top"


def feature(dtype: str, *shape: int, names: Any = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "names": names}


FEATURES = {
    "observation.state": feature("float32", 2, names={"motors": ["shoulder", "elbow"]}),
    TOP: feature("video", 3, 64, 80, names=["channels", "height", "width"]),
    "observation.images.small": feature("image", 8, 10, 3, names=["height", "width", "channels"]),
    "action": feature("float32", 2, names=["shoulder", "elbow"]),
    "next.reward": feature("float32", 1),
    "next.done": feature("bool", 1),
    **{name: feature("int64", 1) for name in ("frame_index", "episode_index", "index", "task_index")},
    "timestamp": feature("float32", 1),
}


def level(episode: int, t: Any) -> Any:
    return 20 * t + 5 * episode


def frames(episode: int, height: int, width: int) -> Any:
    values = level(episode, np.arange(LENGTHS[episode]))
    return np.broadcast_to(values[:, None, None, None], (len(values), height, width, 3)).astype(np.uint8)


def columns(episode: int) -> dict[str, Any]:
    steps = LENGTHS[episode]
    t = np.arange(steps)
    states = np.stack([t, np.full(steps, episode)], axis=1).astype(np.float32)
    pictures = [
        {"bytes": video.encode_png(frame), "path": f"{i}.png"} for i, frame in enumerate(frames(episode, 8, 10))
    ]
    return {
        "observation.state": pa.array(list(states), pa.list_(pa.float32())),
        "observation.images.small": pa.array(pictures),
        "action": pa.FixedSizeListArray.from_arrays(pa.array(-states.reshape(-1)), 2),
        "next.reward": pa.array((t == steps - 1).astype(np.float32) * (episode != 1)),
        "next.done": pa.array(t == steps - 1),
        "frame_index": pa.array(t),
        "episode_index": pa.array(np.full(steps, episode)),
        "index": pa.array(t + sum(LENGTHS[:episode])),
        "task_index": pa.array(np.full(steps, min(episode, 1))),
        "timestamp": pa.array((t / RATE).astype(np.float32)),
    }


def write(path: Path, *, info: dict[str, Any] | None = None) -> Path:
    """Three episodes, the first two in one parquet file, the last two in one video."""
    described = {
        "codebase_version": "v3.0",
        "robot_type": "so100",
        "total_episodes": 3,
        "total_frames": sum(LENGTHS),
        "fps": RATE,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": FEATURES,
    }
    for folder in ("meta/episodes/chunk-000", "data/chunk-000", f"videos/{TOP}/chunk-000"):
        (path / folder).mkdir(parents=True)
    (path / "meta/info.json").write_text(json.dumps({**described, **(info or {})}))
    (path / "meta/stats.json").write_text(json.dumps({"action": {"min": [-5.0, -2.0], "max": [0.0, 0.0]}}))
    pq.write_table(
        pa.table({"task_index": [0, 1], "__index_level_0__": ["stack", "place"]}), path / "meta/tasks.parquet"
    )
    tables = [pa.table(columns(e)) for e in range(3)]
    pq.write_table(pa.concat_tables(tables[:2]), path / "data/chunk-000/file-000.parquet", row_group_size=3)
    pq.write_table(tables[2], path / "data/chunk-000/file-001.parquet")
    starts = [0.0, 0.0, LENGTHS[1] / RATE]
    for number, members in enumerate(((0,), (1, 2))):
        with video.VideoWriter(path / f"videos/{TOP}/chunk-000/file-{number:03d}.mp4", RATE, 64, 80) as writer:
            for e in members:
                writer.append(frames(e, 64, 80))
    episodes = [
        {
            "episode_index": e,
            "tasks": ["stack"],
            "length": LENGTHS[e],
            f"videos/{TOP}/chunk_index": 0,
            f"videos/{TOP}/file_index": min(e, 1),
            f"videos/{TOP}/from_timestamp": starts[e],
            "stats/action/min": [0.0],
        }
        for e in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(episodes), path / "meta/episodes/chunk-000/file-000.parquet")
    return path


def read(path: Path, **target: Any) -> Conversion:
    return lerobot.read(path, ConversionTarget(**target))


def test_the_features_describe_the_robot(tmp_path: Path) -> None:
    conversion = read(write(tmp_path / "set"))
    state, top, small = conversion.spec.observation
    assert (state.name, state.components) == ("state", ("shoulder", "elbow"))
    assert (top.name, top.shape, top.is_image) == ("top", (64, 80, 3), True)
    assert (small.name, small.shape) == ("small", (8, 10, 3))
    components = [(c.name, c.low, c.high) for c in conversion.spec.action.components]
    assert components == [("shoulder", -5.0, 0.0), ("elbow", -2.0, 0.0)]
    assert (conversion.spec.name, conversion.spec.control_rate_hz) == ("so100", 10.0)
    assert conversion.report.notes == ["the bounds of the action are the least and the greatest that occur"]


def test_episodes_are_put_together_from_rows_and_frames_of_shared_files(tmp_path: Path) -> None:
    conversion = read(write(tmp_path / "set"))
    found = list(conversion)
    assert [len(episode) for episode in found] == list(LENGTHS)
    for number, episode in enumerate(found):
        episode.validate()
        assert not episode.has_final_observation
        wanted = level(number, np.arange(LENGTHS[number]))
        np.testing.assert_array_equal(episode.observations["small"][:, 0, 0, 0], wanted)
        assert np.abs(episode.observations["top"][:, 3, 4, 1].astype(int) - wanted).max() <= 3
        np.testing.assert_array_equal(episode.observations["state"][:, 1], number)
        np.testing.assert_allclose(episode.robot_times_s, np.arange(LENGTHS[number]) / RATE, atol=1e-6)
    assert [episode.info.task for episode in found] == ["stack", "place", "place"]
    assert conversion.report.unused == []


def test_done_with_a_reward_is_a_termination_and_without_one_the_end_of_a_recording(tmp_path: Path) -> None:
    found = list(read(write(tmp_path / "set")))
    assert [episode.info.ended for episode in found] == [Ended.TERMINATED, Ended.TRUNCATED, Ended.TERMINATED]
    assert not found[1].signals["terminated"].any()


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"codebase_version": "v2.1"}, "codebase_version: found v2.1; allowed: v3.x"),
        ({"features": {"action": feature("float32", 2)}}, "no observation"),
        ({"features": {**FEATURES, "observation.words": feature("string", 1)}}, "found dtype string"),
        ({"features": {**FEATURES, "action": feature("float32", 3)}}, "found 3 components; allowed: 2"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, info: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write(tmp_path / "set", info=info))
    assert "\n" not in str(caught.value)


def test_a_video_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "set")
    with video.VideoWriter(path / f"videos/{TOP}/chunk-000/file-001.mp4", RATE, 64, 80) as writer:
        writer.append(frames(1, 64, 80))
    with pytest.raises(DataError, match=r"file-001\.mp4: the video ends early; found 0 frames; allowed: 5"):
        list(read(path))


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "set")
    for name in (f"videos/{TOP}/chunk-000/file-001.mp4", "data/chunk-000/file-000.parquet"):
        (path / name).write_bytes(b"damaged")
        with pytest.raises(DataError, match="not readable") as caught:
            list(read(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path)


def test_episodes_that_are_not_described_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "set")
    table = pq.read_table(path / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(table.slice(0, 2), path / "meta/episodes/chunk-000/file-000.parquet")
    with pytest.raises(DataError, match="meta/episodes: found nothing; allowed: episode 2 of 5 steps"):
        list(read(path))
