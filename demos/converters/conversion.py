"""From what a file holds to episodes: mapped fields, clipped actions, labelled success, and a report of it all."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from demos.converters.fields import FieldSource
from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.errors import DataError
from robot_rlpd.robot import Source
from robot_rlpd.specs import ArraySpec, RobotSpec
from robot_rlpd.task import Outcome, Task

_NAMESPACE = uuid.UUID("6f5b5f0e-4b0e-5c39-9d3c-3c1a3a1b9f52")
STANDARD_SIGNALS = (
    ArraySpec(name="reward", shape=()),
    ArraySpec(name="terminated", shape=(), dtype="bool"),
    ArraySpec(name="success", shape=(), dtype="bool"),
)


@dataclass(frozen=True, kw_only=True)
class ConversionTarget:
    """What the episodes should fit.

    Attributes:
        spec: Spec of the robot; None takes one from the file, where the format can give one.
        task: Labels success and knows the time limit; None leaves success unknown.
        fields: Sources named by hand.
        source: Who chose the actions.
        control_rate_hz: Steps per second, for files that do not say and have no `spec`.
    """

    spec: RobotSpec | None = None
    task: Task | None = None
    fields: dict[str, FieldSource] = field(default_factory=dict)
    source: Source = Source.HUMAN
    control_rate_hz: float | None = None


@dataclass(kw_only=True)
class ImportReport:
    """What was done to the data; complete after the last episode.

    Attributes:
        episodes: Number of episodes.
        steps: Steps of all episodes.
        clipped_steps: Steps with an action outside the bounds.
        longest: Steps of the longest episode.
        max_episode_steps: The task's limit, None without a task.
        longer_than_limit: Episodes longer than that; they are kept whole.
        without_final_observation: Episodes whose last step has no next observation.
        cut_steps: Last steps that are no transition, as nothing is known of what followed.
        successes: Episodes in which the task was solved; None if that is unknown.
        success_unknown: Episodes that ended in a step whose outcome the file does not show.
        success_unknown_because: Why no success is known, empty otherwise.
        relabelled: Episodes of which the file says another success than the task; the task's is kept.
        unconfirmed_ends: Episodes that terminated as the file says, and that the task does not end there.
        ended: Episodes per way of ending.
        fields: Source of every field and signal.
        unused: Datasets that nothing was taken from.
        missing_signals: Signals of the task's robot that the file does not hold; they are left out.
        notes: What else was decided.
    """

    episodes: int = 0
    steps: int = 0
    clipped_steps: int = 0
    longest: int = 0
    max_episode_steps: int | None = None
    longer_than_limit: int = 0
    without_final_observation: int = 0
    cut_steps: int = 0
    successes: int | None = None
    success_unknown: int = 0
    success_unknown_because: str = ""
    relabelled: int = 0
    unconfirmed_ends: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    missing_signals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def restart(self) -> None:
        """Count from nothing, for another reading of the file; what was decided on opening it stays."""
        fresh = ImportReport(fields=self.fields, unused=self.unused, missing_signals=self.missing_signals)
        vars(self).update(vars(fresh) | {"notes": self.notes})

    @property
    def clipped_share(self) -> float:
        """Share of the steps with an action outside the bounds."""
        return self.clipped_steps / self.steps if self.steps else 0.0


@dataclass(frozen=True, kw_only=True)
class RawEpisode:
    """One episode as a format's reader finds it.

    Attributes:
        observations: Per field `(T + 1, *shape)`, or `(T, *shape)` where the last observation is missing.
        actions: Commanded actions `(T, A)`.
        signals: Per signal `(T, *shape)`.
        ended: How it ended.
        success: Whether it was solved, where the file says so.
        executed_actions: What was applied `(T, A)`; None clips `actions` to the bounds.
        sources: Who chose each action `(T,)`; None: the target's source.
        robot_times_s: As long as the observations; None counts control periods.
        wall_times_s: Likewise; None where they are unknown.
        seed: Of the reset, where the file says so.
        task: What was to be done, where the file says so.
        info: As it was before an export; its UUID is empty where the content is no longer the same.
    """

    observations: dict[str, NDArray[Any]]
    actions: NDArray[Any]
    signals: dict[str, NDArray[Any]]
    ended: Ended
    success: bool | None = None
    executed_actions: NDArray[Any] | None = None
    sources: NDArray[Any] | None = None
    robot_times_s: NDArray[Any] | None = None
    wall_times_s: NDArray[Any] | None = None
    seed: int | None = None
    task: str = ""
    info: EpisodeInfo | None = None


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """An opened file: iterate to get its episodes, one in memory at a time, then look at the report.

    Attributes:
        path: The file.
        spec: Spec of the episodes: the target's fields, and the signals that the file holds.
        target: What was asked for.
        num_steps: Steps in the file.
        read_raw: Starts reading the file from its beginning.
        report: Filled in while iterating.
    """

    path: Path
    spec: RobotSpec
    target: ConversionTarget
    num_steps: int
    read_raw: Callable[[], Iterator[RawEpisode]]
    report: ImportReport

    def __iter__(self) -> Iterator[Episode]:
        report, task = self.report, self.target.task
        report.restart()
        if task is not None:
            report.max_episode_steps = task.max_episode_steps
        report.success_unknown_because = self._unknown_because()
        judge = task if not report.success_unknown_because else None
        report.successes = None if judge is None else 0
        for index, raw in enumerate(self.read_raw()):
            episode = self._episode(index, raw)
            if judge is not None:
                episode = _labelled(episode, judge, report)
            _count(report, episode)
            yield episode
        if judge is None and report.episodes and report.success_unknown == 0:
            report.success_unknown_because = ""

    def _unknown_because(self) -> str:
        if self.target.task is None:
            return "no task is named"
        try:
            self.target.task.check_recomputable(self.spec, where=self.path.name)
        except DataError as error:
            return str(error)
        return ""

    def _episode(self, index: int, raw: RawEpisode) -> Episode:
        rows = len(next(iter(raw.observations.values())))
        actions = np.asarray(raw.actions, np.float32)
        executed, sources, times, wall = raw.executed_actions, raw.sources, raw.robot_times_s, raw.wall_times_s
        if executed is None:
            executed = np.clip(actions, self.spec.action.low, self.spec.action.high)
        if sources is None:
            sources = np.full(len(actions), int(self.target.source))
        if times is None:
            times = np.arange(rows) * self.spec.control_period_s
        return Episode(
            spec=self.spec,
            observations=raw.observations,
            actions=actions,
            executed_actions=np.asarray(executed, np.float32),
            signals=raw.signals,
            sources=np.asarray(sources, np.uint8),
            robot_times_s=np.asarray(times, np.float64),
            wall_times_s=np.zeros(rows) if wall is None else np.asarray(wall, np.float64),
            info=self._info(index, raw),
        )

    def _info(self, index: int, raw: RawEpisode) -> EpisodeInfo:
        info = raw.info or EpisodeInfo(
            uuid="",
            ended=raw.ended,
            success=raw.success,
            seed=raw.seed,
            task=raw.task,
            notes=f"imported from {self.path.name}, episode {index}",
            clock="control steps",
        )
        task = self.target.task.name if self.target.task is not None else info.task
        return replace(info, uuid=info.uuid or _identity(index, raw), task=task)


class Converter(Protocol):
    """What an entry point in `robot_rlpd.converters` loads."""

    def __call__(self, path: Path, target: ConversionTarget) -> Conversion:
        """Open a file and check that it fits, without reading its episodes.

        Raises:
            DataError: Unreadable, or something is missing or of another shape; one line that names it.
            ConfigError: A field or the control rate has to be given.
        """
        ...


def solved(episode: Episode, task: Task) -> bool | None:
    """Whether `task` is solved in the episode.

    A terminated last step without a next observation is judged by what else is known of it, and leaves success
    unknown (None) where that does not show it; a timed-out one is not judged.
    """
    terminated_unseen = not episode.has_final_observation and episode.info.ended is Ended.TERMINATED
    steps = len(episode) - 1 + int(episode.has_final_observation or terminated_unseen)
    success = False
    for t in range(steps):
        success = outcome_at(episode, task, t).success or (success and not task.success_at_end)
    return None if terminated_unseen and not success else success


def outcome_at(episode: Episode, task: Task, t: int) -> Outcome:
    """What `task` makes of step `t`; without a next observation the step's own stands for it."""
    following = min(t + 1, len(episode.robot_times_s) - 1)
    return task.evaluate(
        {name: array[t] for name, array in episode.observations.items()},
        episode.executed_actions[t],
        {name: array[t] for name, array in episode.signals.items()},
        {name: array[following] for name, array in episode.observations.items()},
    )


def _labelled(episode: Episode, task: Task, report: ImportReport) -> Episode:
    told = episode.info.success
    success = solved(episode, task)
    report.relabelled += int(None not in (told, success) and told is not success)
    if len(episode) and episode.info.ended is Ended.TERMINATED:
        report.unconfirmed_ends += int(not outcome_at(episode, task, len(episode) - 1).terminated)
    return replace(episode, info=replace(episode.info, success=success))


def with_signals(spec: RobotSpec, held: set[str]) -> RobotSpec:
    """`spec` with those of its signals, and of the standard ones, that a file holds."""
    declared = {s.name: s for s in STANDARD_SIGNALS} | {s.name: s for s in spec.signals}
    return replace(spec, signals=tuple(s for name, s in declared.items() if name in held))


def _count(report: ImportReport, episode: Episode) -> None:
    steps = len(episode)
    report.episodes += 1
    report.steps += steps
    report.clipped_steps += int((episode.actions != episode.executed_actions).any(axis=1).sum())
    report.longest = max(report.longest, steps)
    report.longer_than_limit += int(report.max_episode_steps is not None and steps > report.max_episode_steps)
    if not episode.has_final_observation:
        report.without_final_observation += 1
        report.cut_steps += int(episode.info.ended is not Ended.TERMINATED)
    success = episode.info.success
    if success is not None:
        report.successes = (report.successes or 0) + int(success)
    else:
        report.success_unknown += 1
    ended = str(episode.info.ended)
    report.ended[ended] = report.ended.get(ended, 0) + 1


def _identity(index: int, raw: RawEpisode) -> str:
    """The same content gets the same UUID, so that importing a file twice stores it once."""
    digest = hashlib.sha256(str(index).encode())
    for array in (raw.actions, *raw.observations.values()):
        digest.update(array.tobytes())
    return str(uuid.uuid5(_NAMESPACE, digest.hexdigest()))
