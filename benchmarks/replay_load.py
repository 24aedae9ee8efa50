"""How long it takes until prior data can be trained on, beside numpy reading the same bytes from one file.

    python -m benchmarks.replay_load [--steps 1000000] [--obs 39] [--act 28] [--pairs 5] [--json]

In turn: `numpy.load` of one .npy file that holds all columns of the store; and all that `train` does before it begins:
read, judged by the task, laid out as transitions in the replay. The page cache is warm for both. The store alone is
measured by `benchmarks.store_load`.
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
from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.gymnasium_task import GymnasiumTask
from robot_rlpd.learner.prior import fill_replay, load_prior
from robot_rlpd.learner.replay import ReplayBuffer
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.task import TaskOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EPISODE_STEPS = 500


def main() -> int:
    """Measure in turn, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"steps": 1_000_000, "obs": 39, "act": 28, "pairs": 5}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.steps, arguments.obs, arguments.act, arguments.pairs)
    show_result(result, as_json=arguments.json)
    return 0


def measure(folder: Path, steps: int, obs: int, act: int, pairs: int) -> dict[str, Any]:
    """Write the data once, then read them in turn."""
    path, plain = folder / "prior.zarr", folder / "plain.npy"
    with EpisodeStore.create(path, _spec(obs, act)) as store:
        store.extend(_episodes(store.spec, steps))
    num_bytes = _write_plain(path, plain)
    task = GymnasiumTask("load", EPISODE_STEPS, TaskOptions(reward="sparse"))
    ways: dict[str, Callable[[], object]] = {
        "numpy": lambda: np.load(plain),
        "replay": lambda: _fill(path, task, steps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(pairs):
        for name, way in ways.items():
            started_s = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started_s)
    ratios = [a / b for a, b in zip(seconds["replay"], seconds["numpy"], strict=True)]
    return {
        "steps": steps,
        "bytes": num_bytes,
        **{f"{n}_s": _spread(t) for n, t in seconds.items()},
        "ratio": _spread(ratios),
    }


def _spec(obs: int, act: int) -> RobotSpec:
    components = tuple(ActionComponent(name=f"a{i}", low=-1.0, high=1.0, unit="", mode="absolute") for i in range(act))
    signals = (ArraySpec(name="reward", shape=()), ArraySpec(name="success", shape=(), dtype="bool"))
    return RobotSpec(
        name="load",
        observation=(ArraySpec(name="observation", shape=(obs,)),),
        action=ActionSpec(components=components),
        control_rate_hz=30.0,
        signals=signals,
    )


def _episodes(spec: RobotSpec, steps: int) -> Iterator[Episode]:
    rng = np.random.default_rng(0)
    size = spec.action.size
    for _ in range(steps // EPISODE_STEPS):
        actions = rng.uniform(-1, 1, (EPISODE_STEPS, size)).astype(np.float32)
        times_s = np.arange(EPISODE_STEPS + 1, dtype=np.float64)
        yield Episode(
            spec=spec,
            observations={
                "observation": rng.normal(size=(len(times_s), *spec.observation[0].shape)).astype(np.float32)
            },
            actions=actions,
            executed_actions=actions,
            signals={"reward": -np.ones(EPISODE_STEPS, np.float32), "success": np.zeros(EPISODE_STEPS, np.bool_)},
            sources=np.zeros(EPISODE_STEPS, np.uint8),
            robot_times_s=times_s,
            wall_times_s=times_s,
            info=EpisodeInfo(ended=Ended.TRUNCATED, success=False),
        )


def _write_plain(path: Path, plain: Path) -> int:
    """All arrays of the store's steps as bytes of one .npy file."""
    with EpisodeStore.open(path) as store:
        episodes = store.load_all()
        arrays = [
            array
            for e in episodes
            for array in (*e.observations.values(), e.actions, e.executed_actions, *e.signals.values(), e.sources)
        ]
        arrays += [array for e in episodes for array in (e.robot_times_s, e.wall_times_s)]
    content = np.concatenate([np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8) for array in arrays])
    np.save(plain, content)
    return int(content.nbytes)


def _fill(path: Path, task: GymnasiumTask, steps: int) -> int:
    with EpisodeStore.open(path) as store:
        contract = store.spec.contract()
    (found,), _ = load_prior([path], task, contract)
    replay = ReplayBuffer(contract.observation_size, contract.action.size, capacity=steps)
    fill_replay(replay, found, contract, None)
    return len(replay)


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    sys.exit(main())
