"""Records demonstrations: episodes of one device on one robot into a store, until there are enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from demos.teleop.device import EpisodeControls
from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.rollout import rollout
from robot_rlpd.spool import StoreListener

if TYPE_CHECKING:
    from collections.abc import Callable

    from demos.teleop.device import Request
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.robot import Policy, Robot
    from robot_rlpd.task import Task


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """How much to record, and what to keep.

    Attributes:
        episodes: Episodes to keep.
        max_attempts: Give up after so many episodes, kept or not.
        first_seed: Seed of the first reset; each attempt takes the next.
        keep_failures: Keep unsolved episodes too.
        info: Device, operator, notes ... of every episode.
    """

    episodes: int
    max_attempts: int
    first_seed: int = 0
    keep_failures: bool = False
    info: EpisodeInfo


@dataclass(kw_only=True)
class RecordReport:
    """What was recorded so far.

    Attributes:
        attempts: Episodes run.
        kept: Episodes stored.
        successes: Solved ones among all that were run.
        steps: Steps of the stored episodes.
        interrupted: The session was ended before there were enough.
    """

    attempts: int = 0
    kept: int = 0
    successes: int = 0
    steps: int = 0
    interrupted: bool = False


def record(
    robot: Robot,
    device: Policy,
    task: Task,
    store: EpisodeStore,
    options: RecordOptions,
    *,
    report: RecordReport | None = None,
    on_episode: Callable[[RecordReport], None] = lambda report: None,
) -> RecordReport:
    """Run episodes until enough are kept, the attempts are used up, or the operator quits.

    Args:
        robot: Opened, with its safety around it.
        device: Its `request` ends and labels episodes if it has one.
        task: Judges success where the operator does not.
        store: Opened for writing; what is committed stays, whatever happens afterwards.
        options: How much, and what to keep.
        report: Counted up, also when an exception ends the session.
        on_episode: Told after every episode.
    """
    report = report or RecordReport()

    def request() -> Request:
        return device.request if isinstance(device, EpisodeControls) else ""

    def keep(episode: Episode) -> bool:
        wanted = options.keep_failures or bool(episode.info.success)
        return wanted and len(episode) > 0 and request() not in ("discard", "quit")

    listener = StoreListener(store, keep=keep, label=lambda episode: labelled(episode, request()))
    while report.kept < options.episodes and report.attempts < options.max_attempts:
        seed = options.first_seed + report.attempts
        report.attempts += 1
        episode = rollout(
            robot,
            device,
            task,
            seed=seed,
            info=replace(options.info, uuid=EpisodeInfo().uuid),
            listeners=[listener],
            should_stop=lambda: request() != "",
        )
        report.successes += int(bool(labelled(episode, request()).info.success))
        if listener.kept is not None:
            report.kept += 1
            report.steps += len(listener.kept)
        on_episode(report)
        if request() == "quit":
            report.interrupted = True
            break
    return report


def labelled(episode: Episode, request: Request) -> Episode:
    """The episode as the operator judged it: ending it by hand is a truncation."""
    if request not in ("success", "failure"):
        return episode
    ended = Ended.TRUNCATED if episode.info.ended is Ended.INTERRUPTED else episode.info.ended
    return replace(episode, info=replace(episode.info, success=request == "success", ended=ended))
