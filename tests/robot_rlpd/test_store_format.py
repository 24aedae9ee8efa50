"""What version 2 of the format keeps, and that version 1 is still read."""

from __future__ import annotations

import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from robot_rlpd import editing
from robot_rlpd.episode import Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import ConfigError, DataError, StoreError
from robot_rlpd.frames import Frames
from robot_rlpd.robot import Action, Source, StepResult
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import ArraySpec
from robot_rlpd.spool import EpisodeWriter, read_spool
from robot_rlpd.store_compact import compact
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

GOLDEN = Path(__file__).parents[1] / "golden"
CAMERAS = (
    ArraySpec(name="front", shape=(16, 16, 3), dtype="uint8", is_image=True),
    ArraySpec(name="wrist", shape=(8, 8, 1), dtype="uint8", is_image=True),
)
SPEC = replace(fake_spec(), observation=(*fake_spec().observation, *CAMERAS))


class FilmedRobot(FakeRobot):
    """A fake robot with two cameras; the front one is 20 ms late and gives nothing new at every third observation."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.observed = 0
        self.front = np.zeros((16, 16, 3), np.uint8)
        self.front_s = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        self.observed = 0
        return self.filmed(super().reset(seed=seed, options=options))

    def step(self, action: Action) -> StepResult:
        return self.filmed(super().step(action))

    def filmed(self, result: StepResult) -> StepResult:
        dropped = self.observed % 3 == 2
        if not dropped:
            self.front = np.full((16, 16, 3), self.observed * 20, np.uint8)
            self.front_s = result.robot_time_s - 0.02
        wrist = np.full((8, 8, 1), self.observed * 10, np.uint8)
        self.observed += 1
        return replace(
            result,
            observation={**result.observation, "front": self.front, "wrist": wrist},
            frame_times_s={"front": self.front_s},
            dropped_frames=("front",) if dropped else (),
        )


class Wall:
    """A wall clock that goes on by 0.1 s with every look at it."""

    def __init__(self) -> None:
        self.now_s = 1e9

    def __call__(self) -> float:
        self.now_s += 0.1
        return self.now_s


def filmed_episode(seed: int = 0, steps: int = 7) -> Episode:
    class Slow(FakePolicy):
        def __call__(self, observation: Any) -> Action:
            return 0.05 * super().__call__(observation)

    task = FakeTask(max_episode_steps=steps)
    return rollout(FilmedRobot(), Slow(), task, seed=seed, wall_clock=Wall())


@pytest.mark.parametrize("lossless", [False, True])
def test_frame_times_and_dropped_frames_are_kept(tmp_path: Path, lossless: bool) -> None:
    episode = filmed_episode()
    with EpisodeStore.create(tmp_path / "store", SPEC, lossless=lossless) as store:
        store.extend([episode, filmed_episode(1)])
    (found, _) = EpisodeStore.open(tmp_path / "store").load_all()
    for camera in ("front", "wrist"):
        for name in ("robot_times_s", "wall_times_s", "dropped"):
            np.testing.assert_array_equal(
                getattr(found.frames[camera], name), getattr(episode.frames[camera], name), strict=True
            )
    front = found.frames["front"]
    assert front.dropped.tolist() == [False, False, True] * 2 + [False, False]
    fresh = ~front.dropped
    np.testing.assert_allclose(front.robot_times_s[fresh], found.robot_times_s[fresh] - 0.02)
    np.testing.assert_allclose(front.wall_times_s[fresh], found.wall_times_s[fresh] - 0.02)
    assert front.robot_times_s[2] == front.robot_times_s[1]
    np.testing.assert_array_equal(found.frames["wrist"].robot_times_s, found.robot_times_s)


def test_a_dropped_frame_takes_no_space_and_shows_the_image_before_it(tmp_path: Path) -> None:
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        store.append(filmed_episode())
        encoded = store.read_encoded(store.infos()[0])
        sizes = np.diff(encoded.images["front"].ends, prepend=0)
        assert [size == 0 for size in sizes] == encoded.images["front"].frames[:, 2].astype(bool).tolist()
        front = store.read(0).observations["front"]
    np.testing.assert_array_equal(front[2], front[1])
    assert np.abs(front[:, 0, 0, 0].astype(int) - [0, 20, 20, 60, 80, 80, 120, 140]).max() <= 3


def test_lossless_images_come_back_exactly(tmp_path: Path) -> None:
    episode = filmed_episode()
    noise = np.random.default_rng(0).integers(0, 256, episode.observations["front"].shape, np.uint8)
    noise[episode.frames["front"].dropped] = noise[np.flatnonzero(episode.frames["front"].dropped) - 1]
    episode = replace(episode, observations={**episode.observations, "front": noise})
    with EpisodeStore.create(tmp_path / "store", SPEC, lossless=True) as store:
        store.append(episode)
        np.testing.assert_array_equal(store.read(0).observations["front"], noise)
        np.testing.assert_array_equal(store.read(0).observations["wrist"], episode.observations["wrist"])


def test_a_lower_quality_takes_less_space_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    episode = filmed_episode()
    noise = np.random.default_rng(0).integers(0, 256, episode.observations["front"].shape, np.uint8)
    episode = replace(episode, observations={**episode.observations, "front": noise}, frames={})
    sizes = []
    for quality in (50, 90):
        with EpisodeStore.create(tmp_path / str(quality), SPEC, jpeg_quality=quality) as store:
            store.append(episode)
            sizes.append(store.read_encoded(store.infos()[0]).nbytes)
            assert store.codec.quality == quality
    assert sizes[0] < sizes[1]
    for wrong in (0, 101):
        with pytest.raises(ConfigError, match=r"jpeg_quality: .*1 to 100"):
            EpisodeStore.create(tmp_path / "wrong", SPEC, jpeg_quality=wrong)
    assert not (tmp_path / "wrong").exists()


def test_a_killed_recording_keeps_its_frame_times(tmp_path: Path) -> None:
    robot = FilmedRobot()
    results = [robot.reset(seed=0)]
    writer = EpisodeWriter(tmp_path / "x.spool", SPEC, EpisodeInfo(), results[0], 5.0)
    for step in range(4):
        results.append(robot.step(np.zeros(2, np.float32)))
        writer.step(np.zeros(2, np.float32), Source.HUMAN, results[-1], 6.0 + step)
    writer.close()
    episode = read_spool(tmp_path / "x.spool")
    assert episode is not None
    front = episode.frames["front"]
    assert front.dropped.tolist() == [False, False, True, False, False]
    assert front.robot_times_s.tolist() == [result.frame_times_s["front"] for result in results]
    np.testing.assert_allclose(front.wall_times_s[[0, 1, 3, 4]], np.array([5.0, 6.0, 8.0, 9.0]) - 0.02)


def test_frames_of_no_camera_or_of_another_length_are_refused(tmp_path: Path) -> None:
    episode = filmed_episode()
    short = Frames.at(episode.robot_times_s[:-1], episode.wall_times_s[:-1])
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        for name, told in (("position", "front, wrist"), ("front", r"frames\.front\.robot_times_s")):
            with pytest.raises(DataError, match=told):
                store.append(replace(episode, frames={name: short}))


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    """A store that version 1 wrote: two episodes of 3 and 4 steps, a camera with images of 0, 30, 60 ..."""
    with tarfile.open(GOLDEN / "store_v1.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "store_v1"


def check_old(episodes: list[Episode]) -> None:
    assert [episode.info.uuid for episode in episodes] == ["episode-0", "episode-1"]
    assert [len(episode) for episode in episodes] == [3, 4]
    for episode in episodes:
        episode.validate()
        images = episode.observations["front"][:, 0, 0, 0].astype(int)
        assert np.abs(images - np.arange(len(images)) * 30).max() <= 3
        np.testing.assert_array_equal(episode.frames["front"].robot_times_s, episode.robot_times_s)
        np.testing.assert_array_equal(episode.frames["front"].wall_times_s, episode.wall_times_s)
        assert not episode.frames["front"].dropped.any()


def test_a_store_of_version_1_is_read_and_stays_as_it_is(old_store: Path) -> None:
    before = {path: path.read_bytes() for path in old_store.rglob("*") if path.is_file()}
    with EpisodeStore.open(old_store) as store:
        assert store.version == 1
        check_old(list(store))
        check_old(store.load_all())
        assert store.checksums() is None
    assert {path: path.read_bytes() for path in old_store.rglob("*") if path.is_file()} == before


def test_a_store_of_version_1_is_upgraded_when_it_is_written_to(old_store: Path) -> None:
    with EpisodeStore.open(old_store, "a") as store:
        assert store.version == 2
        check_old(list(store))
        assert store.append(replace(store.read(0), info=EpisodeInfo(uuid="new")))
        assert len(store) == 3
    with EpisodeStore.open(old_store) as store:
        check_old(store.load_all()[:2])
        checksums = store.checksums()
        assert checksums is not None
        assert (checksums[:2, 3:] == -1).all()
        assert (checksums[2, 3:] >= 0).all()


def test_compacting_upgrades_a_store_of_version_1(old_store: Path) -> None:
    compact(old_store)
    with EpisodeStore.open(old_store) as store:
        assert store.version == 2
        check_old(list(store))


def test_a_store_is_read_from_an_in_memory_filesystem(tmp_path: Path) -> None:
    episode = filmed_episode()
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        store.append(episode)
        wanted = store.read(0)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "store"), "/there", recursive=True)
    try:
        with EpisodeStore.open("memory://there") as store:
            for found in (store.read(0), store.load_all()[0]):
                assert found.info == wanted.info
                np.testing.assert_array_equal(found.actions, wanted.actions)
                np.testing.assert_array_equal(found.observations["front"], wanted.observations["front"])
                np.testing.assert_array_equal(found.frames["front"].rows(), wanted.frames["front"].rows())
            np.testing.assert_array_equal(store.column("action")[:-1], wanted.actions)
        with pytest.raises(StoreError, match="memory://absent"):
            EpisodeStore.open("memory://absent")
        with pytest.raises(StoreError, match="no-such-protocol"):
            EpisodeStore.open("no-such-protocol://x")
    finally:
        memory.rm("/there", recursive=True)


@pytest.mark.parametrize("lossless", [False, True])
def test_the_documented_way_to_read_with_zarr_alone_works(tmp_path: Path, lossless: bool) -> None:
    with EpisodeStore.create(tmp_path / "store", SPEC, lossless=lossless) as store:
        store.extend([filmed_episode(seed, steps=7 + seed) for seed in range(4)])
        editing.trim(store, store.infos()[1], 2, 6)
        editing.relabel(store, store.infos()[:2], {"notes": "edited"})
        editing.delete(store, store.infos()[2:3])
        editing.delete(store, store.infos()[:1])
        editing.undo(store)
        wanted = list(store)
    page = (Path(__file__).resolve().parents[2] / "docs" / "store-format.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(code) == 3
    names: dict[str, Any] = {"path": tmp_path / "store"}
    exec("\n".join(code), names)
    assert "robot_rlpd" not in "".join(code)
    read, read_images = names["read"], names["read_images"]
    found = [e for e in names["episodes"] if "deleted" not in e]
    for e, episode in zip(found, wanted, strict=True):
        assert e["info"]["uuid"] == episode.info.uuid
        assert e["info"]["notes"] == episode.info.notes
        row, end, last = e["row"], e["end"], e["row"] + e["steps"]
        np.testing.assert_array_equal(read("action", row, last), episode.actions)
        np.testing.assert_array_equal(read("source", row, last), episode.sources)
        np.testing.assert_array_equal(read("signal/success", row, last), episode.signals["success"])
        np.testing.assert_array_equal(read("robot_time_s", row, end), episode.robot_times_s)
        np.testing.assert_array_equal(read("observation/position", row, end), episode.observations["position"])
        for camera in ("front", "wrist"):
            np.testing.assert_array_equal(read_images(camera, row, end), episode.observations[camera])
            frames = names["root"][f"images/{camera}/frames"][row:end]
            np.testing.assert_array_equal(frames, episode.frames[camera].rows())
