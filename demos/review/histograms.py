"""The statistics of a store as histograms and ranges, for pictures and for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from demos.review.statistics import StoreStatistics

BINS = 40
MOST = 60
"""Histograms beyond this are left out, never the numbers."""
_PERCENTILES = (0, 5, 95, 100)


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How often values lie where.

    Attributes:
        title: What they are, with the unit.
        low: Where the first bin begins.
        high: Where the last bin ends.
        counts: Values in each of `BINS` bins of one width; empty where there are no values.
        log: Whether the counts are best shown on a logarithmic scale.
        empty: Why there are no values.
    """

    title: str
    low: float = 0.0
    high: float = 1.0
    counts: tuple[int, ...] = ()
    log: bool = False
    empty: str = ""


@dataclass(frozen=True, kw_only=True)
class ActionRange:
    """Where the commanded values of an action component lie, as a share of what is allowed: -1 and 1 are the bounds."""

    name: str
    lowest: float
    low_5: float
    high_95: float
    highest: float


def histograms(found: StoreStatistics) -> list[Histogram]:
    """Lengths, returns and periods, then every action component and every entry of the observations."""
    numbers = found.numbers
    wanted = f"{numbers['control_rate_hz']:g} Hz wanted"
    made = [
        _histogram("episode length [steps]", found.lengths),
        _histogram("return (sum of recorded rewards)", found.returns),
        _histogram(f"period [ms], {wanted}", found.periods_s * 1e3, log=True),
    ]
    shown = {f"action {name}{_unit(numbers['actions'][name])}": values for name, values in found.actions.items()}
    shown |= {f"{name}{_unit(numbers['observations'][name])}": values for name, values in found.observations.items()}
    return [*made, *(_histogram(title, values) for title, values in list(shown.items())[: MOST - len(made)])]


def action_ranges(found: StoreStatistics) -> list[ActionRange]:
    """One per action component; none without a step."""
    ranges = []
    for name, values in found.actions.items():
        if values.size:
            low, high = (found.numbers["actions"][name][bound] for bound in ("low", "high"))
            unit = (np.asarray(values, np.float64) - low) / (high - low) * 2.0 - 1.0
            lowest, low_5, high_95, highest = np.percentile(unit, _PERCENTILES).tolist()
            ranges.append(ActionRange(name=name, lowest=lowest, low_5=low_5, high_95=high_95, highest=highest))
    return ranges


def _unit(entry: dict[str, Any]) -> str:
    return f" [{entry['unit']}]" if entry["unit"] else ""


def _histogram(title: str, values: NDArray[Any] | None, *, log: bool = False) -> Histogram:
    if values is None or not values.size:
        return Histogram(title=title, empty="not recorded" if values is None else "no data")
    numbers = np.asarray(values, np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-6):  # no spread at all: rounding would fill the whole width
        low, high = low - 0.05 * abs(low) - 1e-6, high + 0.05 * abs(high) + 1e-6
    counts, _ = np.histogram(numbers, bins=BINS, range=(low, high))
    return Histogram(title=title, low=low, high=high, counts=tuple(counts.tolist()), log=log)
