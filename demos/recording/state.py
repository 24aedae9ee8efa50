"""The state of a recording session: what an operator has to see at all times."""

from __future__ import annotations

import shutil
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.clock import Clock
    from robot_rlpd.episode import Step
    from robot_rlpd.specs import RobotSpec

Phase = Literal["waiting", "resetting", "recording", "paused", "done"]
"""waiting: for the operator to begin; resetting: the robot moves to a start; done: enough is kept."""

LATE = 1.1
"""A step that takes longer than this many control periods is late."""
RATE_WINDOW = 20
"""The measured rate is that of the last so many steps."""
DISK_PERIOD_S = 1.0


@dataclass(kw_only=True)
class RecorderState:
    """How the session stands.

    Attributes:
        phase: What is going on.
        kept: Episodes kept in this session, those of a resumed store included.
        target: Episodes to keep.
        attempt: Episodes begun.
        steps: Of the running episode, or the last one.
        acknowledged_steps: Those of them that a crash cannot take.
        seconds: Length of the running episode, or the last one [s].
        rate_hz: Measured over the last steps; None before there are some.
        control_rate_hz: As wanted.
        late_ticks: Steps of this session that took more than 1.1 periods.
        dropped_frames: Camera frames of this session that did not come in time.
        missing_cameras: Cameras that give no image now, and for how long [s].
        disk_free_bytes: On the store's disk; None without a store.
        can_undo: Whether `undo` has something to drop.
        told: What happened last, for the operator.
    """

    phase: Phase = "waiting"
    kept: int = 0
    target: int = 0
    attempt: int = 0
    steps: int = 0
    acknowledged_steps: int = 0
    seconds: float = 0.0
    rate_hz: float | None = None
    control_rate_hz: float = 0.0
    late_ticks: int = 0
    dropped_frames: int = 0
    missing_cameras: dict[str, float] = field(default_factory=dict)
    disk_free_bytes: int | None = None
    can_undo: bool = False
    told: str = ""


class Meter:
    """Measures the running loop into a state.

    Args:
        state: What is updated.
        spec: Of the robot.
        clock: Wall time, not the simulation's.
        path: The store; None without one.
        in_real_time: Whether the robot keeps its rate; a simulator that runs as fast as it can is never late.
    """

    def __init__(
        self, state: RecorderState, spec: RobotSpec, clock: Clock, path: Path | None, *, in_real_time: bool
    ) -> None:
        self._state = state
        self._clock = clock
        self._path = path
        self._late_s = LATE * spec.control_period_s if in_real_time else float("inf")
        self._ticks: deque[float] = deque(maxlen=RATE_WINDOW + 1)
        self._started_s = self._disk_s = -float("inf")
        state.control_rate_hz = spec.control_rate_hz
        self.look_at_disk()

    def start(self) -> None:
        """An episode begins."""
        self._started_s = self._clock.now_s()
        self._ticks.clear()
        self._ticks.append(self._started_s)
        self._state.steps, self._state.seconds = 0, 0.0

    def resume(self) -> None:
        """Go on after a pause, which is not part of any step."""
        self._ticks.clear()
        self._ticks.append(self._clock.now_s())

    def step(self, step: Step) -> None:
        """A step is over."""
        now_s = self._clock.now_s()
        state = self._state
        state.late_ticks += int(now_s - self._ticks[-1] > self._late_s)
        self._ticks.append(now_s)
        state.steps += 1
        state.seconds = now_s - self._started_s
        if now_s > self._ticks[0]:
            state.rate_hz = (len(self._ticks) - 1) / (now_s - self._ticks[0])
        state.dropped_frames += len(step.result.dropped_frames)
        self.look_at_disk()

    def look_at_disk(self) -> None:
        """Update the space that is left, once a second."""
        now_s = self._clock.now_s()
        if self._path is None or now_s - self._disk_s < DISK_PERIOD_S:
            return
        self._disk_s = now_s
        place = next((p for p in (self._path, *self._path.absolute().parents) if p.exists()), None)
        self._state.disk_free_bytes = None if place is None else shutil.disk_usage(place).free
