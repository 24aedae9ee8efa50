"""What a recording session is asked for, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass

from demos.recording.cameras import TIMEOUT_S
from robot_rlpd.episode import EpisodeInfo


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """How much to record, and what to keep.

    Attributes:
        episodes: Episodes to keep, those of `already` included.
        already: Episodes that the store holds and that count.
        max_attempts: Give up after so many episodes, kept or not.
        first_seed: Seed of the first reset; each attempt takes the next.
        keep_failures: Keep unsolved episodes too, also those that the operator did not label.
        reset_time_s: Time between two episodes to put the scene in order [s]; None waits for the operator.
        camera_timeout_s: A camera without an image for so long ends the episode [s]; infinite for never.
        info: Device, operator, notes ... of every episode.
    """

    episodes: int
    already: int = 0
    max_attempts: int
    first_seed: int = 0
    keep_failures: bool = False
    reset_time_s: float | None = 0.0
    camera_timeout_s: float = TIMEOUT_S
    info: EpisodeInfo


@dataclass(kw_only=True)
class RecordReport:
    """What was recorded so far.

    Attributes:
        attempts: Episodes run.
        kept: Episodes stored; one that was interrupted is stored too, but does not count.
        successes: Solved ones among all that were run.
        steps: Steps of the stored episodes.
        interrupted: The session was ended before there were enough.
        late_ticks: Steps that took more than 1.1 control periods.
        dropped_frames: Camera frames that did not come in time.
        camera_failures: Episodes that ended because a camera gave no image any more.
    """

    attempts: int = 0
    kept: int = 0
    successes: int = 0
    steps: int = 0
    interrupted: bool = False
    late_ticks: int = 0
    dropped_frames: int = 0
    camera_failures: int = 0
