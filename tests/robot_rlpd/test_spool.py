from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from robot_rlpd import spool
from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import StoreError
from robot_rlpd.robot import RandomPolicy, Source, StepResult
from robot_rlpd.rollout import rollout
from robot_rlpd.spool import EpisodeWriter, StoreListener, read_spool
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPEC = fake_spec()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore.create(tmp_path / "store", SPEC) as opened:
        yield opened


def record(listener: Any, seed: int = 0, steps: int = 5, **options: Any) -> Episode:
    policy = RandomPolicy(SPEC, np.random.default_rng(seed))
    return rollout(FakeRobot(), policy, FakeTask(steps), seed=seed, listeners=[listener], **options)


def spool_some_steps(path: Path, steps: int, info: EpisodeInfo | None = None) -> list[int]:
    """Write an unfinished episode; returns the size of the file after the start and after each step."""
    robot = FakeRobot()
    writer = EpisodeWriter(path, SPEC, info or EpisodeInfo(), robot.reset(seed=0), 100.0)
    sizes = [path.stat().st_size]
    for t in range(steps):
        action = np.full(2, 0.1 * t, np.float32)
        writer.step(action, Source.HUMAN, robot.step(action), 101.0 + t)
        sizes.append(path.stat().st_size)
    writer.close()
    return sizes


def test_a_finished_episode_is_in_the_store_and_nothing_remains_in_the_spool(store: EpisodeStore) -> None:
    listener = StoreListener(store)
    episode = record(listener)
    assert listener.kept is episode
    found = store.read(0)
    assert found.info == episode.info
    np.testing.assert_array_equal(found.actions, episode.actions)
    assert not store.spool_directory.exists()


def test_an_episode_that_is_not_to_be_kept_leaves_nothing(store: EpisodeStore) -> None:
    listener = StoreListener(store, keep=lambda episode: bool(episode.info.success))
    record(listener, steps=1)
    assert listener.kept is None
    assert len(store) == 0
    assert not store.spool_directory.exists()


def test_a_label_is_stored(store: EpisodeStore) -> None:
    def success(episode: Episode) -> Episode:
        return replace(episode, info=replace(episode.info, success=True, notes="by hand"))

    record(StoreListener(store, label=success))
    assert store.infos()[0].info.success is True
    assert store.infos()[0].info.notes == "by hand"


def test_an_interrupted_episode_is_stored_as_interrupted(store: EpisodeStore) -> None:
    record(StoreListener(store), should_stop=lambda: True)
    assert store.infos()[0].info.ended is Ended.INTERRUPTED
    assert store.infos()[0].num_steps == 1


def test_a_spool_cut_anywhere_gives_the_whole_steps_before_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "episode.spool"
    sizes = spool_some_steps(path, steps=4)
    data = path.read_bytes()
    for cut in range(0, len(data) + 1, 7):
        path.write_bytes(data[:cut])
        episode = read_spool(path)
        whole = sum(size <= cut for size in sizes) - 1
        if whole < 0:
            assert episode is None
        else:
            assert episode is not None
            episode.validate()
            assert len(episode) == whole
            assert episode.info.ended is Ended.INTERRUPTED
            assert episode.info.success is None


def test_a_flipped_bit_ends_the_episode_before_it(tmp_path: Path) -> None:
    path = tmp_path / "episode.spool"
    sizes = spool_some_steps(path, steps=4)
    data = bytearray(path.read_bytes())
    data[(sizes[2] + sizes[3]) // 2] ^= 1
    path.write_bytes(data)
    episode = read_spool(path)
    assert episode is not None
    assert len(episode) == 2


def test_opening_for_writing_recovers_each_running_episode_once(store: EpisodeStore, tmp_path: Path) -> None:
    spool_some_steps(store.spool_directory / "one.spool", steps=3, info=EpisodeInfo(uuid="one", operator="Ada"))
    spool_some_steps(store.spool_directory / "again.spool", steps=3, info=EpisodeInfo(uuid="one"))
    spool_some_steps(store.spool_directory / "empty.spool", steps=0)
    store.close()
    assert len(EpisodeStore.open(tmp_path / "store")) == 0
    with EpisodeStore.open(tmp_path / "store", "a") as opened:
        assert len(opened) == 1
        found = opened.read(0)
    assert not opened.spool_directory.exists()
    assert len(found) == 3
    assert found.info.ended is Ended.INTERRUPTED
    np.testing.assert_allclose(found.actions[:, 0], [0.0, 0.1, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(found.sources, [Source.HUMAN] * 3)
    np.testing.assert_array_equal(found.wall_times_s, [100.0, 101.0, 102.0, 103.0])


def test_an_episode_whose_end_was_spooled_keeps_its_end(
    store: EpisodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: EpisodeStore, episode: Episode) -> bool:
        raise StoreError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(EpisodeStore, "append", fail)
        with pytest.raises(StoreError, match="disk full"):
            record(StoreListener(store), steps=3)
    store.close()
    with EpisodeStore.open(tmp_path / "store", "a") as opened:
        (stored,) = opened.infos()
    assert stored.info.ended is Ended.TRUNCATED
    assert stored.info.success is False
    assert stored.num_steps == 3


def test_a_spool_of_another_robot_is_kept_aside_with_a_warning(
    store: EpisodeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    robot = FakeRobot(replace(SPEC, control_rate_hz=5.0))
    writer = EpisodeWriter(store.spool_directory / "x.spool", robot.spec, EpisodeInfo(), robot.reset(seed=0), 0.0)
    action = np.zeros(2, np.float32)
    writer.step(action, Source.POLICY, robot.step(action), 0.0)
    writer.close()
    store.close()
    with caplog.at_level(logging.WARNING):
        EpisodeStore.open(tmp_path / "store", "a").close()
    assert "control_rate_hz" in caplog.text
    assert (store.spool_directory / "x.refused").exists()


def test_an_interrupted_episode_waits_for_a_store_that_can_be_written(
    tmp_path: Path, store: EpisodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = store.spool_directory / "x.spool"
    spool_some_steps(waiting, steps=3)

    def full(episode: Episode) -> bool:
        raise StoreError("cannot write: No space left on device")

    monkeypatch.setattr(store, "append", full)
    with pytest.raises(StoreError, match="No space left"):
        spool.recover(store)
    monkeypatch.undo()
    assert [len(episode) for episode in spool.recover(store)] == [3]
    assert not waiting.exists()


def test_the_file_is_brought_to_the_disk_about_once_a_period(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    monkeypatch.setattr(spool, "SYNC_PERIOD_S", 1e9)
    spool_some_steps(tmp_path / "rarely.spool", steps=3)
    assert len(synced) == 0
    monkeypatch.setattr(spool, "SYNC_PERIOD_S", 0.0)
    spool_some_steps(tmp_path / "often.spool", steps=3)
    assert len(synced) >= 1


def test_a_signal_that_is_missing_is_spooled_as_zero(tmp_path: Path) -> None:
    robot = FakeRobot()
    writer = EpisodeWriter(tmp_path / "x.spool", SPEC, EpisodeInfo(), robot.reset(seed=0), 0.0)
    action = np.zeros(2, np.float32)
    result = robot.step(action)
    writer.step(action, Source.POLICY, StepResult(result.observation), 0.0)
    writer.close()
    episode = read_spool(tmp_path / "x.spool")
    assert episode is not None
    np.testing.assert_array_equal(episode.signals["reward"], [0.0])
    np.testing.assert_array_equal(episode.executed_actions, [action])


RECORD_UNTIL_KILLED = """
import sys
import numpy as np
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.robot import RandomPolicy
from robot_rlpd.rollout import SilentListener, rollout
from robot_rlpd.spool import StoreListener
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

class WaitForTheEnd(SilentListener):
    steps = 0
    def on_step(self, *args):
        self.steps += 1
        if self.steps == 9:
            print("nine", flush=True)
            sys.stdin.read()

store = EpisodeStore.create(sys.argv[1], fake_spec())
policy = RandomPolicy(store.spec, np.random.default_rng(0))
rollout(FakeRobot(), policy, FakeTask(4), seed=0, listeners=[StoreListener(store)])
rollout(FakeRobot(), policy, FakeTask(20), seed=1, listeners=[StoreListener(store), WaitForTheEnd()])
"""


def test_kill_9_loses_no_step(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with subprocess.Popen(
        [sys.executable, "-c", RECORD_UNTIL_KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "nine\n"
        process.kill()
    with EpisodeStore.open(path, "a") as store:
        assert [stored.num_steps for stored in store.infos()] == [4, 9]
        assert [stored.info.ended for stored in store.infos()] == [Ended.TRUNCATED, Ended.INTERRUPTED]
        store.read(1).validate()
