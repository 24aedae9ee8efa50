"""Records demonstrations: episodes of one device on one robot, until there are enough."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from demos.recording.cameras import CameraWatch
from demos.recording.keeper import KeepListener
from demos.recording.options import RecordOptions, RecordReport
from demos.recording.state import Meter, RecorderState
from demos.teleop.device import Controls
from robot_rlpd.clock import MonotonicClock
from robot_rlpd.episode import Ended, EpisodeInfo
from robot_rlpd.robot import look_at
from robot_rlpd.rollout import SilentListener, rollout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from demos.recording.keeper import Keeper
    from demos.recording.state import Phase
    from demos.teleop.device import Request
    from robot_rlpd.clock import Clock
    from robot_rlpd.episode import Step
    from robot_rlpd.robot import Observation, Policy, Robot, StepResult
    from robot_rlpd.rollout import Listener
    from robot_rlpd.specs import RobotSpec
    from robot_rlpd.task import Task

POLL_PERIOD_S = 0.02
"""How often the controls are looked at while no episode runs [s]."""
LOOK_PERIOD_S = 0.1
"""How often the robot's cameras are looked at while no episode runs [s]."""
RETRY_S = 2.0
"""An episode for which a camera gave no image is tried again after so long, where no operator begins it [s]."""
GRACE_S = 0.5
"""`success` so soon after an episode was meant for that, which ended by itself, and does not begin the next [s]."""
ENDINGS: tuple[Request, ...] = ("stop", "success", "failure", "discard", "rerecord", "quit")
"""Requests that end the running episode."""


class Recorder:
    """One recording session.

    Args:
        robot: Opened, with its safety around it.
        device: Drives; also asked for requests if it has buttons.
        task: Judges success where the operator does not.
        keeper: Where the steps go; left open.
        options: How much, and what to keep.
        controls: Asked for requests besides the device.
        clock: Wall time.
        path: The store, to see how much room its disk has.
        in_real_time: Whether the robot keeps its control rate; otherwise no step is late.
        report: Counted up, also when an exception ends the session.
        on_state: Told at every change, every step, and while it waits. Must be quick.
        on_look: Told what the robot sees between episodes, where it can tell. Must be quick.
        listeners: Told of every step, after the keeper.
        should_quit: Asked between and in episodes; True ends the session, the running episode as interrupted.
    """

    def __init__(
        self,
        robot: Robot,
        device: Policy,
        task: Task,
        keeper: Keeper,
        options: RecordOptions,
        *,
        controls: Sequence[Controls] = (),
        clock: Clock | None = None,
        path: Path | None = None,
        in_real_time: bool = True,
        report: RecordReport | None = None,
        on_state: Callable[[RecorderState], None] = lambda state: None,
        on_look: Callable[[Observation], None] | None = None,
        listeners: Sequence[Listener] = (),
        should_quit: Callable[[], bool] = lambda: False,
    ) -> None:
        self.report = report or RecordReport()
        self.state = RecorderState(kept=options.already, target=options.episodes)
        self._robot, self._task, self._keeper, self._options = robot, task, keeper, options
        self._device = device
        self._controls = [*controls, *([device] if isinstance(device, Controls) else [])]
        self._clock = clock or MonotonicClock()
        self._meter = Meter(self.state, robot.spec, self._clock, path, in_real_time=in_real_time)
        self._cameras = CameraWatch(options.camera_timeout_s)
        self._on_state, self._on_look, self._should_quit = on_state, on_look, should_quit
        self._listener = KeepListener(keeper, self._judge)
        self._listeners: list[Listener] = [self._listener, _StateListener(self), *listeners]
        self._seed = options.first_seed
        self._last: _Last | None = None
        self._ending: Request | None = None
        self._interrupting = False
        self._camera_lost = ""
        self._looked_s = -math.inf

    def run(self) -> RecordReport:
        """Record until enough episodes are kept, the attempts are used up, or somebody quits."""
        by_hand = self._options.reset_time_s is None
        while True:
            enough = self.state.kept >= self._options.episodes
            tired = self.report.attempts >= self._options.max_attempts
            if (enough or tired) and not by_hand:
                break
            if not self._wait("done" if enough or tired else "waiting"):
                self.report.interrupted = not enough
                break
            if self.state.kept >= self._options.episodes or tired:
                break
            self._keeper.commit()
            self._run_episode()
            if self._ending == "quit" or self._interrupting:
                self.report.interrupted = True
                break
        return self.report

    def _wait(self, phase: Phase) -> bool:
        """Between episodes, until the next may begin; False to end the session."""
        began_s = self._clock.now_s()
        begin_s = began_s + self._pause_s()
        grace_s = began_s + (GRACE_S if self.report.attempts else 0.0)
        paused = False
        while True:
            self._look()
            for request in self._requests():
                if request == "quit":
                    return False
                wanted = request == "start" or (request == "success" and self._clock.now_s() >= grace_s)
                if wanted and self._sees_all():
                    return True
                if request == "pause":
                    paused = not paused
                if request in ("undo", "rerecord") and self._undo(again=request == "rerecord"):
                    phase = "waiting"
                    if request == "rerecord":
                        return True
            if self._should_quit():
                return False
            if not paused and self._clock.now_s() >= begin_s and self._sees_all():
                return True
            self._tell("paused" if paused else phase)
            self._meter.look_at_disk()
            self._clock.sleep_until_s(self._clock.now_s() + POLL_PERIOD_S)

    def _pause_s(self) -> float:
        """After so long the next episode begins by itself."""
        wished_s = self._options.reset_time_s
        if wished_s is None:
            return math.inf
        least_s = RETRY_S if self._camera_lost else 0.0
        return max(wished_s, least_s) if self.state.attempt else 0.0

    def _look(self) -> None:
        """Between episodes, now and then: what the robot sees. Of one that does not tell nothing is known."""
        now_s = self._clock.now_s()
        if now_s - self._looked_s < LOOK_PERIOD_S:
            return
        self._looked_s = now_s
        result = look_at(self._robot)
        if result is None:
            self._cameras.forget()
        else:
            self._cameras.observe(result)
            if self._on_look is not None:
                self._on_look(result.observation)
        self.state.missing_cameras = self._cameras.missing_s

    def _sees_all(self) -> bool:
        """Whether an episode may begin; the operator is told why not."""
        if self._cameras.lost:
            self.state.told = f"not begun: {self._cameras.lost}"
        return not self._cameras.lost

    def _run_episode(self) -> None:
        self._ending, self._interrupting, self._camera_lost, self._last = None, False, "", None
        self.state.can_undo = False
        self.report.attempts += 1
        self.state.attempt = self.report.attempts
        self.state.acknowledged_steps = 0
        self._tell("resetting", told="")
        seed = self._seed
        self._seed += 1
        try:
            episode = rollout(
                self._robot,
                self._device,
                self._task,
                seed=seed,
                info=replace(self._options.info, uuid=EpisodeInfo().uuid),
                listeners=self._listeners,
                should_stop=self._after_step,
            )
        finally:
            self.report.late_ticks = self.state.late_ticks
            self.report.dropped_frames = self.state.dropped_frames
            self._count()
        if self._ending == "rerecord":
            self._seed = seed
        if self._camera_lost:
            self.report.camera_failures += 1
            if self._cameras.from_the_start:  # it was no attempt
                self.report.attempts -= 1
                self._seed = seed
        verdict, _ = self._judge(episode.info)
        self.report.successes += int(bool(verdict.success))
        kept = self._listener.kept is not None and self._listener.kept.success is not None
        self._last = _Last(seed, self._listener.steps, bool(verdict.success), kept)
        self.state.can_undo = self._last.kept
        self.state.told = _told(self._listener.kept, self._ending, self._camera_lost)

    def _count(self) -> None:
        kept = self._listener.kept
        if kept is not None and kept.success is not None:
            self.report.kept += 1
            self.report.steps += self._listener.steps
            self.state.kept += 1

    def _undo(self, *, again: bool) -> bool:
        """Drop the last episode and run its start again; with `again` also one that was not kept."""
        last = self._last
        if last is None or (last.kept and not self._keeper.undo()) or not (last.kept or again):
            self.state.told = "nothing to undo"
            return False
        self._last = None
        if last.kept:
            self.report.kept -= 1
            self.report.steps -= last.steps
            self.state.kept -= 1
        self.report.successes -= int(last.success)
        self.state.can_undo = False
        self.state.told = "the last episode is dropped"
        self._seed = last.seed
        return True

    def _judge(self, info: EpisodeInfo) -> tuple[EpisodeInfo, bool]:
        """The episode as the operator judged it, and whether to keep it; ending it by hand is a truncation."""
        if self._ending in ("discard", "rerecord", "quit"):
            return info, False
        if self._ending is None:
            if info.ended is Ended.INTERRUPTED:  # nobody meant it to end here: keep all there is, without an outcome
                notes = "; ".join(text for text in (info.notes, self._camera_lost) if text)
                never_saw = bool(self._camera_lost) and self._cameras.from_the_start
                return replace(info, success=None, notes=notes), not never_saw
            return info, self._options.keep_failures or bool(info.success)
        success = bool(info.success) if self._ending == "stop" else self._ending == "success"
        ended = Ended.TRUNCATED if info.ended is Ended.INTERRUPTED else info.ended
        labelled = self._ending != "stop"
        info = replace(info, success=success, ended=ended)
        return info, labelled or self._options.keep_failures or success

    def _after_step(self) -> bool:
        """In the loop, after each step: take requests, and hold while paused; True ends the episode."""
        paused = False
        while True:
            for request in self._requests():
                if request in ENDINGS:
                    self._ending = request
                if request == "pause":
                    paused = not paused
            self._interrupting = self._should_quit()
            if not paused or self._ending is not None or self._interrupting:
                break
            self._tell("paused")
            self._clock.sleep_until_s(self._clock.now_s() + POLL_PERIOD_S)
        if self.state.phase == "paused":
            self._meter.resume()
        if self._ending is None and not self._interrupting:
            self._camera_lost = self._cameras.lost
        return self._ending is not None or self._interrupting or bool(self._camera_lost)

    def _requests(self) -> list[Request]:
        return [request for controls in self._controls for request in controls.poll()]

    def _tell(self, phase: Phase, told: str | None = None) -> None:
        self.state.phase = phase
        if told is not None:
            self.state.told = told
        self.state.acknowledged_steps = self._keeper.acknowledged_steps
        self._on_state(self.state)

    def started(self, first: StepResult) -> None:
        """The reset is done."""
        self._meter.start()
        self._cameras.begin(first)
        self.state.missing_cameras = self._cameras.missing_s
        self._tell("recording")

    def stepped(self, step: Step) -> None:
        """A step is done."""
        self._meter.step(step)
        self._cameras.observe(step.result)
        self.state.missing_cameras = self._cameras.missing_s
        self._tell("recording")


@dataclass(frozen=True)
class _Last:
    """The episode before."""

    seed: int
    steps: int
    success: bool
    kept: bool


class _StateListener(SilentListener):
    """Tells the session of its steps."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """Begin."""
        self._recorder.started(first)

    def on_step(self, step: Step) -> None:
        """Count."""
        self._recorder.stepped(step)


def _told(kept: EpisodeInfo | None, ending: Request | None, camera_lost: str) -> str:
    if kept is None:
        given_up = f"dropped: {camera_lost}" if camera_lost else "unsolved, dropped"
        return {"discard": "discarded", "rerecord": "once more", "quit": "dropped"}.get(ending or "", given_up)
    told = {True: "kept as success", False: "kept as failure", None: "kept as interrupted"}[kept.success]
    return f"{told}: {camera_lost}" if camera_lost else told
