from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from demos.recording.recorder import RecordOptions, RecordReport, record
from robot_rlpd.episode import Ended, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.robot import Action, Observation, Source
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from demos.teleop.device import Request


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore.create(tmp_path / "store", fake_spec()) as opened:
        yield opened


class ScriptedOperator:
    """Stands still, and ends each episode after two steps as the test says."""

    source = Source.HUMAN

    def __init__(self, *requests: Request) -> None:
        self._requests = list(requests)
        self._steps = 0
        self.request: Request = ""

    def reset(self) -> None:
        self.request, self._steps = "", 0

    def __call__(self, observation: Observation) -> Action:
        self._steps += 1
        if self._steps == 2:
            self.request = self._requests.pop(0)
        return np.zeros(2, np.float32)


class StandingStill(FakePolicy):
    """Never gets there."""

    def __call__(self, observation: Observation) -> Action:
        return np.zeros(2, np.float32)


def options(episodes: int, **changes: Any) -> RecordOptions:
    info = EpisodeInfo(device="test", operator="Ada")
    return RecordOptions(**{"episodes": episodes, "max_attempts": 10, "info": info, **changes})


def test_solved_episodes_are_kept_until_there_are_enough(store: EpisodeStore) -> None:
    told: list[int] = []
    report = record(
        FakeRobot(), FakePolicy(), FakeTask(), store, options(3), on_episode=lambda report: told.append(report.kept)
    )
    infos = [stored.info for stored in store.infos()]
    assert [info.seed for info in infos] == [0, 1, 2]
    assert {(info.device, info.operator, info.task, info.success) for info in infos} == {("test", "Ada", "fake", True)}
    assert len({info.uuid for info in infos}) == 3
    assert (report.kept, report.successes, report.attempts, report.steps) == (3, 3, 3, store.num_steps)
    assert told == [1, 2, 3]


def test_failures_are_dropped_and_attempts_are_limited(store: EpisodeStore) -> None:
    report = record(FakeRobot(), StandingStill(), FakeTask(1), store, options(3, max_attempts=4))
    assert (report.kept, report.attempts, len(store)) == (0, 4, 0)


def test_failures_are_kept_when_asked_for(store: EpisodeStore) -> None:
    record(FakeRobot(), StandingStill(), FakeTask(1), store, options(2, keep_failures=True))
    assert [stored.info.success for stored in store.infos()] == [False, False]


def test_the_operator_labels_discards_and_quits(store: EpisodeStore) -> None:
    device = ScriptedOperator("success", "discard", "failure", "quit")
    report = record(FakeRobot(), device, FakeTask(), store, options(9, keep_failures=True))
    assert [(stored.info.success, stored.info.ended) for stored in store.infos()] == [
        (True, Ended.TRUNCATED),
        (False, Ended.TRUNCATED),
    ]
    assert {int(source) for source in store.read(0).sources} == {Source.HUMAN}
    assert report.interrupted
    assert (report.kept, report.successes, report.attempts) == (2, 1, 4)


def test_an_interrupt_keeps_what_is_committed_and_stops_the_robot(store: EpisodeStore) -> None:
    class Interrupting(FakePolicy):
        episodes = 0

        def reset(self) -> None:
            self.episodes += 1

        def __call__(self, observation: Observation) -> Action:
            if self.episodes == 3:
                raise KeyboardInterrupt
            return super().__call__(observation)

    robot, report = FakeRobot(), RecordReport()
    with pytest.raises(KeyboardInterrupt):
        record(robot, Interrupting(), FakeTask(), store, options(5), report=report)
    assert report.kept == len(store) == 2
    assert len(robot.stops) == 1
    assert not store.spool_directory.exists()
