"""The commands with which recorded episodes are looked at and edited."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from demos.review.replay import replay
from demos.review.selection import select
from demos.review.statistics import statistics
from robot_rlpd.cli import main
from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import ConfigError, RobotError
from robot_rlpd.frames import Frames
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import ArraySpec
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    Typed = Callable[..., Any]

CAMERAS = (
    ArraySpec(name="front", shape=(24, 32, 3), dtype="uint8", is_image=True),
    ArraySpec(name="wrist", shape=(16, 16, 1), dtype="uint8", is_image=True),
)
SPEC = replace(fake_spec(), observation=(*fake_spec().observation, *CAMERAS))


def make_episode(number: int, steps: int, success: bool | None) -> Episode:
    """On its way at 0.1 m per step; its second frame of the front camera was dropped."""
    rows = steps + 1
    x = np.linspace(0.0, 0.1 * steps, rows, dtype=np.float32)
    actions = np.stack([np.full(steps, 0.1), np.full(steps, 0.9)], axis=1).astype(np.float32)
    times = 100.0 * number + np.arange(rows) / 10.0
    return Episode(
        spec=SPEC,
        observations={
            "position": np.stack([x, 0 * x], axis=1),
            "target": np.ones((rows, 2), np.float32),
            **{s.name: np.full((rows, *s.shape), 40 * number, np.uint8) for s in CAMERAS},
        },
        actions=actions,
        executed_actions=np.clip(actions, -0.5, 0.5),
        signals={
            "reward": np.full(steps, -1.0, np.float32),
            "terminated": np.zeros(steps, np.bool_),
            "success": np.zeros(steps, np.bool_),
        },
        sources=np.ones(steps, np.uint8),
        robot_times_s=times,
        wall_times_s=times,
        info=EpisodeInfo(
            uuid=f"{number}{number}{number}{number}-x", ended=Ended.TERMINATED, success=success, task="any"
        ),
        frames={
            "front": Frames(robot_times_s=times, wall_times_s=times, dropped=np.arange(rows) == 1),
            "wrist": Frames.at(times, times),
        },
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Episodes of 3, 5, 4 and 6 steps; solved, unsolved, solved, unknown."""
    with EpisodeStore.create(tmp_path / "demos.zarr", SPEC) as store:
        store.extend(
            [make_episode(n, steps, s) for n, (steps, s) in enumerate([(3, True), (5, False), (4, True), (6, None)])]
        )
    return tmp_path / "demos.zarr"


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    def run(*words: object, status: int = 0) -> Any:
        capsys.readouterr()
        assert main([*map(str, words), "--json"]) == status
        return json.loads(capsys.readouterr().out)

    return run


def test_episodes_are_named_by_number_range_uuid_and_success(path: Path) -> None:
    episodes = EpisodeStore.open(path).infos()
    for words, places in (
        (["2"], [2]),
        (["1-3", "0"], [0, 1, 2, 3]),
        (["3333"], [3]),
        (["2222-x", "2"], [2]),
        (["solved"], [0, 2]),
        (["unsolved", "unknown"], [1, 3]),
        (["all"], [0, 1, 2, 3]),
        ([], []),
    ):
        assert select(episodes, words) == places
    for wrong in ("4", "2-4", "3-1", "222", "nope", "-1", ""):
        with pytest.raises(ConfigError, match=r"episodes: found .*0 to 3, FIRST-LAST"):
            select(episodes, [wrong])


def test_trimming_by_command_counts_from_both_ends(path: Path, typed: Typed) -> None:
    result = typed("demos", "trim", path, "3", "--start", 1, "--stop", -2)
    assert (result["steps_before"], result["steps"], result["ended"]) == (6, 3, "truncated")
    assert [e["steps"] for e in typed("demos", "list", path)["episodes"]] == [3, 5, 4, 3]


def test_relabel_delete_and_undo_by_command(path: Path, typed: Typed) -> None:
    typed("demos", "relabel", path, "unsolved", "unknown", "--success", "true", "--notes", "seen again")
    assert typed("demos", "info", path)["successes"] == 4
    assert typed("demos", "delete", path, "0", "2222")["episodes"] == 2
    listed = typed("demos", "undo", path, "--list")
    assert [(e["kind"], e["counts"]) for e in listed["edits"]] == [("relabel", True), ("delete", True)]
    assert listed["undone"] is None
    assert typed("demos", "undo", path)["episodes"] == 4
    assert typed("demos", "undo", path, "--edit", 1)["undone"] == 1
    assert [e["success"] for e in typed("demos", "list", path)["episodes"]] == [True, False, True, None]
    assert typed("demos", "undo", path, status=1)["error"]["message"].endswith("nothing to undo")


def test_compacting_by_command_keeps_what_is_seen(path: Path, typed: Typed) -> None:
    typed("demos", "delete", path, "1")
    result = typed("demos", "compact", path)
    assert (result["episodes"], result["removed_episodes"], result["removed_steps"]) == (3, 1, 5)
    assert typed("demos", "info", path)["episodes"] == 3


def test_validate_finds_a_damaged_episode_and_repair_brings_back_the_rest(path: Path, typed: Typed) -> None:
    assert typed("demos", "validate", path)["damaged"] == []
    chunk = path / "steps/float32/c/0/0"
    content = bytearray(chunk.read_bytes())
    content[0] ^= 1
    chunk.write_bytes(content)
    (damage,) = typed("demos", "validate", path, status=1)["damaged"]
    assert (damage["number"], damage["uuid"]) == (0, "0000-x")
    assert "checksum" in damage["problem"]
    result = typed("demos", "repair", path)
    assert (result["episodes"], result["lost"]) == (3, 1)
    assert Path(result["damaged"]).is_dir()
    assert typed("demos", "validate", path)["episodes"] == 3


def test_a_split_store_merged_again_is_the_same(path: Path, typed: Typed, tmp_path: Path) -> None:
    parts = tmp_path / "a.zarr", tmp_path / "b.zarr"
    result = typed("demos", "split", path, "solved", "--out", parts[0], "--rest", parts[1])
    assert (result["episodes"], result["rest_episodes"]) == (2, 2)
    result = typed("demos", "merge", *parts, path, "--out", tmp_path / "all.zarr")
    assert (result["episodes"], result["duplicates"]) == (4, 4)
    wanted = {episode.info.uuid: episode for episode in EpisodeStore.open(path)}
    for found in EpisodeStore.open(tmp_path / "all.zarr"):
        assert found.info == wanted[found.info.uuid].info
        np.testing.assert_array_equal(found.actions, wanted[found.info.uuid].actions)
        for name, array in wanted[found.info.uuid].observations.items():
            np.testing.assert_array_equal(found.observations[name], array)


def test_a_share_is_drawn_at_random_and_again_the_same(path: Path, typed: Typed, tmp_path: Path) -> None:
    for name in ("a", "b"):
        out = ("--out", tmp_path / f"{name}.zarr", "--rest", tmp_path / f"{name}2.zarr")
        result = typed("demos", "split", path, "all", "--share", 0.5, "--seed", 3, *out)
        assert (result["episodes"], result["rest_episodes"]) == (2, 2)
    first, second = (
        [stored.info.uuid for stored in EpisodeStore.open(tmp_path / f"{n}.zarr").infos()] for n in ("a", "b")
    )
    assert first == second


def test_stores_that_keep_images_in_another_way_are_merged(path: Path, typed: Typed, tmp_path: Path) -> None:
    with EpisodeStore.create(tmp_path / "exact.zarr", SPEC, lossless=True) as store:
        store.append(make_episode(5, 3, True))
    typed("demos", "merge", tmp_path / "exact.zarr", path, "--out", tmp_path / "all.zarr")
    with EpisodeStore.open(tmp_path / "all.zarr") as store:
        assert store.codec.name == "zstd"
        assert len(list(store)) == 5


def test_stores_of_other_robots_are_not_merged_and_nothing_is_left(path: Path, typed: Typed, tmp_path: Path) -> None:
    EpisodeStore.create(tmp_path / "other.zarr", fake_spec()).close()
    error = typed("demos", "merge", path, tmp_path / "other.zarr", "--out", tmp_path / "all.zarr", status=1)["error"]
    assert error["type"] == "MismatchError"
    assert sorted(place.name for place in tmp_path.iterdir()) == ["demos.zarr", "other.zarr"]


def test_the_statistics_are_those_of_the_visible_steps(path: Path, typed: Typed) -> None:
    typed("demos", "delete", path, "1")
    typed("demos", "trim", path, "0", "--start", 1)
    numbers = typed("demos", "stats", path)
    assert (numbers["episodes"], numbers["steps"], numbers["deleted"], numbers["trimmed"]) == (3, 12, 1, 1)
    assert (numbers["lengths"]["min"], numbers["lengths"]["max"]) == (2, 6)
    assert (numbers["returns"]["min"], numbers["returns"]["max"]) == (-6.0, -2.0)
    assert numbers["rate"]["mean_hz"] == pytest.approx(10.0)
    assert numbers["rate"]["late_share"] == 0.0
    assert numbers["duration_s"] == pytest.approx(1.2)
    assert numbers["actions"]["x"]["max"] == pytest.approx(0.1)
    assert numbers["actions"]["y"]["outside_share"] == 1.0
    assert numbers["actions"]["y"]["at_bound_share"] == 1.0
    assert numbers["observations"]["position[x]"]["min"] == 0.0
    assert numbers["observations"]["position[x]"]["max"] == pytest.approx(0.6)
    assert numbers["sources"] == {"human": 12}
    # the first episode lost its first frame: the dropped one is now its first
    assert (numbers["cameras"]["front"]["frames"], numbers["cameras"]["front"]["dropped"]) == (15, 3)


def test_an_empty_store_has_statistics_and_a_picture(tmp_path: Path, typed: Typed) -> None:
    EpisodeStore.create(tmp_path / "empty.zarr", SPEC).close()
    numbers = typed("demos", "stats", tmp_path / "empty.zarr", "--out", tmp_path / "empty.png")
    assert numbers["lengths"]["min"] is None
    assert numbers["panels"] == 10
    assert main(["demos", "stats", str(tmp_path / "empty.zarr")]) == 0


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture_has_a_panel_for_each_component(path: Path, typed: Typed, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"stats{suffix}"
    assert typed("demos", "stats", path, "--out", out)["panels"] == 4 + 2 + 4
    if suffix == ".svg":
        assert "<svg" in out.read_text()
    else:
        with Image.open(out) as picture:
            assert picture.width > 1000


def test_fields_of_many_entries_are_summed_up_as_one(tmp_path: Path) -> None:
    spec = replace(fake_spec(), observation=(ArraySpec(name="lidar", shape=(100,)),))
    episode = make_episode(1, 3, None)
    lidar = np.arange(400, dtype=np.float32).reshape(4, 100)
    episode = replace(episode, spec=spec, observations={"lidar": lidar}, frames={})
    with EpisodeStore.create(tmp_path / "store", spec) as store:
        store.append(episode)
        found = statistics(store)
    assert list(found.observations) == ["lidar"]
    assert found.numbers["observations"]["lidar"]["max"] == 399.0


def test_the_video_shows_the_cameras_side_by_side(path: Path, typed: Typed, tmp_path: Path) -> None:
    out = tmp_path / "seen.webp"
    result = typed("demos", "video", path, "2", "3", "--out", out)
    assert (result["episodes"], result["images"], result["cameras"]) == (2, 12, ["front", "wrist"])
    with Image.open(out) as picture:
        assert getattr(picture, "n_frames", 1) >= 2
        assert picture.size == (32 + 16, 24 + 16)
        pixels = np.asarray(picture.convert("RGB"))
    assert np.abs(pixels[2:20, 2:30].astype(int) - 80).max() <= 6
    result = typed("demos", "video", path, "0", "--camera", "wrist", "--every", "2", "--out", tmp_path / "w.gif")
    assert (result["images"], result["cameras"]) == (3, ["wrist"])


def test_the_video_is_a_film_where_that_is_asked_for(path: Path, typed: Typed, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    out = tmp_path / "seen.mp4"
    result = typed("demos", "video", path, "2", "--speed", "2", "--camera", "front", "--out", out)
    with av.open(str(out)) as film:
        (stream,) = film.streams.video
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
        assert (stream.codec_context.name, float(stream.average_rate)) == ("h264", 20.0)
    assert len(pictures) == result["images"]
    assert np.abs(pictures[0][2:20, 2:30].astype(int) - 80).max() <= 8
    assert [file.name for file in tmp_path.glob(".*")] == []


class Slow(FakePolicy):
    def __call__(self, observation: Any) -> Any:
        return 0.3 * super().__call__(observation)


def recorded_walk() -> Episode:
    return rollout(FakeRobot(), Slow(), FakeTask(), seed=4)


def test_a_replayed_episode_ends_where_it_was_recorded() -> None:
    episode = recorded_walk()
    report = replay(FakeRobot(), FakeTask(), episode)
    assert report.steps == report.recorded_steps == len(episode)
    assert report.success is True
    assert report.start_difference == 0.0
    assert set(report.differences) == {"position", "target"}
    assert max(report.differences.values()) == 0.0


def test_a_replay_ends_after_the_last_action_and_tells_how_far_off_it_was() -> None:
    class Sticky(FakeRobot):
        def step(self, action: Any) -> Any:
            return super().step(0.5 * action)

    episode = recorded_walk()
    report = replay(Sticky(), FakeTask(max_episode_steps=1000), episode)
    assert report.steps == len(episode)
    assert report.success is False
    assert report.differences["position"] > 0.1
    assert report.differences["target"] == 0.0


def test_commanded_actions_are_replayed_as_they_were_commanded() -> None:
    episode = recorded_walk()
    episode = replace(episode, actions=episode.actions * 0.5)
    robots = FakeRobot(), FakeRobot()
    replay(robots[0], FakeTask(max_episode_steps=1000), episode, executed=True)
    replay(robots[1], FakeTask(max_episode_steps=1000), episode, executed=False)
    np.testing.assert_array_equal(robots[0].executed, episode.executed_actions)
    np.testing.assert_array_equal(robots[1].executed, episode.actions)


def test_a_robot_that_starts_elsewhere_is_not_moved() -> None:
    robot = FakeRobot()
    episode = recorded_walk()
    moved = {**episode.observations, "position": episode.observations["position"] + 0.5}
    episode = replace(episode, observations=moved)
    with pytest.raises(RobotError, match=r"observation\.position: starts somewhere else.*found 0\.5 away"):
        replay(robot, FakeTask(), episode, max_start_difference=0.1)
    assert robot.executed == []
    assert robot.stops


def test_a_simulated_recording_is_replayed_by_command(tmp_path: Path, typed: Typed) -> None:
    pytest.importorskip("mujoco", reason="the task is simulated")
    typed("record", "--task", "reach", "--episodes", "1", "--out", tmp_path / "reach.zarr")
    result = typed("demos", "replay", tmp_path / "reach.zarr", "0")
    assert result["success"] is result["recorded_success"] is True
    assert result["steps"] == result["recorded_steps"]
    assert max(result["differences"].values()) == 0.0
