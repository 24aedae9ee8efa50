"""From episodes to what a format's writer needs: actions, rewards and ends per step, and a report of it all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from demos.converters import kept
from demos.converters.conversion import outcome_at
from demos.converters.kept import ActionKind, KeptFile
from robot_rlpd.episode import Ended, Episode
from robot_rlpd.errors import DataError
from robot_rlpd.specs import ArraySpec, RobotSpec
from robot_rlpd.task import Task

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(kw_only=True)
class ExportReport:
    """What was written; complete after the last episode.

    Attributes:
        episodes: Number of episodes.
        steps: Steps of all episodes, as written.
        differing_actions: Steps whose commanded action is not the executed one.
        cut_steps: Last steps left out, as the format wants the observation after them and there is none.
        left_out_observations: Final observations that the format has no place for.
        went_on: Episodes that went on after their termination.
        interrupted: Episodes that were interrupted; the format knows them as truncated.
        skipped: Episodes without a step.
        fields: Where each field and signal lies.
        notes: What else was decided.
    """

    episodes: int = 0
    steps: int = 0
    differing_actions: int = 0
    cut_steps: int = 0
    left_out_observations: int = 0
    went_on: int = 0
    interrupted: int = 0
    skipped: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ExportedEpisode:
    """One episode for a writer.

    Attributes:
        index: Its number in the file, from 0.
        episode: As stored.
        actions: The chosen kind of action `(T, A)` float32.
        rewards: `(T,)` float32; None where nobody knows them.
        terminated: `(T,)` bool.
        truncated: `(T,)` bool: the last step, unless it terminated.
        columns: What else is kept per step, `(T, ...)` each: other signals, and `kept.columns`.
        entry: What is kept per episode.
    """

    index: int
    episode: Episode
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32] | None
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    columns: dict[str, NDArray[Any]]
    entry: str

    def steps(self, name: str) -> NDArray[Any]:
        """Observations of a field that have an action `(T, *shape)`."""
        return self.episode.observations[name][: len(self.actions)]


@dataclass(frozen=True, kw_only=True)
class Export:
    """Episodes on their way out, one in memory at a time; look at the report afterwards.

    Attributes:
        path: Name of the store, for messages.
        name: Name of what is written.
        spec: Spec of the robot.
        num_episodes: Episodes in the store.
        all_have_final_observation: Whether the observation after the last action is there in every episode.
        read: Starts reading from the beginning.
        task: Recomputes reward, end and success; None takes them as they were signalled.
        actions: Which actions are exported as the format's own.
        report: Filled in while iterating.
    """

    path: str
    name: str
    spec: RobotSpec
    num_episodes: int
    all_have_final_observation: bool
    read: Callable[[], Iterable[Episode]]
    task: Task | None = None
    actions: ActionKind = "executed"
    report: ExportReport = field(default_factory=ExportReport)

    @property
    def has_rewards(self) -> bool:
        """Whether rewards are known."""
        return self.task is not None or "reward" in {s.name for s in self.spec.signals}

    @property
    def column_specs(self) -> tuple[ArraySpec, ...]:
        """Of the signals among `ExportedEpisode.columns`: all but the reward, for which formats have a place."""
        specs = {s.name: s for s in self.spec.signals if s.name != "reward"}
        if self.task is not None:
            specs |= {name: ArraySpec(name=name, shape=(), dtype="bool") for name in ("terminated", "success")}
        return tuple(specs.values())

    def need_rewards(self, kind: str) -> None:
        """Refuse to write a format that wants rewards where nobody knows them.

        Raises:
            DataError: Says which option to give.
        """
        if not self.has_rewards:
            hint = "let a task compute it: --task"
            raise DataError(f"{self.path} holds no reward, and {kind} wants one", field="signals.reward", hint=hint)

    def keep(self, sources: dict[str, str]) -> KeptFile:
        """What is kept per file; reports the sources."""
        self.report.fields = dict(sources)
        return KeptFile.of(self.spec, sources, self.actions)

    def episodes(self, *, every_step_followed: bool = False) -> Iterator[ExportedEpisode]:
        """The episodes that have a step, in the order of the store.

        Args:
            every_step_followed: Whether the format wants an observation after every step: a last step without one is
                then left out, unless it terminated.
        """
        for episode in self.read():
            exported = self._exported(episode) if len(episode) else None
            if exported is not None and every_step_followed and not _is_followed(exported):
                self.report.cut_steps += 1
                exported = self._exported(_without_last_step(episode)) if len(episode) > 1 else None
            if exported is None:
                self.report.skipped += 1
                continue
            yield exported
            self._count(exported)

    def _exported(self, episode: Episode) -> ExportedEpisode:
        rewards, terminated, success = self._judged(episode)
        truncated = np.zeros(len(episode), np.bool_)
        truncated[-1] = not terminated[-1]
        columns = {name: column for name, column in episode.signals.items() if name != "reward"}
        if success is not None:
            columns |= {"terminated": terminated, "success": success}
        actions = episode.executed_actions if self.actions == "executed" else episode.actions
        return ExportedEpisode(
            index=self.report.episodes,
            episode=episode,
            actions=actions,
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            columns={**columns, **kept.columns(episode, self.actions)},
            entry=kept.episode_json(episode, actions),
        )

    def _count(self, exported: ExportedEpisode) -> None:
        report, episode = self.report, exported.episode
        report.episodes += 1
        report.steps += len(episode)
        report.differing_actions += int((episode.actions != episode.executed_actions).any(axis=1).sum())
        report.went_on += int(exported.terminated[:-1].any())
        report.interrupted += int(episode.info.ended is Ended.INTERRUPTED)

    def _judged(
        self, episode: Episode
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Rewards, terminations and, with a task, successes."""
        if self.task is not None:
            outcomes = [outcome_at(episode, self.task, t) for t in range(len(episode))]
            return (
                np.array([outcome.reward for outcome in outcomes], np.float32),
                np.array([outcome.terminated for outcome in outcomes], np.bool_),
                np.array([outcome.success for outcome in outcomes], np.bool_),
            )
        signals = episode.signals
        terminated = np.array(signals.get("terminated", np.zeros(len(episode))), np.bool_).reshape(-1)
        terminated[-1] |= episode.info.ended is Ended.TERMINATED
        rewards = np.asarray(signals["reward"], np.float32).reshape(-1) if "reward" in signals else None
        return rewards, terminated, None


def _is_followed(exported: ExportedEpisode) -> bool:
    return exported.episode.has_final_observation or bool(exported.terminated[-1])


def _without_last_step(episode: Episode) -> Episode:
    return replace(
        episode,
        actions=episode.actions[:-1],
        executed_actions=episode.executed_actions[:-1],
        signals={name: column[:-1] for name, column in episode.signals.items()},
        sources=episode.sources[:-1],
    )


class Exporter(Protocol):
    """What an entry point in `robot_rlpd.exporters` loads."""

    def __call__(self, export: Export, out: Path) -> None:
        """Write every episode to `out`, a file or a directory that does not exist yet, in bounded memory.

        Raises:
            DataError: The format cannot hold what there is to write; names it.
        """
        ...
