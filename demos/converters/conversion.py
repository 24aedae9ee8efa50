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
from robot_rlpd.task import Task

_NAMESPACE = uuid.UUID("6f5b5f0e-4b0e-5c39-9d3c-3c1a3a1b9f52")
STANDARD_SIGNALS = (ArraySpec(name="reward", shape=()), ArraySpec(name="terminated", shape=(), dtype="bool"))


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
        successes: Episodes in which the task was solved; None if that is unknown.
        success_unknown: Episodes that ended in a step whose outcome the file does not show.
        success_unknown_because: Why no success is known, empty otherwise.
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
    successes: int | None = None
    success_unknown: int = 0
    success_unknown_because: str = ""
    ended: dict[str, int] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    missing_signals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

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
    """

    observations: dict[str, NDArray[Any]]
    actions: NDArray[Any]
    signals: dict[str, NDArray[Any]]
    ended: Ended


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
        if task is not None:
            report.max_episode_steps = task.max_episode_steps
        report.success_unknown_because = self._unknown_because()
        report.successes = None if report.success_unknown_because else 0
        for index, raw in enumerate(self.read_raw()):
            episode = self._episode(index, raw)
            if task is not None and report.successes is not None:
                success = solved(episode, task)
                episode = replace(episode, info=replace(episode.info, success=success))
                report.successes += int(success is True)
                report.success_unknown += int(success is None)
            _count(report, episode)
            yield episode

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
        return Episode(
            spec=self.spec,
            observations=raw.observations,
            actions=actions,
            executed_actions=np.clip(actions, self.spec.action.low, self.spec.action.high),
            signals=raw.signals,
            sources=np.full(len(actions), int(self.target.source), np.uint8),
            robot_times_s=np.arange(rows, dtype=np.float64) * self.spec.control_period_s,
            wall_times_s=np.zeros(rows),
            info=EpisodeInfo(
                uuid=_identity(index, raw),
                ended=raw.ended,
                task=self.target.task.name if self.target.task is not None else "",
                notes=f"imported from {self.path.name}, episode {index}",
                clock="control steps",
            ),
        )


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
    last = len(episode.robot_times_s) - 1
    terminated_unseen = last < len(episode) and episode.info.ended is Ended.TERMINATED
    success = False
    for t in range(last + int(terminated_unseen)):
        outcome = task.evaluate(
            {name: array[t] for name, array in episode.observations.items()},
            episode.executed_actions[t],
            {name: array[t] for name, array in episode.signals.items()},
            {name: array[min(t + 1, last)] for name, array in episode.observations.items()},
        )
        success = outcome.success or (success and not task.success_at_end)
    return None if terminated_unseen and not success else success


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
    report.without_final_observation += int(not episode.has_final_observation)
    ended = str(episode.info.ended)
    report.ended[ended] = report.ended.get(ended, 0) + 1


def _identity(index: int, raw: RawEpisode) -> str:
    """The same content gets the same UUID, so that importing a file twice stores it once."""
    digest = hashlib.sha256(str(index).encode())
    for array in (raw.actions, *raw.observations.values()):
        digest.update(array.tobytes())
    return str(uuid.uuid5(_NAMESPACE, digest.hexdigest()))
