"""How fast a store opens, loads and lists, beside `numpy.load` of the same bytes.

    python -m benchmarks.store_load [--steps 1000000] [--episodes 10000] [--repeats 5] [--json]

State of 28 numbers, 7 actions. Both are read from files that the operating system has in its cache, in turns, and the
medians are compared: the ratio holds on a loaded machine, the times do not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import show_result
from demos.commands import ListConfig, list_episodes
from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPEC = RobotSpec(
    name="arm",
    observation=(ArraySpec(name="joint_positions", shape=(7,)), ArraySpec(name="rest", shape=(21,))),
    action=ActionSpec(components=tuple(ActionComponent(name=f"joint{i}") for i in range(7))),
    control_rate_hz=50.0,
    signals=(ArraySpec(name="reward", shape=()),),
)


def main() -> int:
    """Write, load, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="of all episodes (default 1000000)")
    parser.add_argument("--episodes", type=int, default=10_000, help="(default 10000)")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.steps, arguments.episodes, arguments.repeats)
    show_result(result, as_json=arguments.json)
    return 0 if result["open_and_load_ratio"] <= 3.0 and result["list_s"] < 2.0 else 1


def measure(folder: Path, steps: int, episodes: int, repeats: int) -> dict[str, Any]:
    """Do it in an empty folder."""
    path, copy = folder / "store", folder / "columns.npy"
    with EpisodeStore.create(path, SPEC) as store:
        store.extend(_episodes(steps, episodes))
        columns = store.load_columns().values
        size = sum(array.nbytes for array in columns.values())
        with copy.open("wb") as file:
            for array in columns.values():
                np.save(file, array)
        count = len(columns)
    del columns

    def load_numpy() -> list[Any]:
        with copy.open("rb") as file:
            return [np.load(file) for _ in range(count)]

    def load_store() -> Any:
        with EpisodeStore.open(path) as opened:
            return opened.load_columns()

    def load_episodes() -> Any:
        with EpisodeStore.open(path) as opened:
            return opened.load_all()

    runs: dict[str, Callable[[], object]] = {
        "numpy_load_s": load_numpy,
        "open_and_load_columns_s": load_store,
        "open_and_load_all_s": load_episodes,
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(_seconds(run))
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {
        "steps": steps,
        "episodes": episodes,
        "megabytes": round(size / 1e6, 1),
        **medians,
        "open_and_load_ratio": medians["open_and_load_columns_s"] / medians["numpy_load_s"],
        "list_s": _list_seconds(path),
    }


def _episodes(steps: int, episodes: int) -> Iterator[Episode]:
    rng = np.random.default_rng(0)
    length = steps // episodes
    for _ in range(episodes):
        times = np.arange(length + 1) / SPEC.control_rate_hz
        actions = rng.random((length, 7), np.float32)
        yield Episode(
            spec=SPEC,
            observations={s.name: rng.random((length + 1, *s.shape), np.float32) for s in SPEC.observation},
            actions=actions,
            executed_actions=actions,
            signals={"reward": np.zeros(length, np.float32)},
            sources=np.ones(length, np.uint8),
            robot_times_s=times,
            wall_times_s=times + 1e9,
            info=EpisodeInfo(ended=Ended.TRUNCATED, success=True, task="any"),
        )


def _seconds(run: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    loaded = run()
    elapsed_s = time.perf_counter() - began_s
    del loaded
    return elapsed_s


def _list_seconds(path: Path) -> float:
    stdout, sys.stdout = sys.stdout, (path.parent / "list.txt").open("w")
    try:
        return _seconds(lambda: list_episodes(ListConfig(path=str(path))))
    finally:
        sys.stdout.close()
        sys.stdout = stdout


if __name__ == "__main__":
    sys.exit(main())
