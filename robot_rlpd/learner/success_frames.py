"""Recorded observations with the label that a success classifier learns: the last ones of solved episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_rlpd.errors import DataError
from robot_rlpd.specs import check_contract

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from robot_rlpd.episode import Episode
    from robot_rlpd.specs import PolicyContract

PARTS = (0.6, 0.2, 0.2)
"""Shares of the episodes that are learned from, that the threshold is chosen on, and that are held out."""
LEAST_SOLVED = 5
"""Solved episodes without which there is nothing to split."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """N observations."""

    columns: dict[str, NDArray[Any]]
    """`(N, *shape)` by field."""
    solved: NDArray[np.bool_]
    """Whether the task was solved, `(N,)`."""
    episode: NDArray[np.int64]
    """Number of the episode, ascending, `(N,)`."""
    unlabelled: int = 0
    """Episodes left out, since nobody said whether they were solved or nothing was observed at their end."""

    def __len__(self) -> int:
        return len(self.solved)

    def of(self, episodes: NDArray[np.int64]) -> Frames:
        """Those of some episodes."""
        chosen = np.isin(self.episode, episodes)
        columns = {name: column[chosen] for name, column in self.columns.items()}
        return Frames(columns=columns, solved=self.solved[chosen], episode=self.episode[chosen])


def labelled(episodes: Iterable[Episode], fields: Sequence[str], *, final_steps: int) -> Frames:
    """The observations of episodes whose success is known.

    Args:
        episodes: With the fields.
        fields: To be kept.
        final_steps: The last observations of a solved episode that count as solved; all others do not.

    Raises:
        DataError: Too few episodes were solved.
    """
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in fields}
    solved, numbers, unlabelled = [], [], 0
    for number, episode in enumerate(episodes):
        if episode.info.success is None or not episode.has_final_observation:
            unlabelled += 1
            continue
        rows = len(episode) + 1
        for name in fields:
            columns[name].append(episode.observations[name][:rows])
        labels = np.zeros(rows, np.bool_)
        labels[rows - final_steps :] = episode.info.success
        solved.append(labels)
        numbers.append(np.full(rows, number, np.int64))
    num_solved = sum(bool(labels.any()) for labels in solved)
    if num_solved < LEAST_SOLVED:
        raise DataError(
            "too few solved episodes to learn from, to choose a threshold on and to hold out",
            field="stores",
            found=f"{num_solved} solved of {len(solved)} with a known outcome",
            allowed=f"{LEAST_SOLVED} or more; 50 say much more",
            hint="record more with: robot-rlpd record",
        )
    return Frames(
        columns={name: np.concatenate(parts) for name, parts in columns.items()},
        solved=np.concatenate(solved),
        episode=np.concatenate(numbers),
        unlabelled=unlabelled,
    )


def load_labelled(paths: Sequence[Path], contract: PolicyContract, *, final_steps: int) -> Frames:
    """`labelled` for whole stores.

    Raises:
        MismatchError: A store of another robot; names the differing field.
        DataError: Too few episodes were solved.
    """
    from robot_rlpd.episode_store import EpisodeStore

    episodes: list[Episode] = []
    for path in paths:
        with EpisodeStore.open(path) as store:
            check_contract(contract, store.spec, who=f"store {path}")
            episodes += store.load_all()
    return labelled(episodes, [spec.name for spec in contract.observation], final_steps=final_steps)


def split(frames: Frames, *, seed: int) -> tuple[Frames, Frames, Frames]:
    """Whole episodes in `PARTS`, solved and unsolved ones likewise; at least one solved episode in each.

    Args:
        frames: Of `LEAST_SOLVED` solved episodes or more.
        seed: Decides which.
    """
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[], [], []]
    ended = {int(number): bool(frames.solved[frames.episode == number].any()) for number in np.unique(frames.episode)}
    for wanted in (True, False):
        numbers = rng.permutation([number for number, solved in ended.items() if solved is wanted])
        ends = np.round(np.cumsum(PARTS) * len(numbers)).astype(int)
        for part, chosen in zip(parts, np.split(numbers, ends[:-1]), strict=True):
            part += [int(number) for number in chosen]
    learned, chosen_on, held_out = (frames.of(np.array(part, np.int64)) for part in parts)
    return learned, chosen_on, held_out
