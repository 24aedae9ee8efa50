"""Learning curves of runs, from their metrics, and the command that draws them."""

from __future__ import annotations

import io
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro

from robot_rlpd.config import replacing
from robot_rlpd.errors import ConfigError, RunDirectoryError
from robot_rlpd.evaluation import wilson_interval
from robot_rlpd.learner.metrics import read_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

SEED_FIELDS = ("seed", "run_id", "robot", "device", "threads", "compile_update")
"""Configuration fields in which runs of one group may differ."""
SUFFIXES = (".svg", ".png", ".pdf")
BAND_COLOURS = ("#1f6feb", "#d1495b", "#2a9d8f", "#8d6a9f", "#e09f3e")


def plot_curves(groups: Mapping[str, Sequence[Path]], out: Path, *, title: str = "") -> None:
    """Draw the evaluated success rate over environment steps, one line per group of runs.

    A single run gets its evaluations' 95 % intervals as a band, several runs (seeds) their range.

    Args:
        groups: Run directories by label; runs of a group differ in their seeds only.
        out: File to write; its ending, one of `SUFFIXES`, chooses the kind.
        title: Above the plot.

    Raises:
        ConfigError: Another ending.
    """
    if out.suffix not in SUFFIXES:
        raise ConfigError(field="out", found=str(out), allowed=f"a file name that ends in {', '.join(SUFFIXES)}")
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
    drawn = io.BytesIO()
    figure.savefig(drawn, format=out.suffix[1:])
    plt.close(figure)
    with replacing(out) as file:
        file.write(drawn.getbuffer())


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


@dataclass(frozen=True, kw_only=True)
class PlotCommand:
    """Options of `robot-rlpd plot`."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""
    out: Path
    """File to write; its ending chooses the kind (.svg, .png, .pdf)."""
    title: str = ""
    """Above the plot."""
    json: bool = False
    """Print one JSON object on standard output."""


def plot(command: PlotCommand) -> int:
    """Overlay the learning curves of runs; runs that differ in their seeds only become one line with a band."""
    if not command.run_dirs:
        raise ConfigError(field="run_dirs", found="none", allowed="one or more run directories")
    groups = group_runs(command.run_dirs)
    plot_curves(groups, command.out, title=command.title)
    told = {label: [str(run_dir) for run_dir in run_dirs] for label, run_dirs in groups.items()}
    if command.json:
        sys.stdout.write(json.dumps({"out": str(command.out), "groups": told}) + "\n")
    else:
        lines = [f"{label}: {len(run_dirs)} run(s)" for label, run_dirs in told.items()]
        sys.stdout.write("\n".join([str(command.out), *lines]) + "\n")
    return 0


def group_runs(run_dirs: Sequence[Path]) -> dict[str, list[Path]]:
    """Group runs whose configurations differ in `SEED_FIELDS` only, labelled by what tells the groups apart.

    Raises:
        RunDirectoryError: A directory without config.json.
    """
    by_config: dict[str, list[Path]] = defaultdict(list)
    for run_dir in run_dirs:
        by_config[json.dumps(_comparable(run_dir), sort_keys=True)].append(run_dir)
    flat = [json.loads(text) for text in by_config]
    differing = sorted(name for name in flat[0] if any(other.get(name) != flat[0][name] for other in flat))
    labels = [", ".join(f"{name.rpartition('.')[2]} {config.get(name)}" for name in differing) for config in flat]
    names = [label or runs[0].name for label, runs in zip(labels, by_config.values(), strict=True)]
    return dict(zip(names, by_config.values(), strict=True))


def _comparable(run_dir: Path) -> dict[str, Any]:
    try:
        config = json.loads((run_dir / "config.json").read_text())
    except (OSError, json.JSONDecodeError):
        raise RunDirectoryError("no run directory: its config.json cannot be read", field=str(run_dir)) from None
    flat = {name: value for name, value in config.items() if name not in (*SEED_FIELDS, "rlpd")}
    # Each seed may have demonstrations of its own; whether there are any is what counts.
    flat["prior"] = "yes" if config["prior"] else "none"
    return flat | {f"rlpd.{name}": value for name, value in config["rlpd"].items()}
