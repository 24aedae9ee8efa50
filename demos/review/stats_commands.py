"""`robot-rlpd demos stats`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from demos.review.printing import counted, print_result


@dataclass(frozen=True, kw_only=True)
class StatsConfig:
    """Options of `demos stats`."""

    path: tyro.conf.Positional[str]
    """Store: a directory, or any fsspec URL."""

    out: Path | None = None
    """Picture to draw: lengths, returns, rates, action ranges, histograms of every component; .png, .svg or .pdf."""

    json: bool = False
    """Print one JSON object."""


def stats(config: StatsConfig) -> int:
    """Sum up what is in a store before training on it, as numbers and as a picture."""
    from demos.review.panels import check_picture, draw_statistics
    from demos.review.statistics import statistics
    from robot_rlpd.episode_store import EpisodeStore

    if config.out is not None:
        check_picture(config.out)
    with EpisodeStore.open(config.path) as store:
        found = statistics(store)
    panels = draw_statistics(found, config.out) if config.out is not None else 0
    result = {**found.numbers, "out": None if config.out is None else str(config.out), "panels": panels}
    lines = _lines(found.numbers)
    lines += [f"{config.out}: {counted(panels, 'panel')}"] if config.out is not None else []
    print_result(config.json, result, lines)
    return 0


def _lines(numbers: dict[str, Any]) -> list[str]:
    episodes, unknown = numbers["episodes"], numbers["unknown_success"]
    unsolved = episodes - numbers["successes"] - unknown
    edited = f"trimmed {numbers['trimmed']}, relabelled {numbers['relabelled']}, deleted {numbers['deleted']}"
    lines = [
        f"{numbers['path']}: robot {numbers['robot']}",
        f"episodes  {episodes}: solved {numbers['successes']}, unsolved {unsolved}, unknown {unknown}; {edited}",
        f"steps     {numbers['steps']} in {numbers['duration_s']:.1f} s: "
        + (", ".join(f"{name} {count}" for name, count in numbers["sources"].items()) or "none"),
        _row("lengths", numbers["lengths"], "steps"),
        _row("returns", numbers["returns"], "") if numbers["returns"] is not None else "returns   no reward recorded",
    ]
    rate = numbers["rate"]
    if rate["mean_hz"] is not None:
        lines.append(
            f"rate      {rate['mean_hz']:.4g} Hz of {numbers['control_rate_hz']:g} Hz wanted; period p50 "
            f"{rate['period_p50_s'] * 1e3:.4g} ms, p99 {rate['period_p99_s'] * 1e3:.4g} ms, max "
            f"{rate['period_max_s'] * 1e3:.4g} ms; late {rate['late_share']:.2%}"
        )
    for name, camera in numbers["cameras"].items():
        measured = "" if camera["mean_hz"] is None else f", {camera['mean_hz']:.4g} Hz"
        lines.append(f"camera    {name}: {counted(camera['frames'], 'frame')}, {camera['dropped']} dropped{measured}")
    width = max(len(name) for name in [*numbers["actions"], *numbers["observations"], "observation"])
    lines += ["", f"{'action':<{width}}  {_HEAD}  {'outside':>8} {'at bound':>8}"]
    for name, entry in numbers["actions"].items():
        shares = "".join(f" {_share(entry[share]):>8}" for share in ("outside_share", "at_bound_share"))
        lines.append(f"{name:<{width}}  {_cells(entry)} {shares}")
    lines += ["", f"{'observation':<{width}}  {_HEAD}"]
    return lines + [f"{name:<{width}}  {_cells(entry)}" for name, entry in numbers["observations"].items()]


_NAMES = ("min", "median", "mean", "max", "std")
_HEAD = " ".join(f"{name:>10}" for name in _NAMES)


def _cells(entry: dict[str, Any]) -> str:
    return " ".join(f"{'-' if entry[name] is None else f'{entry[name]:.4g}':>10}" for name in _NAMES)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _row(title: str, entry: dict[str, Any], unit: str) -> str:
    if entry["min"] is None:
        return f"{title:<9} none"
    cells = ", ".join(f"{name} {entry[name]:.4g}" for name in ("min", "median", "max"))
    return f"{title:<9} {cells} {unit}".rstrip()
