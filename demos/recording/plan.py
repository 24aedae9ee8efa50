"""What `record` and `console` ask for, and what they tell at the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demos.recording.cameras import TIMEOUT_S
from demos.recording.options import RecordReport
from robot_rlpd.images import ImageCodec
from robot_rlpd.task import TaskOptions, TaskSetup

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is asked of a session; see the options of `record`.

    Attributes:
        setup: The task; None lets the robot's own signals judge, if it has any.
        task_options: What was said about the task.
        robot: As typed; empty for the task's own.
        device: NAME or NAME:ARGUMENT of a device.
        out: Directory of the store; None records nothing.
        append: Add to the store if it exists.
        resume: Likewise, and what it holds counts.
        episodes: To keep; None for no end.
        max_attempts: None for ten times `episodes`.
        noise: Of the scripted device.
        seed: Of the device and the first reset.
        keep_failures: Keep unsolved episodes too.
        reset_time_s: None waits for the operator where a person operates, and not at all elsewhere.
        camera_timeout_s: A camera without an image for so long ends the episode [s].
        codec: How camera images are kept; None for what the store has, or the default in a new one.
        operator: Who demonstrates.
        notes: Free text.
        real_time: Ask for real-time priority.
    """

    setup: TaskSetup | None
    task_options: TaskOptions
    robot: str = ""
    device: str = "scripted"
    out: Path | None = None
    append: bool = False
    resume: bool = False
    episodes: int | None = 20
    max_attempts: int | None = None
    noise: float = 0.0
    seed: int = 0
    keep_failures: bool = False
    reset_time_s: float | None = None
    camera_timeout_s: float = TIMEOUT_S
    codec: ImageCodec | None = None
    operator: str = ""
    notes: str = ""
    real_time: bool = False


@dataclass(kw_only=True)
class Recorded:
    """What a session left.

    Attributes:
        report: What was recorded.
        wanted: Episodes that were to be kept, by this session alone; None for no end.
        out: The store; None without one.
        store_episodes: Episodes in it now.
        fingerprint: Of the robot's contract.
    """

    report: RecordReport
    wanted: int | None
    out: Path | None
    store_episodes: int
    fingerprint: str

    @property
    def status(self) -> int:
        """Exit status."""
        if self.wanted is None:
            return 0
        if self.report.interrupted:
            return INTERRUPTED
        return 0 if self.report.kept >= self.wanted else 1

    def to_json(self) -> dict[str, Any]:
        """The fields of `record --json`."""
        report = self.report
        return asdict(report) | {
            "episodes": report.kept,
            "success_rate": report.successes / report.attempts if report.attempts else None,
            "store": None if self.out is None else str(self.out),
            "store_episodes": self.store_episodes,
            "fingerprint": self.fingerprint,
        }


def summary(recorded: Recorded) -> str:
    """The session in one line."""
    report = recorded.report
    where = f" in {recorded.out}" if recorded.out is not None else ", not recorded"
    parts = [
        f"{report.kept} episodes ({report.steps} steps){where}; {report.successes} of {report.attempts} solved",
        *([f"{report.late_ticks} late ticks"] if report.late_ticks else []),
        *([f"{report.dropped_frames} dropped frames"] if report.dropped_frames else []),
        *([f"{report.camera_failures} ended by a camera"] if report.camera_failures else []),
    ]
    return "; ".join(parts)
