"""Learning curves of runs, from their metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.evaluation import wilson_interval
from robot_rlpd.learner.metrics import read_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

BAND_COLOURS = ("#1f6feb", "#d1495b", "#2a9d8f", "#8d6a9f", "#e09f3e")


def plot_curves(groups: Mapping[str, Sequence[Path]], out: Path, *, title: str = "") -> None:
    """Draw the evaluated success rate over environment steps, one line per group of runs.

    A single run gets its evaluations' 95 % intervals as a band, several runs (seeds) their range.

    Args:
        groups: Run directories by label; runs of a group differ in their seeds only.
        out: File to write; its ending chooses the kind (.svg, .png).
        title: Above the plot.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
    for colour, (label, run_dirs) in zip(BAND_COLOURS * len(groups), groups.items(), strict=False):
        runs = [list(read_metrics(run_dir, "evaluation")) for run_dir in run_dirs]
        steps, middle, low, high = _band([run for run in runs if run])
        axes.plot(steps, middle, color=colour, label=label, marker=".")
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="environment steps", ylabel="success rate", ylim=(-0.02, 1.02), title=title)
    axes.grid(alpha=0.3)
    if groups:
        axes.legend(loc="best", frameon=False)
    figure.savefig(out)
    plt.close(figure)


def _band(runs: Sequence[Sequence[dict[str, Any]]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    if not runs:
        empty = np.zeros(0)
        return empty, empty, empty, empty
    if len(runs) == 1:
        run = runs[0]
        bounds = np.array([wilson_interval(r["successes"], r["episodes"]) for r in run])
        steps = np.array([r["env_steps"] for r in run])
        return steps, np.array([r["success_rate"] for r in run]), bounds[:, 0], bounds[:, 1]
    # Evaluations fall at episode ends, so seeds differ by a few steps: compare them on the longest run's steps.
    steps = np.array([r["env_steps"] for r in max(runs, key=len)])
    rates = np.array(
        [np.interp(steps, [r["env_steps"] for r in run], [r["success_rate"] for r in run]) for run in runs]
    )
    return steps, rates.mean(axis=0), rates.min(axis=0), rates.max(axis=0)
