"""Learning curves of runs as a picture file, and the command that draws them."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from robot_rlpd.config import replacing
from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.curves import DEFAULT_METRIC, Axis, Metric, find_metrics, mean_curve, run_curve
from robot_rlpd.learner.metrics import read_metrics
from robot_rlpd.learner.panels import Panel, draw_panels
from robot_rlpd.learner.run_groups import group_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SUFFIXES = (".svg", ".png", ".pdf")
DPI = 150
"""Of pictures made of pixels."""


def plot_curves(
    groups: Mapping[str, Sequence[Path]],
    out: Path,
    *,
    title: str = "",
    metrics: Sequence[str] = (DEFAULT_METRIC,),
    x: Axis = "env_steps",
    window: int = 20,
) -> list[Metric]:
    """Draw metrics, each in a panel of its own, with one line per group of runs.

    A single run gets the 95 % intervals of its success rates as a band, several runs (seeds) their range.

    Args:
        groups: Run directories by label; runs of a group differ in their seeds only.
        out: File to write; its ending, one of `SUFFIXES`, chooses the kind.
        title: Above the plot.
        metrics: Names as `find_metrics` takes them.
        x: Over environment steps, training time, or time on the robot.
        window: Episodes over which metrics of training episodes are averaged.

    Returns:
        What was drawn.

    Raises:
        ConfigError: Another ending, or a metric that no run has.
        RunDirectoryError: A directory holds no metrics.
    """
    if out.suffix not in SUFFIXES:
        raise ConfigError(field="out", found=str(out), allowed=f"a file name that ends in {', '.join(SUFFIXES)}")
    runs = {label: [read_metrics(run_dir) for run_dir in run_dirs] for label, run_dirs in groups.items()}
    found = find_metrics(metrics, [run for group in runs.values() for run in group])
    panels = [
        Panel(
            metric=metric,
            curves={
                label: mean_curve([run_curve(run, metric, x, window=window) for run in group])
                for label, group in runs.items()
            },
        )
        for metric in found
    ]
    num_runs = {label: len(group) for label, group in runs.items()}
    drawn = io.BytesIO()
    draw_panels(panels, num_runs, x, window=window, title=title).savefig(drawn, format=out.suffix[1:], dpi=DPI)
    with replacing(out) as file:
        file.write(drawn.getbuffer())
    return found


@dataclass(frozen=True, kw_only=True)
class PlotCommand:
    """Options of `robot-rlpd plot`."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""
    out: Path
    """File to write; its ending chooses the kind (.svg, .png, .pdf)."""
    metric: tuple[str, ...] = (DEFAULT_METRIC,)
    """What to draw, each in a panel of its own: success_rate and return (per episode) of evaluations, any number of
    metrics.jsonl such as q_mean, critic_loss, temperature, env_steps_per_s, and of training episodes success, length;
    KIND/NAME where several kinds have the name."""
    x: Axis = "env_steps"
    """env_steps: environment steps; wall_s: training time, in minutes or hours; robot_min: environment steps over the
    control rate, in minutes."""
    window: int = 20
    """Episodes over which metrics of training episodes are averaged."""
    title: str = ""
    """Above the plot."""
    json: bool = False
    """Print one JSON object on standard output."""


def plot(command: PlotCommand) -> int:
    """Overlay the learning curves of runs; those that differ in their seeds are one line and a band.

    The band is the range over seeds, for a single run the 95 % interval of its success rates. Runs may still be going
    on.
    """
    for name, found in (("run_dirs", command.run_dirs), ("metric", command.metric)):
        if not found:
            raise ConfigError(field=name, found="none", allowed="one or more")
    if command.window < 1:
        raise ConfigError(field="window", found=command.window, allowed=">= 1 episode")
    groups = group_runs(command.run_dirs)
    metrics = plot_curves(
        groups, command.out, title=command.title, metrics=command.metric, x=command.x, window=command.window
    )
    told = {label: [str(run_dir) for run_dir in run_dirs] for label, run_dirs in groups.items()}
    if command.json:
        result = {"out": str(command.out), "metrics": [str(metric) for metric in metrics], "groups": told}
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        lines = [f"{label}: {len(run_dirs)} run(s)" for label, run_dirs in told.items()]
        sys.stdout.write("\n".join([str(command.out), *lines]) + "\n")
    return 0
