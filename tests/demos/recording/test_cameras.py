"""A camera that stops or is unplugged while an episode runs, and comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from demos.recording.cameras import CameraWatch
from demos.recording.keeper import StoreKeeper
from demos.recording.options import RecordOptions
from demos.recording.recorder import Recorder
from demos.recording.state_line import describe
from robot_rlpd.clock import ManualClock
from robot_rlpd.episode import Ended, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.robot import Action, Observation, Source, StepResult
from robot_rlpd.specs import ArraySpec
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

Happens = str | Callable[[], object]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from demos.recording.options import RecordReport
    from demos.recording.state import RecorderState
    from demos.teleop.device import Request

CAMERAS = tuple(ArraySpec(name=name, shape=(8, 8, 3), dtype="uint8", is_image=True) for name in ("front", "wrist"))
SPEC = replace(fake_spec(), observation=(*fake_spec().observation, *CAMERAS))


class FilmedRobot(FakeRobot):
    """Image k shows the grey k; `unplugged` cameras repeat their last one, and say so."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.unplugged: set[str] = set()
        self.resets = 0
        self._shown = dict.fromkeys(("front", "wrist"), 0)
        self._count = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        self.resets += 1
        return self._marked(super().reset(seed=seed, options=options))

    def step(self, action: Action) -> StepResult:
        return self._marked(super().step(action))

    def _marked(self, result: StepResult) -> StepResult:
        return replace(result, dropped_frames=tuple(sorted(self.unplugged)))

    def _observation(self) -> Observation:
        self._count += 1
        self._shown |= dict.fromkeys(self._shown.keys() - self.unplugged, self._count % 250)
        images = {name: np.full((8, 8, 3), grey, np.uint8) for name, grey in self._shown.items()}
        return {**super()._observation(), **images}


class LookingRobot(FilmedRobot):
    """Tells what it sees also between episodes."""

    def look(self) -> StepResult:
        return self._marked(StepResult(self._observation(), robot_time_s=self._time_s))


class Standing(FakePolicy):
    source = Source.HUMAN

    def __call__(self, observation: Observation) -> Action:
        return np.zeros(2, np.float32)


class Slow(FakePolicy):
    """Needs more than a second."""

    def __call__(self, observation: Observation) -> Action:
        return super().__call__(observation) * np.float32(0.05)


class Script:
    """One request or one thing that happens per poll; then the end."""

    def __init__(self, happens: Sequence[Happens]) -> None:
        self._happens = list(happens)

    def poll(self) -> list[Request]:
        happens: Any = self._happens.pop(0) if self._happens else "quit"
        if callable(happens):
            happens()
            return []
        return [happens] if happens else []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore.create(tmp_path / "store", SPEC) as opened:
        yield opened


def record(
    store: EpisodeStore,
    robot: FakeRobot,
    happens: Sequence[Happens],
    device: FakePolicy | None = None,
    on_state: Callable[[RecorderState], None] = lambda state: None,
    **changes: Any,
) -> tuple[RecordReport, RecorderState]:
    words = {"episodes": 9, "max_attempts": 20, "reset_time_s": None, "info": EpisodeInfo(notes="blue cup"), **changes}
    keeper = StoreKeeper(store)
    recorder = Recorder(
        robot,
        device or Standing(),
        FakeTask(1000),
        keeper,
        RecordOptions(**words),
        controls=[Script(happens)],
        clock=ManualClock(),
        on_state=on_state,
    )
    try:
        return recorder.run(), recorder.state
    finally:
        keeper.close()


def test_a_camera_that_stops_for_a_moment_costs_its_frames_and_nothing_else(store: EpisodeStore) -> None:
    robot = FilmedRobot()
    lines: list[str] = []
    report, _ = record(
        store,
        robot,
        ["start", "", lambda: robot.unplugged.add("front"), *[""] * 4, robot.unplugged.clear, "", "success"],
        on_state=lambda state: lines.append(" | ".join(describe(state))),
    )
    (episode,) = store
    assert episode.info.success
    assert episode.info.notes == "blue cup"
    assert episode.frames["front"].dropped.tolist() == [False, False, False, *[True] * 5, False, False]
    assert not episode.frames["wrist"].dropped.any()
    assert len(set(episode.frames["front"].robot_times_s[2:8])) == 1
    assert (report.dropped_frames, report.camera_failures, report.kept) == (5, 0, 1)
    assert any("NO IMAGE front 0.3 s" in line for line in lines)
    assert "NO IMAGE" not in lines[-1]


def test_a_camera_that_is_gone_ends_the_episode_which_says_so_and_does_not_count(store: EpisodeStore) -> None:
    robot = FilmedRobot()
    report, state = record(store, robot, ["start", "", lambda: robot.unplugged.add("wrist"), *[""] * 30])
    (episode,) = store
    assert (episode.info.ended, episode.info.success) == (Ended.INTERRUPTED, None)
    assert episode.info.notes == "blue cup; camera 'wrist' has given no image for 1.0 s"
    assert state.told == "kept as interrupted: camera 'wrist' has given no image for 1.0 s"
    assert len(episode) == 2 + 11
    assert episode.frames["wrist"].dropped.tolist() == [False] * 3 + [True] * 11
    assert (report.kept, report.camera_failures) == (0, 1)
    assert robot.stops == ["asked to stop"]
    episode.validate()


def test_how_long_a_camera_may_be_gone_can_be_said(store: EpisodeStore) -> None:
    robot = FilmedRobot()
    gone: tuple[Happens, ...] = (
        "start",
        lambda: robot.unplugged.add("wrist"),
        *[""] * 25,
        "failure",
        robot.unplugged.clear,
    )
    record(store, robot, gone, camera_timeout_s=float("inf"))
    record(store, robot, gone, camera_timeout_s=0.3)
    assert [(len(episode), episode.info.success) for episode in store] == [(27, False), (5, None)]


def test_an_episode_that_a_camera_never_saw_is_dropped_and_is_no_attempt(store: EpisodeStore) -> None:
    robot = FilmedRobot()
    robot.unplugged.add("front")
    report, state = record(store, robot, ["start", *[""] * 15])
    assert len(store) == 0
    assert (report.attempts, report.camera_failures) == (0, 1)
    assert state.told == "dropped: camera 'front' has given no image for 1.0 s"


def test_without_an_operator_the_recorder_tries_again_until_the_camera_is_back(store: EpisodeStore) -> None:
    robot = FilmedRobot()
    robot.unplugged.add("front")

    def plug_in(state: RecorderState) -> None:
        if robot.resets == 4:
            robot.unplugged.clear()

    report, _ = record(
        store, robot, [""] * 5000, episodes=2, max_attempts=2, reset_time_s=0.0, device=Slow(), on_state=plug_in
    )
    assert [(e.info.success, e.info.seed) for e in store] == [(True, 0), (True, 1)]
    assert (report.attempts, report.camera_failures, report.interrupted) == (2, 3, False)


def test_nothing_begins_while_a_robot_that_looks_between_episodes_lacks_a_camera(store: EpisodeStore) -> None:
    robot = LookingRobot()
    told: list[tuple[str, str]] = []
    happens: list[Happens] = ["start", lambda: robot.unplugged.add("front"), *[""] * 20, "start", *[""] * 8]
    happens += [robot.unplugged.clear, *[""] * 8, "start", "", "success", ""]
    record(
        store,
        robot,
        happens,
        on_state=lambda state: told.append((state.phase, state.told)),
    )
    assert robot.resets == 2
    assert [episode.info.success for episode in store] == [None, True]
    assert ("waiting", "not begun: camera 'front' has given no image for 1.0 s") in told


def test_what_the_robot_sees_is_shown_before_the_first_episode(store: EpisodeStore) -> None:
    seen: list[int] = []
    robot = LookingRobot()
    keeper = StoreKeeper(store)
    Recorder(
        robot,
        Standing(),
        FakeTask(),
        keeper,
        RecordOptions(episodes=1, max_attempts=1, reset_time_s=None, info=EpisodeInfo()),
        controls=[Script([""] * 20)],
        clock=ManualClock(),
        on_look=lambda observation: seen.append(int(observation["front"][0, 0, 0])),
    ).run()
    assert robot.resets == 0
    assert seen == [1, 2, 3, 4]


def test_two_cameras_are_timed_apart() -> None:
    watch = CameraWatch(timeout_s=0.5)
    watch.begin(StepResult({}, robot_time_s=0.0))
    for tick, dropped in enumerate((("a",), ("a", "b"), ("b",), ("b",)), start=1):
        watch.observe(StepResult({}, robot_time_s=0.25 * tick, dropped_frames=dropped))
    assert watch.missing_s == {"b": 0.5}
    assert watch.lost == "camera 'b' has given no image for 0.5 s"
