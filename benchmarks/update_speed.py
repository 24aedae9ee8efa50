"""Critic updates per second of the learner, alternating with another program where one is given.

    python -m benchmarks.update_speed --layers 2 [--peer 'COMMAND'] [--threads 2] [--json]

One call is a whole RLPD update: `utd` critic updates, one actor and one temperature update. A peer is a command that
prints a JSON object with `critic_updates_per_s` as its last line; both run in turn, A B A B, each in a process of its
own, and the ratio is taken pair by pair.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.machine import show_result
from robot_rlpd.learner.allocator import keep_freed_memory
from robot_rlpd.learner.replay import ReplayBuffer, SymmetricSampler
from robot_rlpd.learner.rlpd import RLPD, RLPDConfig
from robot_rlpd.learner.tuning import ThreadTuner, choose_matmul_precision
from robot_rlpd.learner.updater import Updater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def main() -> int:
    """Measure in processes of their own, print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"obs": 39, "act": 28, "layers": 3, "width": 256, "ensemble": 10, "subset": 2, "utd": 20, "batch": 256}
    for name, default in {**defaults, "calls": 10, "warmup": 2, "pairs": 3, "threads": os.cpu_count() or 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--neighbours", type=int, default=0, help="busy processes beside it (default 0)")
    parser.add_argument("--tune", action="store_true", help="choose between --threads and 1 as training does")
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")
    parser.add_argument("--eager", action="store_true", help="do not compile")
    parser.add_argument("--peer", default="", help="command to alternate with")
    parser.add_argument("--once", action="store_true", help="measure in this process and print one JSON line")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if arguments.once:
        sys.stdout.write(json.dumps(measure(arguments)) + "\n")
        return 0
    own = [sys.executable, "-m", "benchmarks.update_speed", *_passed_on(sys.argv[1:]), "--once"]
    ours, theirs = [], []
    for _ in range(arguments.pairs):
        ours.append(_run(own))
        if arguments.peer:
            theirs.append(_run(shlex.split(arguments.peer)))
    result = {
        "critic_updates_per_s": _spread([r["critic_updates_per_s"] for r in ours]),
        **{
            name: _spread([r[name] for r in ours])
            for name in ("first_call_s", "share_of_matmul_limit", "matmul_gflop_per_s")
        },
        "ratio_to_peer": None,
        "peer": None,
        "config": ours[0]["config"],
        "device": arguments.device,
    }
    if theirs:
        ratios = [a["critic_updates_per_s"] / b["critic_updates_per_s"] for a, b in zip(ours, theirs, strict=True)]
        result["ratio_to_peer"] = _spread(ratios)
        result["peer"] = _spread([r["critic_updates_per_s"] for r in theirs])
    show_result(result, as_json=arguments.json)
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time whole calls in this process."""
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    precision = "highest"
    if arguments.device == "cpu":
        precision = choose_matmul_precision(arguments.ensemble, arguments.batch, arguments.width)
    config = RLPDConfig(
        hidden_dims=(arguments.width,) * arguments.layers,
        ensemble_size=arguments.ensemble,
        subset_size=arguments.subset,
        utd_ratio=arguments.utd,
        batch_size=arguments.batch,
        backup_entropy=False,
    )
    started = time.perf_counter()
    learner = RLPD(config, arguments.obs, arguments.act, seed=0, device=arguments.device, compile=not arguments.eager)
    made_s = time.perf_counter() - started  # compiling begins there
    call = _graphed_call(learner, arguments) if arguments.device != "cpu" else _call(learner, arguments)
    tuner = ThreadTuner((arguments.threads, 1) if arguments.tune else (arguments.threads,))
    times = []
    with _neighbours(arguments.neighbours):
        for _ in range(arguments.warmup + arguments.calls):
            started = time.perf_counter()
            tuner(call)
            times.append(time.perf_counter() - started)
    median_s = statistics.median(times[arguments.warmup :])
    described = {name: value for name, value in vars(arguments).items() if name not in ("peer", "once", "json")}
    described["matmul_precision"] = precision
    updates_per_s = arguments.utd / median_s
    reached, limit = updates_per_s * _flop(arguments), _matmul_flop_per_s(arguments)
    return {
        "critic_updates_per_s": updates_per_s,
        "first_call_s": made_s + times[0],
        "share_of_matmul_limit": reached / limit,
        "matmul_gflop_per_s": limit / 1e9,
        "config": described,
    }


@contextlib.contextmanager
def _neighbours(number: int) -> Iterator[None]:
    """Processes that each keep a core busy meanwhile."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _rows(num: int, obs: int, act: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "observations": torch.randn(num, obs, generator=generator),
        "actions": torch.rand(num, act, generator=generator) * 2 - 1,
        "rewards": -torch.ones(num),
        "masks": torch.ones(num),
        "next_observations": torch.randn(num, obs, generator=generator),
    }


def _call(learner: RLPD, arguments: argparse.Namespace) -> Callable[[], torch.Tensor]:
    batch = _rows(arguments.utd * arguments.batch, arguments.obs, arguments.act)

    def call() -> torch.Tensor:
        metrics = learner.advance(batch)
        learner.publish()
        return metrics

    return call


def _graphed_call(learner: RLPD, arguments: argparse.Namespace) -> Callable[[], torch.Tensor]:
    """As training does it on a GPU: minibatches drawn there too; waits for the device at the end of each call."""
    buffers = [ReplayBuffer(arguments.obs, arguments.act, capacity=100_000, device=learner.device) for _ in range(2)]
    for buffer in buffers:
        buffer.append_many(_rows(buffer.capacity, arguments.obs, arguments.act))
    updater = Updater(learner, SymmetricSampler(buffers[:1], buffers[1], 0.5), seed=0, overlap=False, threads=(1,))
    updater.warm_up()

    def call() -> torch.Tensor:
        updater.start()
        torch.cuda.synchronize(learner.device)
        return learner.log_temperature

    return call


def _flop(arguments: argparse.Namespace) -> float:
    """Floating-point operations of the matrix products per critic update, the actor's share included."""
    batch, width, joined = arguments.batch, arguments.width, arguments.obs + arguments.act
    hidden = (arguments.layers - 1) * width * width
    critic, actor = joined * width + hidden + width, arguments.obs * width + hidden + 2 * arguments.act * width
    updated = arguments.ensemble * (3 * critic - joined * width) + arguments.subset * critic + actor
    once_a_call = 3 * actor - arguments.obs * width + arguments.ensemble * 2 * critic
    flop: float = 2.0 * batch * (updated + once_a_call / arguments.utd)
    return flop


def _matmul_flop_per_s(arguments: argparse.Namespace) -> float:
    """What the machine reaches on one hidden layer of the ensemble and nothing else."""
    device = arguments.device
    x = torch.randn(arguments.ensemble, arguments.batch, arguments.width, device=device)
    w = torch.randn(arguments.ensemble, arguments.width, arguments.width, device=device)
    out = torch.empty_like(x)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(20):
            torch.bmm(x, w, out=out)
        if device != "cpu":
            torch.cuda.synchronize(device)
        times.append((time.perf_counter() - started) / 20)
    flop_per_s: float = 2.0 * x.numel() * arguments.width / min(times)
    return flop_per_s


def _passed_on(given: list[str]) -> list[str]:
    """The options for the measuring process: without the peer."""
    kept, skip = [], False
    for word in given:
        if skip or word == "--json" or word.startswith("--peer"):
            skip = word == "--peer"
            continue
        kept.append(word)
    return kept


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    sys.exit(main())
