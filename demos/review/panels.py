"""The statistics of a store as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from demos.review.histograms import action_ranges, histograms
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from demos.review.histograms import Histogram
    from demos.review.statistics import StoreStatistics

SUFFIXES = (".png", ".svg", ".pdf")
DPI = 110
COLUMNS = 4


def check_picture(out: Path) -> None:
    """Refuse a file that cannot be drawn, before any work is done.

    Raises:
        ConfigError: Another ending, no such directory, or matplotlib is not installed.
    """
    if out.suffix not in SUFFIXES:
        raise ConfigError(field="out", found=str(out), allowed=f"a file name that ends in {', '.join(SUFFIXES)}")
    if not out.parent.is_dir():
        raise ConfigError(field="out", found=str(out), allowed="a file in an existing directory")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        hint = "install it: pip install 'robot-rlpd[demos]'"
        raise ConfigError("pictures need matplotlib", field="out", hint=hint) from None


def draw_statistics(found: StoreStatistics, out: Path) -> int:
    """Draw lengths, returns, rates, action ranges, and a histogram of every action component and joint.

    Returns:
        The number of panels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    numbers = found.numbers
    first, *others = histograms(found)
    count = 2 + len(others)
    height = -(-count // COLUMNS)
    figure = Figure(figsize=(4.0 * COLUMNS, 2.6 * height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{numbers['path']}: {numbers['episodes']} episodes, {numbers['steps']} steps")
    axes = figure.subplots(height, COLUMNS, squeeze=False).ravel().tolist()
    for unused in axes[count:]:
        unused.set_axis_off()
    _draw_histogram(axes[0], first)
    _draw_ranges(axes[1], found)
    for axis, histogram in zip(axes[2:], others, strict=False):
        _draw_histogram(axis, histogram)
    picture = io.BytesIO()
    figure.savefig(picture, format=out.suffix[1:], dpi=DPI)
    out.write_bytes(picture.getvalue())
    return count


def _draw_histogram(axis: Axes, histogram: Histogram) -> None:
    axis.set_title(histogram.title, fontsize=9)
    axis.tick_params(labelsize=7)
    if histogram.empty:
        axis.text(0.5, 0.5, histogram.empty, ha="center", transform=axis.transAxes)
        return
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    axis.stairs(histogram.counts, edges, fill=True, color="#4477aa")
    if histogram.log:
        axis.set_yscale("log")


def _draw_ranges(axis: Axes, found: StoreStatistics) -> None:
    axis.set_title("actions within their bounds (5 to 95 %, whole range)", fontsize=9)
    axis.tick_params(labelsize=7)
    ranges = action_ranges(found)
    for place, entry in enumerate(ranges):
        axis.plot([entry.lowest, entry.highest], [place, place], color="#4477aa", linewidth=1)
        axis.plot([entry.low_5, entry.high_95], [place, place], color="#4477aa", linewidth=5)
    axis.set_yticks(range(len(ranges)), [entry.name for entry in ranges])
    for bound in (-1.0, 1.0):
        axis.axvline(bound, color="black", linewidth=0.8)
