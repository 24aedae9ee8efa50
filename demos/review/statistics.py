"""What one looks at before training: lengths, returns, rates, ranges of actions and joints, dropped frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from demos.summary import summarize
from robot_rlpd.store_layout import image_fields

if TYPE_CHECKING:
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.specs import ArraySpec, RobotSpec
    from robot_rlpd.store_index import StoredEpisode

_FROM_SUMMARY = ("path", "robot", "episodes", "steps", "successes", "unknown_success", "sources")
MOST_ENTRIES = 24
"""Fields with more entries are summed up as one."""


@dataclass(frozen=True, kw_only=True)
class StoreStatistics:
    """The numbers of a store, and the columns that they were made of, for plots.

    Attributes:
        numbers: The fields of `demos stats --json`.
        lengths: Steps of each episode.
        returns: Sum of the recorded rewards of each; None where no reward was recorded.
        periods_s: Time between two observations, of all steps.
        actions: As commanded, by the name of the component.
        observations: By `field` or `field[entry]`, all rows.
    """

    numbers: dict[str, Any]
    lengths: NDArray[np.int64]
    returns: NDArray[np.float64] | None
    periods_s: NDArray[np.float64]
    actions: dict[str, NDArray[np.float32]]
    observations: dict[str, NDArray[Any]]


def statistics(store: EpisodeStore) -> StoreStatistics:
    """Read all columns (no images) and sum them up."""
    columns = store.load_columns()
    summary = summarize(store)
    values, stored = columns.values, store.infos()
    steps = _members(len(values["robot_time_s"]), columns.first_rows, columns.first_rows + columns.num_steps)
    rows = _members(len(values["robot_time_s"]), columns.first_rows, columns.end_rows)
    returns = _returns(values, columns.first_rows, columns.num_steps)
    periods_s = _periods(values["robot_time_s"], columns.first_rows, columns.end_rows)
    actions = {c.name: values["action"][steps, i] for i, c in enumerate(store.spec.action.components)}
    observations = _observations(store.spec, values, rows)
    numbers = {
        **{name: summary[name] for name in _FROM_SUMMARY},
        "trimmed": sum(episode.is_trimmed for episode in stored),
        "relabelled": sum(episode.is_relabelled for episode in stored),
        "deleted": len(store.recorded()) - len(stored),
        "duration_s": float(periods_s.sum()),
        "lengths": _range(columns.num_steps),
        "returns": None if returns is None else _range(returns),
        "control_rate_hz": store.spec.control_rate_hz,
        "rate": _rate(periods_s, store.spec.control_rate_hz),
        "actions": _actions(store.spec, values, steps),
        "observations": {
            name: _range(array) | {"unit": _unit(store.spec, name)} for name, array in observations.items()
        },
        "cameras": {s.name: _camera(store, s.name, stored) for s in image_fields(store.spec)},
    }
    return StoreStatistics(
        numbers=numbers,
        lengths=columns.num_steps,
        returns=returns,
        periods_s=periods_s,
        actions=actions,
        observations=observations,
    )


def _members(rows: int, firsts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows lie in one of the ranges, which do not overlap."""
    change = np.zeros(rows + 1, np.int64)
    np.add.at(change, firsts, 1)
    np.add.at(change, ends, -1)
    return np.cumsum(change[:-1]) > 0


def _returns(
    values: dict[str, NDArray[Any]], firsts: NDArray[np.int64], steps: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    if "signal/reward" not in values or values["signal/reward"].ndim != 1:
        return None
    total = np.concatenate([[0.0], np.cumsum(values["signal/reward"], dtype=np.float64)])
    returns: NDArray[np.float64] = total[firsts + steps] - total[firsts]
    return returns


def _periods(times_s: NDArray[np.float64], firsts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    inside = _members(len(times_s), firsts, np.maximum(ends - 1, firsts))[:-1] if len(times_s) else np.zeros(0, bool)
    return np.diff(times_s)[inside]


def _range(values: NDArray[Any]) -> dict[str, float | None]:
    if not values.size:
        return dict.fromkeys(("min", "median", "mean", "max", "std"))
    array = np.asarray(values, np.float64)
    return {
        "min": float(array.min()),
        "median": float(np.median(array)),
        "mean": float(array.mean()),
        "max": float(array.max()),
        "std": float(array.std()),
    }


def _rate(periods_s: NDArray[np.float64], control_rate_hz: float) -> dict[str, float | None]:
    """Measured on the robot's clock; late is what took over 10 % longer than its period."""
    if not periods_s.size or not periods_s.sum() > 0:
        return dict.fromkeys(("mean_hz", "period_p50_s", "period_p99_s", "period_max_s", "late_share"))
    return {
        "mean_hz": float(len(periods_s) / periods_s.sum()),
        "period_p50_s": float(np.percentile(periods_s, 50)),
        "period_p99_s": float(np.percentile(periods_s, 99)),
        "period_max_s": float(periods_s.max()),
        "late_share": float((periods_s > 1.1 / control_rate_hz).mean()),
    }


def _actions(spec: RobotSpec, values: dict[str, NDArray[Any]], steps: NDArray[np.bool_]) -> dict[str, Any]:
    commanded, executed = values["action"][steps], values["executed_action"][steps]
    result = {}
    for i, component in enumerate(spec.action.components):
        outside = (commanded[:, i] < spec.action.low[i]) | (commanded[:, i] > spec.action.high[i])
        at_bound = (executed[:, i] <= spec.action.low[i]) | (executed[:, i] >= spec.action.high[i])
        result[component.name] = {
            **_range(commanded[:, i]),
            "unit": component.unit,
            "low": component.low,
            "high": component.high,
            "outside_share": float(outside.mean()) if len(outside) else None,
            "at_bound_share": float(at_bound.mean()) if len(at_bound) else None,
        }
    return result


def _observations(spec: RobotSpec, values: dict[str, NDArray[Any]], rows: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for s in spec.observation:
        if s.is_image:
            continue
        block = values[f"observation/{s.name}"][rows].reshape(int(rows.sum()), s.size)
        if 1 < block.shape[1] <= MOST_ENTRIES:
            found |= {f"{s.name}[{_entry(s, i)}]": block[:, i] for i in range(block.shape[1])}
        else:
            found[s.name] = block.reshape(-1)
    return found


def _unit(spec: RobotSpec, name: str) -> str:
    (unit,) = (s.unit for s in spec.observation if s.name == name or name.startswith(f"{s.name}["))
    return unit


def _entry(spec: ArraySpec, index: int) -> str:
    return spec.components[index] if spec.components else str(index)


def _camera(store: EpisodeStore, name: str, stored: list[StoredEpisode]) -> dict[str, float | int | None]:
    frames = store.frames(name)
    own = [frames[episode.first_row : episode.end_row] for episode in stored]
    rows = np.concatenate([np.zeros((0, 3)), *own])
    periods = [np.diff(part[part[:, 2] == 0.0, 0]) for part in own]
    period_s = np.concatenate([np.zeros(0), *periods])
    return {
        "frames": len(rows),
        "dropped": int(rows[:, 2].sum()),
        "dropped_share": float(rows[:, 2].mean()) if len(rows) else None,
        "mean_hz": float(len(period_s) / period_s.sum()) if period_s.sum() > 0 else None,
    }
