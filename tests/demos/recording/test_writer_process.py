from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from demos.recording.handover import Slots, Times, size_bytes
from demos.recording.keeper import KeepListener
from demos.recording.writer_process import WriterProcess
from robot_rlpd.episode import Ended, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import MismatchError, StoreError
from robot_rlpd.robot import Source, StepResult
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import ArraySpec
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.episode import Episode
    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.specs import RobotSpec

PLAIN = fake_spec()
CAMERA = ArraySpec(name="camera", shape=(16, 24, 3), dtype="uint8", low=(0,), high=(255,), is_image=True)
WITH_CAMERA = replace(PLAIN, observation=(*PLAIN.observation, CAMERA))


class FilmedRobot(FakeRobot):
    """Its camera shows one grey that changes with every step."""

    def __init__(self) -> None:
        super().__init__(WITH_CAMERA)

    def _observation(self) -> Observation:
        taken = len(self.executed) - int(self._drops)  # a dropped frame leaves the one before
        grey = np.full(CAMERA.shape, 10 * taken, np.uint8)
        return {**super()._observation(), "camera": grey}

    @property
    def _drops(self) -> bool:
        return len(self.executed) % 3 == 2

    def step(self, action: Action) -> StepResult:
        result = super().step(action)
        taken_s = result.robot_time_s - 0.02
        dropped = ("camera",) if self._drops else ()
        return replace(result, frame_times_s={"camera": taken_s}, dropped_frames=dropped)


def run_episode(writer: WriterProcess, robot: FakeRobot, seed: int = 0) -> Episode:
    listener = KeepListener(writer, lambda info: (info, True))
    return rollout(robot, FakePolicy(), FakeTask(), seed=seed, listeners=[listener])


def result_at(value: float) -> StepResult:
    position = np.full(2, value, np.float32)
    signals = {"reward": np.float32(value), "terminated": np.False_, "success": np.False_}
    return StepResult({"position": position, "target": position}, position, signals, value)  # type: ignore[arg-type]


def begin(writer: WriterProcess, spec: RobotSpec = PLAIN) -> None:
    writer.start(spec, EpisodeInfo(seed=3), result_at(0.0), 0.0)


def take(writer: WriterProcess, value: float) -> None:
    action: Action = np.full(2, value, np.float32)
    writer.step(action, Source.HUMAN, result_at(value), value)


def take_many(writer: WriterProcess) -> None:
    for value in range(6, 3000):
        take(writer, value)


def wait_for(writer: WriterProcess, acknowledged: int) -> None:
    while writer.acknowledged_steps < acknowledged:
        writer.check()


def test_what_is_handed_over_is_stored(tmp_path: Path) -> None:
    writer, robot = WriterProcess(tmp_path / "store", WITH_CAMERA), FilmedRobot()
    episodes = [run_episode(writer, robot, seed) for seed in range(3)]
    writer.close()
    assert writer.episodes_stored == 3
    with EpisodeStore.open(tmp_path / "store") as store:
        assert [stored.info for stored in store.infos()] == [episode.info for episode in episodes]
        for stored, episode in zip(store, episodes, strict=True):
            for name in ("actions", "executed_actions", "sources", "robot_times_s", "wall_times_s"):
                assert np.array_equal(getattr(stored, name), getattr(episode, name)), name
            assert np.array_equal(stored.frames["camera"].rows(), episode.frames["camera"].rows())
            for name, array in episode.signals.items():
                assert np.array_equal(stored.signals[name], array)
            assert np.array_equal(stored.observations["position"], episode.observations["position"])
            difference = stored.observations["camera"].astype(int) - episode.observations["camera"]
            assert abs(difference).max() <= 2
        assert not store.spool_directory.exists()


def test_more_steps_than_slots_come_through_in_order(tmp_path: Path) -> None:
    writer = WriterProcess(tmp_path / "store", PLAIN)
    begin(writer)
    for value in range(1, 2501):
        take(writer, value)
    writer.end(EpisodeInfo(ended=Ended.TRUNCATED, success=True), keep=True)
    writer.close()
    episode = EpisodeStore.open(tmp_path / "store").read(0)
    assert episode.actions[:, 0].tolist() == list(range(1, 2501))
    assert episode.info.success


def test_a_store_is_gone_on_with(tmp_path: Path) -> None:
    for seed in (4, 2):
        writer = WriterProcess(tmp_path / "store", PLAIN, exist_ok=True)
        run_episode(writer, FakeRobot(), seed)
        writer.close()
    writer = WriterProcess(tmp_path / "store", PLAIN, exist_ok=True)
    assert (writer.episodes_before, writer.last_seed) == (2, 4)
    writer.close()


def test_the_last_episode_can_be_dropped_until_the_next_begins(tmp_path: Path) -> None:
    writer, robot = WriterProcess(tmp_path / "store", PLAIN), FakeRobot()
    assert not writer.undo()
    for seed in range(3):
        run_episode(writer, robot, seed)
    assert writer.undo()
    assert not writer.undo()
    writer.close()
    assert [stored.info.seed for stored in EpisodeStore.open(tmp_path / "store").infos()] == [0, 1]


def test_an_episode_that_runs_when_it_is_closed_is_stored_as_interrupted(tmp_path: Path) -> None:
    writer = WriterProcess(tmp_path / "store", PLAIN)
    begin(writer)
    take(writer, 1.0)
    writer.close()
    (stored,) = EpisodeStore.open(tmp_path / "store").infos()
    assert (stored.num_steps, stored.info.ended, stored.info.success) == (1, Ended.INTERRUPTED, None)


def test_a_store_that_cannot_be_opened_is_told_as_by_the_store_itself(tmp_path: Path) -> None:
    WriterProcess(tmp_path / "store", PLAIN).close()
    with pytest.raises(StoreError, match="exists already"):
        WriterProcess(tmp_path / "store", PLAIN)
    with pytest.raises(MismatchError, match="camera"):
        WriterProcess(tmp_path / "store", WITH_CAMERA, exist_ok=True)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot create"):
        WriterProcess(tmp_path / "file" / "store", PLAIN)


def test_why_the_writer_cannot_go_on_is_told_also_by_later_calls(tmp_path: Path) -> None:
    writer = WriterProcess(tmp_path / "store", PLAIN)
    (tmp_path / "store-spool").write_bytes(b"in the way")
    begin(writer)
    with pytest.raises(StoreError, match="cannot write: File exists"):
        wait_for(writer, 1)
    with pytest.raises(StoreError, match="cannot write: File exists"):
        take(writer, 1.0)
    with pytest.raises(StoreError, match="cannot write: File exists"):
        writer.end(EpisodeInfo(), keep=True)
    writer.close()


def test_a_killed_writer_is_told_and_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    writer = WriterProcess(tmp_path / "store", PLAIN)
    begin(writer)
    for value in range(1, 6):
        take(writer, value)
    wait_for(writer, 5)
    os.kill(writer.pid, signal.SIGKILL)
    with pytest.raises(StoreError, match="ended by SIGKILL"):
        take_many(writer)
    writer.close()
    with EpisodeStore.open(tmp_path / "store", "a") as store:
        episode = store.read(0)
    assert episode.actions[:5, 0].tolist() == [1, 2, 3, 4, 5]
    assert episode.info.ended is Ended.INTERRUPTED


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from demos.recording.writer_process import WriterProcess
from robot_rlpd.episode import EpisodeInfo
from robot_rlpd.robot import Source
from robot_rlpd.testing import FakeRobot
robot = FakeRobot()
writer = WriterProcess(Path(sys.argv[1]), robot.spec)
first = robot.reset(seed=0)
writer.start(robot.spec, EpisodeInfo(), first, 0.0)
for value in range(300):
    action = np.full(2, value, np.float32)
    writer.step(action, Source.HUMAN, robot.step(action), 0.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_handed_over_outlives_a_killed_recorder(tmp_path: Path) -> None:
    # The writer holds standard error open too: the run is over when both processes are.
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "store")], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    episode = EpisodeStore.open(tmp_path / "store").read(0)
    assert episode.actions[:, 0].tolist() == list(range(300))
    assert (episode.info.ended, episode.info.success) == (Ended.INTERRUPTED, None)


def test_slots_share_their_memory() -> None:
    memory = os.memfd_create("test")
    try:
        os.ftruncate(memory, size_bytes(WITH_CAMERA))
        ours, theirs = Slots(memory, WITH_CAMERA), Slots(memory, WITH_CAMERA)
    finally:
        os.close(memory)
    robot = FilmedRobot()
    robot.reset(seed=0)
    sent = robot.step(np.array([0.25, -0.25], np.float32))
    ours.write(ours.count - 1, sent, np.array([9.0, -9.0], np.float32))
    action, received = theirs.read(theirs.count - 1, Times.of(sent, 0.0))
    assert action.tolist() == [9.0, -9.0]
    assert received.executed_action is not None
    assert received.executed_action.tolist() == [0.25, -0.25]
    for name, array in sent.observation.items():
        assert np.array_equal(received.observation[name], array), name
    assert received.robot_time_s == sent.robot_time_s
    assert received.frame_times_s == sent.frame_times_s
    assert received.dropped_frames == sent.dropped_frames
