"""Prior data: recorded episodes as transitions for the learner, judged anew by the task."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from robot_rlpd.episode import Episode, Transitions, transitions
from robot_rlpd.errors import DataError
from robot_rlpd.learner.policy import Normalizer, normalized
from robot_rlpd.previous_actions import FIELD as PREVIOUS_ACTIONS
from robot_rlpd.specs import check_contract

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.learner.replay import ReplayBuffer
    from robot_rlpd.specs import ArraySpec, PolicyContract
    from robot_rlpd.task import Task

LEAST_SHARE = 0.03
"""Of half the range of a bounded entry: its smallest scale."""
CONSTANT = 1e-8
"""Standard deviation below which nothing varied."""


@dataclass
class PriorReport:
    """What prior data amount to under a task.

    Attributes:
        episodes: Episodes read.
        transitions: Usable transitions.
        successes: Episodes in which the task was solved at some step.
        success_transitions: Transitions at which it was solved.
        unusable_steps: Recorded steps that gave no transition (no next observation, or after a termination).
        digests: Digest of each store by its name.
    """

    episodes: int = 0
    transitions: int = 0
    successes: int = 0
    success_transitions: int = 0
    unusable_steps: int = 0
    digests: dict[str, str] = field(default_factory=dict)

    def add(self, steps: int, found: Transitions) -> None:
        """Count one episode."""
        self.episodes += 1
        self.transitions += len(found)
        self.successes += int(found.successes.any())
        self.success_transitions += int(found.successes.sum())
        self.unusable_steps += steps - len(found)

    def __str__(self) -> str:
        return (
            f"{self.episodes} episodes, {self.transitions} transitions; solved in {self.successes} episodes "
            f"({self.success_transitions} transitions); {self.unusable_steps} steps unusable"
        )


def fill_replay(
    replay: ReplayBuffer, found: Iterable[Transitions], contract: PolicyContract, normalizer: Normalizer | None
) -> None:
    """Add transitions as the learner sees them: flat float32 observations, actions in [-1, 1]."""
    for part in found:
        replay.start_episode()
        columns = {
            "observations": normalized(contract.flatten(part.observations), normalizer),
            "actions": contract.action.to_unit(part.executed_actions),
            "rewards": part.rewards,
            "masks": part.masks,
            "next_observations": normalized(contract.flatten(part.next_observations), normalizer),
        }
        replay.append_many({name: torch.from_numpy(column) for name, column in columns.items()})


def judged(episodes: Iterable[Episode], task: Task, contract: PolicyContract, report: PriorReport) -> list[Transitions]:
    """Transitions of every episode, counted in `report`."""
    fields = [spec.name for spec in contract.observation]
    judgements = []
    for episode in episodes:
        found = transitions(episode, task, fields)
        report.add(len(episode), found)
        judgements.append(found)
    return judgements


def load_prior(
    paths: Sequence[Path], task: Task, contract: PolicyContract
) -> tuple[list[list[Transitions]], PriorReport]:
    """Read prior stores, checked against the contract and the task.

    Returns:
        The transitions of each store, one entry per episode, and the report about all.

    Raises:
        MismatchError: A store of another robot; names the differing field.
        DataError: A store whose rewards the task cannot recompute, or without a usable transition.
    """
    from robot_rlpd.episode_store import EpisodeStore

    report = PriorReport()
    found: list[list[Transitions]] = []
    for path in paths:
        with EpisodeStore.open(path) as store:
            check_contract(contract, store.spec, who=f"store {path}")
            task.check_recomputable(store.spec, where=f"store {path}")
            before = report.transitions
            found.append(judged(store.load_all(), task, contract, report))
            if report.transitions == before:
                raise DataError("holds no usable transition", field=f"prior {path}")
            report.digests[path.name] = digest(store)
    return found, report


def digest(store: EpisodeStore) -> str:
    """SHA-256 (hex) over the fingerprint and the identities of the episodes, in order."""
    names = [store.spec.fingerprint, *(stored.info.uuid for stored in store.infos())]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def fit_normalizer(found: Sequence[Transitions], contract: PolicyContract) -> Normalizer:
    """Mean and scale of the prior observations, frozen for the whole run.

    The scale of an entry is its standard deviation, but at least a tenth of the largest in its field and, where both
    bounds are finite, `LEAST_SHARE` of half its range: an entry that hardly varied while demonstrated would otherwise
    drown all others as soon as it does. Fields that are constant get scale 1. Previous actions are scaled as actions
    are, by their bounds.

    Returns:
        Mean and scale of the flattened observation, float32 `(O,)` each.
    """
    parts = []
    for spec in contract.observation:
        if spec.is_image:  # scaled by the encoder
            parts.append((np.zeros(spec.size), np.ones(spec.size)))
            continue
        rows = np.concatenate([part.observations[spec.name] for part in found]).astype(np.float64)
        parts.append(_scaling(spec, rows.reshape(len(rows), -1)))
    means, scales = (np.concatenate(column).astype(np.float32) for column in zip(*parts, strict=True))
    return means, scales


def _scaling(spec: ArraySpec, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and scale `(size,)` of a field that was observed as `rows` `(N, size)`."""
    low, high = (np.broadcast_to(np.array(bound, np.float64), rows.shape[1:]) for bound in (spec.low, spec.high))
    half_range = np.where(np.isfinite(high - low), (high - low) / 2.0, 0.0)
    if spec.name == PREVIOUS_ACTIONS and half_range.all():
        return (low + high) / 2.0, half_range
    mean, deviations = rows.mean(axis=0), rows.std(axis=0)
    if deviations.max() <= CONSTANT:
        return mean, np.ones_like(deviations)
    return mean, np.maximum(deviations, np.maximum(0.1 * deviations.max(), LEAST_SHARE * half_range))
