"""Statistics of columns, episode by episode and pooled, as LeRobot keeps them for normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Stats = dict[str, "NDArray[Any]"]
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
MOST_FRAMES = 20
"""Of one episode, spread over it, for the statistics of a camera."""


def of_column(rows: NDArray[Any]) -> Stats:
    """Of `(T, n)` numbers, per entry."""
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    return _stats(rows) | {"count": np.array([len(rows)])}


def of_images(frames: NDArray[np.uint8]) -> Stats:
    """Of `(T, H, W, 3)` images, per channel `(3, 1, 1)`, in [0, 1]; of some frames, as their number says."""
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MOST_FRAMES)).astype(int))]
    pixels = chosen.reshape(-1, chosen.shape[-1]).astype(np.float64) / 255.0
    shaped = {name: value.reshape(-1, 1, 1) for name, value in _stats(pixels).items()}
    return shaped | {"count": np.array([len(chosen)])}


def _stats(rows: NDArray[Any]) -> Stats:
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def pooled(total: Stats, more: Stats) -> Stats:
    """Of both parts; quantiles are the mean of the parts' own, weighted by their counts."""
    counts = total["count"][0], more["count"][0]
    weight = counts[1] / sum(counts)
    difference = more["mean"] - total["mean"]
    variance = (1 - weight) * total["std"] ** 2 + weight * more["std"] ** 2 + weight * (1 - weight) * difference**2
    return {
        "min": np.minimum(total["min"], more["min"]),
        "max": np.maximum(total["max"], more["max"]),
        "mean": total["mean"] + weight * difference,
        "std": np.sqrt(variance),
        **{name: (1 - weight) * total[name] + weight * more[name] for name in QUANTILES},
        "count": np.array([sum(counts)]),
    }


def plain(stats: Mapping[str, Stats]) -> dict[str, dict[str, Any]]:
    """As lists, for JSON."""
    return {name: {key: value.tolist() for key, value in entry.items()} for name, entry in stats.items()}
