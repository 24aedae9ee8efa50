"""Learning curves: the metrics of a run over steps or time, and those of several seeds in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from robot_rlpd.errors import ConfigError
from robot_rlpd.evaluation import wilson_interval
from robot_rlpd.learner.csv_tables import COUNTERS
from robot_rlpd.learner.metrics import END, RATE, START, flat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Record = Mapping[str, Any]

Axis = Literal["env_steps", "wall_s", "robot_min"]
KINDS = ("evaluation", "train", "episode")
"""Where a metric's name is looked for, in this order."""
PER_EPISODE = ("episode", "intervention")
"""Kinds of records of one training episode each: their metrics are averaged over several."""
ALIASES = {"return": "mean_return"}
DEFAULT_METRIC = "success_rate"
INTERVALS = ("evaluation/success_rate", "episode/success")
"""Shares of successes: a single run has an interval of its own."""
MAX_POINTS = 400
"""Longer curves are averaged down to so many points."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that records of one kind hold."""

    kind: str
    """Kind of record."""
    name: str
    """Name in the record."""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line and its band; all arrays have one shape [N]."""

    x: NDArray[np.float64]
    """Ascending."""
    y: NDArray[np.float64]
    """The line."""
    low: NDArray[np.float64]
    """Lower edge of the band; NaN without a band."""
    high: NDArray[np.float64]
    """Upper edge."""
    seeds: NDArray[np.int64]
    """How many runs got so far."""


def find_metrics(names: Sequence[str], runs: Sequence[Sequence[Record]]) -> list[Metric]:
    """The metrics of these names in the records of runs: `NAME` or `KIND/NAME`.

    Raises:
        ConfigError: No run has such a metric; lists those that there are.
    """
    known = {(DEFAULT_METRIC, KINDS[0]): None}  # a run that was not evaluated yet will be
    for run in runs:
        for record in run:
            if record["kind"] not in (START, END):
                numbers = (name for name, value in flat(record).items() if isinstance(value, int | float))
                known |= dict.fromkeys((name, record["kind"]) for name in numbers if name not in COUNTERS)
    return [_find(name, list(known)) for name in names]


def _find(asked: str, known: Sequence[tuple[str, str]]) -> Metric:
    kind, _, name = asked.rpartition("/")
    name = ALIASES.get(name, name) if kind in ("", "evaluation") else name
    for candidate in [kind] if kind else KINDS:
        if (name, candidate) in known:
            return Metric(kind=candidate, name=name)
    allowed = ", ".join(f"{kind}/{name}" for name, kind in sorted(known, key=lambda pair: (pair[1], pair[0])))
    raise ConfigError("no such metric in these runs", field="metric", found=asked, allowed=allowed)


def run_curve(records: Sequence[Record], metric: Metric, axis: Axis, *, window: int) -> Curve:
    """The curve of one run; a share of successes has its 95 % Wilson interval as its band.

    Args:
        records: All records of the run.
        metric: What to show.
        axis: Over what.
        window: Episodes over which a metric of episodes is averaged.
    """
    rows = [flat(record) for record in records if record["kind"] == metric.kind]
    rows = [row for row in rows if isinstance(row.get(metric.name), int | float)]
    y = np.array([row[metric.name] for row in rows], np.float64)
    counts = np.array([row.get("episodes", 0) for row in rows], np.float64)
    if metric.kind in PER_EPISODE:
        y, counts = _moving_mean(y, window)
    # A robot's run that was killed keeps its steps, but goes on from the training time of its checkpoint.
    over = "env_steps" if axis == "robot_min" else axis
    x = np.maximum.accumulate(np.array([row[over] for row in rows], np.float64))
    if axis == "robot_min":
        x /= 60.0 * _control_rate_hz(records)
    x, y, counts = _shortened(x), _shortened(y), _shortened(counts)
    low = high = np.full_like(y, np.nan)
    if str(metric) in INTERVALS:
        bounds = [wilson_interval(round(share * n), round(n)) for share, n in zip(y, counts, strict=True)]
        low, high = np.array(bounds, np.float64).reshape(-1, 2).T
    return Curve(x=x, y=y, low=low, high=high, seeds=np.ones(len(x), np.int64))


def _control_rate_hz(records: Sequence[Record]) -> float:
    rates = [record[RATE] for record in records if record["kind"] == START and RATE in record]
    if not rates:
        raise ConfigError("a run does not tell its control rate", field="x", found="robot_min", allowed="env_steps")
    return float(rates[-1])


def _moving_mean(values: NDArray[np.float64], window: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of the last `window` values, or of as many as there are, and how many those are."""
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    total = np.concatenate([[0.0], values.cumsum()])
    return (total[ends] - total[starts]) / (ends - starts), (ends - starts).astype(np.float64)


def _shortened(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(values) <= MAX_POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, MAX_POINTS)])


def mean_curve(runs: Sequence[Curve]) -> Curve:
    """The mean over seeds, and their range as its band; a single run as it is.

    Each run counts as far as it got, and no further.
    """
    runs = [run for run in runs if len(run.x)]
    if len(runs) <= 1:
        empty = np.zeros(0)
        return runs[0] if runs else Curve(x=empty, y=empty, low=empty, high=empty, seeds=np.zeros(0, np.int64))
    # Records fall at episode ends, so seeds differ by a few steps: compare them on the steps of the longest run.
    x = max(runs, key=lambda run: float(run.x[-1])).x
    slack = float(np.median(np.diff(x))) / 2 if len(x) > 1 else np.inf
    y = np.stack([np.interp(x, run.x, run.y) for run in runs])
    there = np.stack([(x >= run.x[0] - slack) & (x <= run.x[-1] + slack) for run in runs])
    seeds = there.sum(axis=0)
    return Curve(
        x=x,
        y=np.where(there, y, 0.0).sum(axis=0) / seeds,
        low=np.where(there, y, np.inf).min(axis=0),
        high=np.where(there, y, -np.inf).max(axis=0),
        seeds=seeds,
    )
