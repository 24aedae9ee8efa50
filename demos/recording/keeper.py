"""What the writer does with episodes: spool while they run, keep the last one back so that it can be undone, store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from robot_rlpd.episode import Ended, Episode, EpisodeBuilder, EpisodeInfo
from robot_rlpd.spool import EpisodeWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.episode import Step
    from robot_rlpd.robot import Action, Source, StepResult
    from robot_rlpd.specs import RobotSpec
    from robot_rlpd.spool import Store


class Keeper(Protocol):
    """Where the recorder's steps go. Used from one thread; errors are `StoreError`.

    Attributes:
        acknowledged_steps: Steps of the running episode that survive a `kill -9` of every process.
    """

    acknowledged_steps: int

    def start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """An episode begins."""
        ...

    def step(self, action: Action, source: Source, result: StepResult, wall_time_s: float) -> None:
        """Take one step."""
        ...

    def end(self, info: EpisodeInfo, *, keep: bool) -> None:
        """The episode is over, and how; a kept one is safe from now on, and can be undone until `commit`."""
        ...

    def commit(self) -> None:
        """Store the episode that was kept last, if it is not stored yet."""
        ...

    def undo(self) -> bool:
        """Drop the episode that was kept last; False if there is none that is not stored yet."""
        ...

    def close(self) -> None:
        """Store what was kept, and a running episode as interrupted."""
        ...


@dataclass
class _Running:
    writer: EpisodeWriter
    builder: EpisodeBuilder


class StoreKeeper:
    """Keeps episodes in a store, in this process.

    Args:
        store: Opened for writing; left open.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: _Running | None = None
        self._kept: tuple[EpisodeWriter, Episode] | None = None
        self.acknowledged_steps = 0

    def start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """Open a spool file."""
        self.commit()
        path = self._store.spool_directory / f"{info.uuid}.spool"
        builder = EpisodeBuilder(spec, info)
        builder.start(first, wall_time_s)
        self._running = _Running(EpisodeWriter(path, spec, info, first, wall_time_s), builder)
        self.acknowledged_steps = 0

    def step(self, action: Action, source: Source, result: StepResult, wall_time_s: float) -> None:
        """Spool the step."""
        if self._running is None:
            return
        self._running.writer.step(action, source, result, wall_time_s)
        self._running.builder.step(action, source, result, wall_time_s)
        self.acknowledged_steps += 1

    def end(self, info: EpisodeInfo, *, keep: bool) -> None:
        """Spool the end, or drop the episode."""
        running, self._running = self._running, None
        if running is None:
            return
        if not keep or not len(running.builder):
            running.writer.remove()
            return
        try:
            running.writer.end(info)
        finally:
            running.writer.close()
        changes = {name: getattr(info, name) for name in ("ended", "success", "notes", "outcome_unknown")}
        self._kept = (running.writer, running.builder.finish(**changes))

    def commit(self) -> None:
        """Store the kept episode; its spool file goes when the store has it on disk."""
        if self._kept is None:
            return
        writer, episode = self._kept
        self._kept = None
        self._store.append(episode)
        writer.remove()

    def undo(self) -> bool:
        """Drop the kept episode."""
        if self._kept is None:
            return False
        self._kept[0].remove()
        self._kept = None
        return True

    def close(self) -> None:
        """Store everything."""
        running, self._running = self._running, None
        self.commit()
        if running is None:
            return
        episode = running.builder.finish(ended=Ended.INTERRUPTED, success=None)
        running.writer.close()
        if len(episode):
            self._store.append(episode)
        running.writer.remove()


class NothingKept:
    """Takes everything and keeps nothing: for driving without recording."""

    acknowledged_steps = 0

    def start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """Nothing."""

    def step(self, action: Action, source: Source, result: StepResult, wall_time_s: float) -> None:
        """Nothing."""

    def end(self, info: EpisodeInfo, *, keep: bool) -> None:
        """Nothing."""

    def commit(self) -> None:
        """Nothing."""

    def undo(self) -> bool:
        """Nothing to drop."""
        return False

    def close(self) -> None:
        """Nothing."""


class KeepListener:
    """A `rollout.Listener` in front of a keeper.

    Args:
        keeper: Where the steps go.
        judge: The labelled end of a finished episode, and whether it is wanted.
    """

    def __init__(self, keeper: Keeper, judge: Callable[[EpisodeInfo], tuple[EpisodeInfo, bool]]) -> None:
        self._keeper = keeper
        self._judge = judge
        self.kept: EpisodeInfo | None = None
        self.steps = 0

    def on_start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """Hand the first observation over."""
        self.kept, self.steps = None, 0
        self._keeper.start(spec, info, first, wall_time_s)

    def on_step(self, step: Step) -> None:
        """Hand the step over."""
        self._keeper.step(step.action, step.source, step.result, step.wall_time_s)
        self.steps += 1

    def on_end(self, episode: Episode) -> None:
        """Hand the end over."""
        info, wanted = self._judge(episode.info)
        wanted = wanted and len(episode) > 0
        self._keeper.end(info, keep=wanted)
        self.kept = info if wanted else None
