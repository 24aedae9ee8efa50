"""Curves as a figure: one panel per metric, one line and band per group of runs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.learner.curves import PER_EPISODE, Curve, Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from robot_rlpd.learner.curves import Axis

BAND_COLOURS = ("#1f6feb", "#d1495b", "#2a9d8f", "#8d6a9f", "#e09f3e")
MARKERS = "os^DvP"
STYLES = ("-", "--", ":", "-.")
"""Beyond as many groups as there are colours, the next style."""
MARKED_POINTS = 40
"""A curve of more points has no markers."""
SHARES = (
    *("success_rate", "recent_success_rate", "success", "solved_step_share", "ci95_low", "ci95_high"),
    *("rate", "recent_rate"),
)
"""Metrics between 0 and 1."""
HOURS_FROM_S = 7200.0
"""Shorter times are shown in minutes [s]."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What is drawn of one metric."""

    metric: Metric
    """Names the vertical axis."""
    curves: Mapping[str, Curve]
    """By label of the group."""


def draw_panels(
    panels: Sequence[Panel], num_runs: Mapping[str, int], axis: Axis, *, window: int, title: str = ""
) -> Figure:
    """Draw panels above one another.

    Args:
        panels: With the same groups each.
        num_runs: Runs (seeds) of each group.
        axis: What the curves are over.
        window: Episodes over which metrics of training episodes were averaged.
        title: Above the plot.
    """
    from matplotlib.figure import Figure

    caption = textwrap.fill("; ".join(_notes(panels, num_runs)), 100)
    labels = [textwrap.fill(f"{label} ({_seeds(count)})", 80) for label, count in num_runs.items()]
    columns = max(1, min(len(labels), 100 // (max(map(len, labels), default=0) + 6)))
    legend_lines = (sum(label.count("\n") + 1 for label in labels) + columns - 1) // columns
    figure = Figure(figsize=(7.0, 1.1 + 2.6 * len(panels) + 0.21 * legend_lines), layout="constrained")
    all_axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    scale, x_label = _x_axis(panels, axis)
    lines: list[Line2D] = []
    for axes, panel in zip(all_axes, panels, strict=True):
        lines += [_draw_curve(axes, i, curve, scale) for i, curve in enumerate(panel.curves.values())]
        _label(axes, panel, window)
    all_axes[-1].set(xlabel=x_label, xlim=(0.0, None))
    all_axes[-1].xaxis.set_major_formatter(lambda value, position: f"{value:,.10g}")
    # The title belongs to the legend: a title of the figure would be drawn across it.
    figure.legend(
        lines[: len(labels)],
        labels,
        title=title,
        title_fontsize="large",
        loc="outside upper center",
        ncols=columns,
        frameon=False,
    )
    figure.supxlabel(caption, fontsize="small", color="0.35")
    return figure


def _label(axes: Axes, panel: Panel, window: int) -> None:
    axes.set_ylabel(_y_label(panel.metric, window))
    if panel.metric.name in SHARES:
        axes.set_ylim(-0.03, 1.03)
    if not any(len(curve.x) for curve in panel.curves.values()):
        axes.text(0.5, 0.5, "nothing yet", transform=axes.transAxes, ha="center", color="0.35")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curve(axes: Axes, index: int, curve: Curve, scale: float) -> Line2D:
    style: dict[str, Any] = {
        "color": BAND_COLOURS[index % len(BAND_COLOURS)],
        "linestyle": STYLES[index // len(BAND_COLOURS) % len(STYLES)],
    }
    x = curve.x / scale
    whole = curve.seeds == curve.seeds.max(initial=0)
    axes.fill_between(x, curve.low, curve.high, color=style["color"], alpha=0.15, linewidth=0)
    if not whole.all():
        axes.plot(x, curve.y, alpha=0.35, **style)
    marker = MARKERS[index % len(MARKERS)] if len(x) <= MARKED_POINTS else ""
    (line,) = axes.plot(x, np.where(whole, curve.y, np.nan), marker=marker, markersize=4, **style)
    return line


def _x_axis(panels: Sequence[Panel], axis: Axis) -> tuple[float, str]:
    if axis == "env_steps":
        return 1.0, "environment steps"
    if axis == "robot_min":
        return 1.0, "time on the robot [min]"
    ends_s = [float(curve.x[-1]) for panel in panels for curve in panel.curves.values() if len(curve.x)]
    return (3600.0, "training time [h]") if max(ends_s, default=0.0) > HOURS_FROM_S else (60.0, "training time [min]")


def _y_label(metric: Metric, window: int) -> str:
    where: dict[str, str] = {
        "evaluation": "evaluation",
        "train": "training",
        **dict.fromkeys(PER_EPISODE, f"last {window} training episodes"),
    }
    name = f"{metric.kind} {metric.name}" if metric.kind == "intervention" else metric.name
    return f"{name.replace('_', ' ')}\n({where.get(metric.kind, metric.kind)})"


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _notes(panels: Sequence[Panel], num_runs: Mapping[str, int]) -> list[str]:
    """What the lines and bands are, and what is not there."""
    curves = [curve for panel in panels for curve in panel.curves.values() if len(curve.x)]
    notes = []
    if any(curve.seeds.max() > 1 for curve in curves):
        notes.append("line: mean of the seeds, band: their range")
    if any(curve.seeds.max() == 1 and np.isfinite(curve.low).any() for curve in curves):
        notes.append("band of a single run: 95 % Wilson interval")
    if any(curve.seeds.min() < curve.seeds.max() for curve in curves):
        notes.append("pale: not every seed got so far")
    lacking: dict[str, list[str]] = {}
    for panel in panels:
        name = panel.metric.name.replace("_", " ")
        nothing = "nobody took over" if panel.metric.kind == "intervention" else f"no {name} yet"
        for label, curve in panel.curves.items():
            have = int(curve.seeds.max(initial=0))
            if have < num_runs[label]:
                what = f"{name} so far in {have} of {_seeds(num_runs[label])}" if have else nothing
                lacking.setdefault(what, []).append(label)
    return notes + [f"{what}: {', '.join(labels)}" for what, labels in lacking.items()]
