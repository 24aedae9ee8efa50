from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from demos.recording.keeper import StoreKeeper
from demos.recording.options import RecordOptions, RecordReport
from demos.recording.recorder import Recorder
from robot_rlpd.clock import ManualClock
from robot_rlpd.episode import Ended, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.robot import Action, Observation, Source
from robot_rlpd.specs import ArraySpec
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from demos.recording.state import RecorderState
    from demos.teleop.device import Request


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore.create(tmp_path / "store", fake_spec()) as opened:
        yield opened


class StandingStill(FakePolicy):
    """Never gets there."""

    source = Source.HUMAN

    def __call__(self, observation: Observation) -> Action:
        return np.zeros(2, np.float32)


class Script:
    """Controls that ask for one thing after another: each entry is asked for at one poll, "" for nothing."""

    def __init__(self, *requests: Request | str) -> None:
        self.requests: list[Any] = list(requests)

    def poll(self) -> list[Request]:
        request: Any = self.requests.pop(0) if self.requests else "quit"
        return [request] if request else []


def options(episodes: int, **changes: Any) -> RecordOptions:
    info = EpisodeInfo(device="test", operator="Ada")
    return RecordOptions(**{"episodes": episodes, "max_attempts": 10, "info": info, **changes})


def record(store: EpisodeStore, asked: RecordOptions, **changes: Any) -> RecordReport:
    keeper = StoreKeeper(store)
    parts = {"robot": FakeRobot(), "device": FakePolicy(), "task": FakeTask(), "clock": ManualClock(), **changes}
    robot, device, task = (parts.pop(name) for name in ("robot", "device", "task"))
    try:
        return Recorder(robot, device, task, keeper, asked, **parts).run()
    finally:
        keeper.close()


def by_hand(store: EpisodeStore, *script: Request | str, episodes: int = 9, **changes: Any) -> RecordReport:
    return record(
        store, options(episodes, reset_time_s=None), device=StandingStill(), controls=[Script(*script)], **changes
    )


def labels(store: EpisodeStore) -> list[tuple[bool | None, Ended, int | None]]:
    return [(stored.info.success, stored.info.ended, stored.info.seed) for stored in store.infos()]


def test_solved_episodes_are_kept_until_there_are_enough(store: EpisodeStore) -> None:
    told: list[int] = []
    report = record(store, options(3), on_state=lambda state: told.append(state.kept))
    infos = [stored.info for stored in store.infos()]
    assert [info.seed for info in infos] == [0, 1, 2]
    assert {(info.device, info.operator, info.task, info.success) for info in infos} == {("test", "Ada", "fake", True)}
    assert len({info.uuid for info in infos}) == 3
    assert (report.kept, report.successes, report.attempts, report.steps) == (3, 3, 3, store.num_steps)
    assert sorted(set(told)) == [0, 1, 2]


def test_failures_are_dropped_and_attempts_are_limited(store: EpisodeStore) -> None:
    report = record(store, options(3, max_attempts=4), device=StandingStill(), task=FakeTask(1))
    assert (report.kept, report.attempts, len(store)) == (0, 4, 0)


def test_failures_are_kept_when_asked_for(store: EpisodeStore) -> None:
    record(store, options(2, keep_failures=True), device=StandingStill(), task=FakeTask(1))
    assert [success for success, _, _ in labels(store)] == [False, False]


def test_what_a_resumed_store_holds_counts(store: EpisodeStore) -> None:
    report = record(store, options(5, already=3, first_seed=7))
    assert (report.kept, len(store)) == (2, 2)
    assert [seed for _, _, seed in labels(store)] == [7, 8]


def test_the_operator_begins_labels_discards_and_quits(store: EpisodeStore) -> None:
    report = by_hand(
        store, *("", "start", "", "success"), *("start", "discard"), *("start", "", "failure"), "start", "quit"
    )
    assert labels(store) == [(True, Ended.TRUNCATED, 0), (False, Ended.TRUNCATED, 2)]
    assert [stored.num_steps for stored in store.infos()] == [2, 2]
    assert {int(source) for source in store.read(0).sources} == {Source.HUMAN}
    assert report.interrupted
    assert (report.kept, report.successes, report.attempts) == (2, 1, 4)


def test_stop_leaves_the_judgement_to_the_task(store: EpisodeStore) -> None:
    by_hand(store, "start", "", "stop", "quit")
    assert labels(store) == []
    record(
        store,
        options(1, keep_failures=True, reset_time_s=None),
        device=StandingStill(),
        controls=[Script("start", "", "stop", "quit")],
    )
    assert labels(store) == [(False, Ended.TRUNCATED, 0)]


def test_an_episode_once_more_has_the_same_start(store: EpisodeStore) -> None:
    by_hand(store, "start", "success", *("start", "", "rerecord"), "start", "failure", "quit")
    assert labels(store) == [(True, Ended.TRUNCATED, 0), (False, Ended.TRUNCATED, 1)]


def test_the_last_episode_can_be_undone_once_until_the_next_begins(store: EpisodeStore) -> None:
    report = by_hand(store, "start", "success", *("start", "failure", "undo", "undo"), "start", "success", "quit")
    assert labels(store) == [(True, Ended.TRUNCATED, 0), (True, Ended.TRUNCATED, 1)]
    assert (report.kept, report.steps, report.successes) == (2, 2, 2)


def test_a_kept_episode_can_be_run_once_more(store: EpisodeStore) -> None:
    report = by_hand(store, "start", "success", "rerecord", "failure", "quit")
    assert labels(store) == [(False, Ended.TRUNCATED, 0)]
    assert (report.kept, report.attempts) == (1, 2)


def test_with_enough_episodes_the_last_can_still_be_undone(store: EpisodeStore) -> None:
    phases: list[str] = []
    by_hand(
        store,
        *("start", "success", "", "undo", ""),
        *("start", "failure", ""),
        "start",
        episodes=1,
        on_state=lambda state: phases.append(state.phase),
    )
    assert labels(store) == [(False, Ended.TRUNCATED, 0)]
    assert [p for i, p in enumerate(phases) if i == 0 or phases[i - 1] != p] == [
        *("resetting", "recording", "done", "waiting", "resetting", "recording", "done"),
    ]


def test_a_pause_holds_the_robot_and_is_no_late_tick(store: EpisodeStore) -> None:
    robot, steps_while_paused = FakeRobot(), []

    def watch(state: RecorderState) -> None:
        if state.phase == "paused":
            steps_while_paused.append(len(robot.executed))

    report = by_hand(
        store, "start", "", "pause", *[""] * 50, "pause", "", "success", "quit", robot=robot, on_state=watch
    )
    assert set(steps_while_paused) == {2}
    assert len(steps_while_paused) == 51
    assert store.num_steps == 4
    assert report.late_ticks == 0


def test_a_late_tick_is_counted(store: EpisodeStore) -> None:
    clock = ManualClock()

    class Slow(FakeRobot):
        def step(self, action: Action) -> Any:
            clock.advance(0.2 if len(self.executed) == 1 else 0.1)
            return super().step(action)

    states: list[float | None] = []
    report = by_hand(
        store,
        *("start", "", "", "", "success", "quit"),
        robot=Slow(),
        clock=clock,
        on_state=lambda state: states.append(state.rate_hz),
    )
    assert report.late_ticks == 1
    assert states[-1] == pytest.approx(4 / 0.5)


def test_success_pressed_as_the_task_ends_the_episode_does_not_begin_the_next(store: EpisodeStore) -> None:
    report = record(
        store,
        options(2, reset_time_s=None, keep_failures=True),
        device=StandingStill(),
        task=FakeTask(2),
        controls=[Script("start", "", "success", "", "quit")],
    )
    assert report.attempts == 1


def test_the_scene_is_put_in_order_for_as_long_as_was_said(store: EpisodeStore) -> None:
    clock = ManualClock()
    starts: list[float] = []

    class Noting(FakeRobot):
        def reset(self, **arguments: Any) -> Any:
            starts.append(clock.now_s())
            return super().reset(**arguments)

    record(store, options(3, reset_time_s=5.0), robot=Noting(), clock=clock)
    assert starts == pytest.approx([0.0, 5.0, 10.0], abs=0.1)


def test_device_and_keyboard_are_asked_at_once(store: EpisodeStore) -> None:
    class WithButtons(StandingStill):
        pressed: list[Request] = ["start"]  # noqa: RUF012

        def poll(self) -> list[Request]:
            pressed, self.pressed = self.pressed, []
            return pressed

    record(
        store, options(1, reset_time_s=None), device=WithButtons(), controls=[Script("", "", "success", "", "start")]
    )
    assert labels(store) == [(True, Ended.TRUNCATED, 0)]


def test_a_dropped_frame_is_counted_and_stored_as_dropped(tmp_path: Path) -> None:
    camera = ArraySpec(name="camera", shape=(8, 8, 3), dtype="uint8", is_image=True)
    spec = replace(fake_spec(), observation=(*fake_spec().observation, camera))

    class Stalling(FakeRobot):
        def step(self, action: Action) -> Any:
            dropped = ("camera",) if len(self.executed) in (1, 2) else ()
            return replace(super().step(action), dropped_frames=dropped)

        def _observation(self) -> Observation:
            return {**super()._observation(), "camera": np.zeros(camera.shape, np.uint8)}

    with EpisodeStore.create(tmp_path / "frames", spec) as store:
        report = by_hand(store, "start", "", "", "", "success", "quit", robot=Stalling(spec))
        assert store.read(0).frames["camera"].dropped.tolist() == [False, False, True, True, False]
    assert report.dropped_frames == 2


def test_ctrl_c_keeps_the_running_episode_as_interrupted(store: EpisodeStore) -> None:
    robot = FakeRobot()
    report = record(
        store, options(5), robot=robot, device=StandingStill(), should_quit=lambda: len(robot.executed) == 3
    )
    assert labels(store) == [(None, Ended.INTERRUPTED, 0)]
    assert store.num_steps == 3
    assert report.interrupted
    assert report.kept == 0
    assert len(robot.stops) == 1


def test_an_exception_keeps_what_there_is_and_stops_the_robot(store: EpisodeStore) -> None:
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
        record(store, options(5), robot=robot, device=Interrupting(), report=report)
    assert report.kept == len(store) == 2
    assert len(robot.stops) == 1
    assert not store.spool_directory.exists()
