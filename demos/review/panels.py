"""The statistics of a store as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from demos.review.statistics import StoreStatistics

SUFFIXES = (".png", ".svg", ".pdf")
DPI = 110
COLUMNS = 4
BINS = 40
MOST_PANELS = 60
"""Observations beyond this are left out of the picture, never out of the numbers."""


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
    count = min(MOST_PANELS, 4 + len(found.actions) + len(found.observations))
    height = -(-count // COLUMNS)
    figure = Figure(figsize=(4.0 * COLUMNS, 2.6 * height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{numbers['path']}: {numbers['episodes']} episodes, {numbers['steps']} steps")
    axes = figure.subplots(height, COLUMNS, squeeze=False).ravel().tolist()
    for unused in axes[count:]:
        unused.set_axis_off()
    panels = iter(axes)
    _histogram(next(panels), found.lengths, "episode length [steps]")
    _histogram(next(panels), found.returns, "return (sum of recorded rewards)")
    _histogram(next(panels), found.periods_s * 1e3, f"period [ms], {numbers['control_rate_hz']:g} Hz wanted", log=True)
    _action_ranges(next(panels), found)
    shown = {f"action {name}{_unit(numbers['actions'][name])}": values for name, values in found.actions.items()}
    shown |= {f"{name}{_unit(numbers['observations'][name])}": values for name, values in found.observations.items()}
    for axis, (name, values) in zip(panels, shown.items(), strict=False):
        _histogram(axis, values, name)
    picture = io.BytesIO()
    figure.savefig(picture, format=out.suffix[1:], dpi=DPI)
    out.write_bytes(picture.getvalue())
    return count


def _unit(entry: dict[str, Any]) -> str:
    return f" [{entry['unit']}]" if entry["unit"] else ""


def _histogram(axis: Axes, values: NDArray[Any] | None, title: str, *, log: bool = False) -> None:
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=7)
    if values is None or not values.size:
        axis.text(0.5, 0.5, "not recorded" if values is None else "no data", ha="center", transform=axis.transAxes)
        return
    numbers = np.asarray(values, np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-6):  # no spread at all: rounding would fill the whole width
        low, high = low - 0.05 * abs(low) - 1e-6, high + 0.05 * abs(high) + 1e-6
    axis.hist(numbers, bins=BINS, range=(low, high), color="#4477aa", log=log)


def _action_ranges(axis: Axes, found: StoreStatistics) -> None:
    """Where commanded actions lie, as a share of what is allowed: -1 and 1 are the bounds."""
    axis.set_title("actions within their bounds (5 to 95 %, whole range)", fontsize=9)
    axis.tick_params(labelsize=7)
    for place, (name, values) in enumerate(found.actions.items()):
        if not values.size:
            continue
        low, high = found.numbers["actions"][name]["low"], found.numbers["actions"][name]["high"]
        unit = (np.asarray(values, np.float64) - low) / (high - low) * 2.0 - 1.0
        axis.plot([unit.min(), unit.max()], [place, place], color="#4477aa", linewidth=1)
        axis.plot(np.percentile(unit, [5, 95]), [place, place], color="#4477aa", linewidth=5)
    axis.set_yticks(range(len(found.actions)), list(found.actions))
    for bound in (-1.0, 1.0):
        axis.axvline(bound, color="black", linewidth=0.8)
