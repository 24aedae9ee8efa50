"""Search for the quantities that make a cost least, with CMA-ES (Hansen's `cma`)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

FIRST_STEP = 0.25
"""Standard deviation of the first candidates, as a part of the range."""


@dataclass(frozen=True)
class Range:
    """Where a quantity is looked for, on a logarithmic scale where it is a factor.

    Attributes:
        low: Smallest value.
        high: Largest value.
        is_factor: Whether it multiplies.
    """

    low: float
    high: float
    is_factor: bool = False

    def to_unit(self, value: float) -> float:
        """0 at the smallest value, 1 at the largest."""
        if self.is_factor:
            return float((np.log(value) - np.log(self.low)) / (np.log(self.high) - np.log(self.low)))
        return (value - self.low) / (self.high - self.low)

    def from_unit(self, unit: float) -> float:
        """The inverse of `to_unit`."""
        if self.is_factor:
            return float(np.exp(np.log(self.low) + unit * (np.log(self.high) - np.log(self.low))))
        return self.low + unit * (self.high - self.low)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search ended with.

    Attributes:
        values: The quantities.
        evaluations: How often the cost was computed.
        interrupted: Whether Ctrl-C ended it.
    """

    values: dict[str, float]
    evaluations: int
    interrupted: bool


def search(
    cost: Callable[[Mapping[str, float]], float],
    start: Mapping[str, float],
    ranges: Mapping[str, Range],
    *,
    evaluations: int,
    seed: int,
    on_progress: Callable[[int, float], None] = lambda count, least: None,
) -> Found:
    """Search from the start; Ctrl-C ends it with the best found so far.

    Args:
        cost: What is to become small, given values by name.
        start: Where to begin, and what is kept if nothing better is found.
        ranges: Of the quantities of `start`.
        evaluations: Largest number of computations of the cost.
        seed: Of the search, at least 0.
        on_progress: Told the number of computations and the least cost after each generation.
    """
    names = list(start)

    def values(unit: NDArray[np.float64]) -> dict[str, float]:
        return {name: ranges[name].from_unit(float(u)) for name, u in zip(names, unit, strict=True)}

    begin = np.array([ranges[name].to_unit(start[name]) for name in names])
    best, count, interrupted = _least(lambda unit: cost(values(unit)), begin, evaluations, seed, on_progress)
    if cost(values(begin)) <= cost(values(best)):
        best = begin
    return Found(values=values(best), evaluations=count, interrupted=interrupted)


def _least(
    cost: Callable[[NDArray[np.float64]], float],
    start: NDArray[np.float64],
    evaluations: int,
    seed: int,
    on_progress: Callable[[int, float], None],
) -> tuple[NDArray[np.float64], int, bool]:
    """The best point of the unit cube that was found, the number of evaluations, and whether Ctrl-C ended it."""
    import cma

    draws = np.random.default_rng(seed)
    # With one dimension cma has no covariance to adapt and says so; a second one that nothing depends on is harmless.
    padded = np.append(start, [0.5] * (len(start) == 1))
    options = {
        "bounds": [0.0, 1.0],
        "maxfevals": evaluations,
        "randn": lambda *shape: draws.standard_normal(shape),
        "seed": np.nan,
        "verbose": -9,
        "verb_log": 0,
        "tolx": 1e-4,
        "tolfun": 1e-12,
    }
    interrupted = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strategy = cma.CMAEvolutionStrategy(np.clip(padded, 0.05, 0.95), FIRST_STEP, options)
        try:
            while not strategy.stop():
                candidates = strategy.ask()
                strategy.tell(candidates, [cost(np.asarray(c)[: len(start)]) for c in candidates])
                on_progress(int(strategy.result.evaluations), float(strategy.result.fbest))
        except KeyboardInterrupt:
            if strategy.result.xbest is None:
                raise
            interrupted = True
    return np.asarray(strategy.result.xbest)[: len(start)], int(strategy.result.evaluations), interrupted
