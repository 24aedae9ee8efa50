"""How good a success classifier is, and the threshold that makes its word reliable."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.evaluation import wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class Score:
    """What was said of observations whose truth is known.

    Attributes:
        true_positives: Solved, and said so.
        false_positives: Said so, but not solved.
        solved: All that are solved.
        observations: All.
    """

    true_positives: int
    false_positives: int
    solved: int
    observations: int

    @property
    def said_solved(self) -> int:
        """How many were said to be solved."""
        return self.true_positives + self.false_positives

    @property
    def precision(self) -> float:
        """Of those said to be solved, the share that is; 1 where none was."""
        return self.true_positives / self.said_solved if self.said_solved else 1.0

    @property
    def recall(self) -> float:
        """Of those that are solved, the share that was said to be."""
        return self.true_positives / self.solved if self.solved else 1.0

    def to_json(self) -> dict[str, Any]:
        """Counts, shares and their 95 % intervals."""
        return asdict(self) | {
            "precision": self.precision,
            "precision_ci95": list(wilson_interval(self.true_positives, self.said_solved)),
            "recall": self.recall,
            "recall_ci95": list(wilson_interval(self.true_positives, self.solved)),
        }

    def __str__(self) -> str:
        precision, recall = (
            f"{self.true_positives}/{n} ({low:.0%} to {high:.0%})"
            for n in (self.said_solved, self.solved)
            for low, high in [wilson_interval(self.true_positives, n)]
        )
        return f"precision {precision}, recall {recall} of {self.observations} observations"


def score(said: NDArray[np.bool_], solved: NDArray[np.bool_]) -> Score:
    """Compare what was said with the truth, `(N,)` each."""
    return Score(
        true_positives=int((said & solved).sum()),
        false_positives=int((said & ~solved).sum()),
        solved=int(solved.sum()),
        observations=len(solved),
    )


def choose_threshold(
    probabilities: NDArray[np.float64], solved: NDArray[np.bool_], *, precision: float
) -> tuple[float, Score]:
    """The threshold with the largest recall among those with this precision; else the one of the highest precision.

    Args:
        probabilities: `(N,)`.
        solved: The truth, `(N,)`.
        precision: Wanted, 0 to 1.

    Returns:
        The threshold, halfway to the next lower probability and at least `LEAST_THRESHOLD`, and what it is worth here.
    """
    levels = np.unique(np.append(probabilities, LEAST_THRESHOLD))
    levels = levels[levels >= LEAST_THRESHOLD]
    below = np.maximum(np.concatenate([[LEAST_THRESHOLD], levels[:-1]]), LEAST_THRESHOLD)
    candidates = []
    for threshold in (levels + below) / 2.0:
        found = score(probabilities >= threshold, solved)
        if found.said_solved:
            candidates.append((min(found.precision, precision), found.recall, float(threshold), found))
    if not candidates:
        return LEAST_THRESHOLD, score(probabilities >= LEAST_THRESHOLD, solved)
    best = max(candidates, key=lambda candidate: candidate[:3])
    return best[2], best[3]
