"""A picture of what was drawn for episodes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.errors import ConfigError
from sim.quantities import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".svg", ".png", ".pdf")
COLUMNS = 4
BINS = 24


def gather(drawn: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    """All values of each quantity, from those of each episode."""
    names = dict.fromkeys(name for values in drawn for name in values)
    return {name: np.array([values[name] for values in drawn if name in values]) for name in names}


def check_suffix(path: Path) -> None:
    """Refuse a picture format that is not known.

    Raises:
        ConfigError: Names those that are.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(field="out", found=path.name, allowed=" or ".join(SUFFIXES))


def plot_drawn(values: Mapping[str, NDArray[np.float64]], path: Path, title: str) -> None:
    """One histogram per quantity, its nominal value marked; written whole or not at all."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = max(1, math.ceil(len(values) / COLUMNS))
    figure = Figure(figsize=(2.6 * COLUMNS, 1.7 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis, (name, numbers) in zip(axes, values.items(), strict=False):
        axis.hist(numbers, bins=BINS, color="#2f6db5")
        if name in QUANTITIES:
            axis.axvline(QUANTITIES[name].nominal, color="#d2452f", linewidth=1.2)
        axis.set_title(name, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
    for axis in axes[len(values) :]:
        axis.axis("off")
    figure.suptitle(title, fontsize=10)
    unfinished = path.with_name(f".{path.stem}.part{path.suffix}")
    with mpl.rc_context({"svg.hashsalt": "robot-rlpd"}):
        figure.savefig(unfinished)
    unfinished.replace(path)
