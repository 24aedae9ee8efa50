"""What the runtime costs: one action, one whole tick, a cold start, and how regular the loop is.

    python -m benchmarks.runtime_latency [--layers 2] [--seconds 60] [--rounds 15] [--json]

The policy file (normaliser, tanh and scaling inside) is timed in turn with plain C matrix-vector products of the same
weights, compiled here, and with torch eager; ratios are taken round by round. The tick is the whole loop with the
safety filter on a robot that does nothing. A cold start is a fresh process up to its first action. The loop runs at
500 Hz with the recorder on, once as the system schedules it and once under SCHED_FIFO where that is permitted.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.machine import machine
from deploy.export import build_policy_model, write_model
from deploy.runtime.drive import Driven, Start, drive
from deploy.runtime.metadata import PolicyMetadata
from deploy.runtime.onnx_policy import OnnxPolicy, read_policy
from deploy.runtime.real_time import SpinningClock
from robot_rlpd.clock import MonotonicClock
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.limits import ComponentLimits, SafetyLimits
from robot_rlpd.machine import may_run_real_time
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.robot import Action, ClosingRobot, Observation, StepResult
from robot_rlpd.rollout import SilentListener, rollout
from robot_rlpd.safety import SafeRobot
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.spool import StoreListener
from robot_rlpd.task import SignalTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from robot_rlpd.episode import Step

OBSERVATION_SIZE, ACTION_SIZE, WIDTH = 39, 7, 256
RATE_HZ = 500.0
CALLS, BATCH = 300, 30
"""Actions per measurement; the C function runs a batch at a time, as a call of it costs as much as an action."""
C_SOURCE = r"""
#include <math.h>
void layer(const float *w, const float *b, const float *x, float *y, int rows, int columns, int relu) {
    for (int j = 0; j < columns; j++) y[j] = b[j];
    for (int i = 0; i < rows; i++) {
        const float v = x[i], *row = w + (long)i * columns;
        for (int j = 0; j < columns; j++) y[j] += v * row[j];
    }
    if (relu) for (int j = 0; j < columns; j++) y[j] = y[j] > 0.0f ? y[j] : 0.0f;
}
void network(int calls, int layers, const int *sizes, const float **w, const float **b, float *x, float *y, float *z) {
    for (int n = 0; n < calls; n++) {
        const float *in = x;
        for (int l = 0; l < layers; l++) {
            float *out = l % 2 ? y : z;
            layer(w[l], b[l], in, out, sizes[l], sizes[l + 1], l + 1 < layers);
            in = out;
        }
        x[0] += in[0] * 1e-20f;
    }
}
"""
COLD_ONNX = """
import sys, time
began = time.perf_counter()
import numpy as np
from pathlib import Path
from deploy.runtime.onnx_policy import read_policy
policy = read_policy(Path(sys.argv[1]))
policy({"state": np.zeros(39, np.float32)})
import json
peak_kb = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([time.perf_counter() - began, peak_kb / 1024]))
"""
COLD_TORCH = """
import sys, time
began = time.perf_counter()
import torch
torch.set_num_threads(1)
net = torch.nn.Sequential(*sum(([torch.nn.Linear(a, 256), torch.nn.ReLU()] for a in (39, 256, 256)), []),
                          torch.nn.Linear(256, 7), torch.nn.Tanh())
with torch.inference_mode():
    net(torch.zeros(1, 39)).numpy()
import json
peak_kb = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([time.perf_counter() - began, peak_kb / 1024]))
"""


class NullRobot(ClosingRobot):
    """A robot whose own input and output take no time: the same observation again and again."""

    def __init__(self, control_rate_hz: float = RATE_HZ) -> None:
        self.spec = bench_spec(control_rate_hz)
        self._observation: Observation = {"state": np.zeros(OBSERVATION_SIZE, np.float32)}
        self._time_s = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """At once."""
        return StepResult(self._observation, robot_time_s=self._time_s)

    def step(self, action: Action) -> StepResult:
        """At once."""
        self._time_s += self.spec.control_period_s
        return StepResult(self._observation, None, {}, self._time_s)

    def stop(self, reason: str) -> None:
        """Stands anyway."""


class _Ticks(SilentListener):
    """When each step was over."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def on_step(self, step: Step) -> None:
        """Note the time."""
        self.times_s.append(time.perf_counter())


def bench_spec(control_rate_hz: float) -> RobotSpec:
    """39 numbers in, 7 joints out."""
    joints = tuple(f"j{i}" for i in range(ACTION_SIZE))
    rest = tuple(f"o{i}" for i in range(OBSERVATION_SIZE - ACTION_SIZE))
    return RobotSpec(
        name="bench",
        observation=(ArraySpec(name="state", shape=(OBSERVATION_SIZE,), unit="rad", components=(*joints, *rest)),),
        action=ActionSpec(components=tuple(ActionComponent(name=j, low=-2.0, high=2.0, unit="rad") for j in joints)),
        control_rate_hz=control_rate_hz,
    )


def main() -> int:
    """Measure all and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2, help="hidden layers of 256 (default 2)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each loop at 500 Hz (default 60)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of the comparison (default 15)")
    parser.add_argument("--starts", type=int, default=5, help="cold starts of each kind (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.onnx"
        weights = make_policy(arguments.layers, path)
        result: dict[str, Any] = {
            "action": compare_action(read_policy(path), weights, Path(folder), arguments.rounds),
            "tick_us": {name: tick_us(path, limits) for name, limits in _filters().items()},
            "cold_start": cold_start(path, arguments.starts),
            "loop": {name: loop(path, Path(folder), arguments.seconds, priority) for name, priority in _schedules()},
        }
    result |= {"layers": arguments.layers, "seconds": arguments.seconds, "load_average": os.getloadavg()}
    result["machine"] = machine()
    print(json.dumps(result) if arguments.json else "\n".join(f"{name}: {value}" for name, value in result.items()))
    return 0


def make_policy(layers: int, path: Path) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Write a policy file with random weights; the weights of its layers."""
    rng = np.random.default_rng(0)
    sizes = [OBSERVATION_SIZE, *[WIDTH] * layers, ACTION_SIZE]
    weights = [
        ((rng.normal(size=(a, b)) / np.sqrt(a)).astype(np.float32), (rng.normal(size=b) / 10).astype(np.float32))
        for a, b in itertools.pairwise(sizes)
    ]
    names = [*(f"dense{i}" for i in range(layers)), "mean"]
    actor = {f"{name}/kernel": w for name, (w, _) in zip(names, weights, strict=True)}
    actor |= {f"{name}/bias": b for name, (_, b) in zip(names, weights, strict=True)}
    normalizer = np.zeros(OBSERVATION_SIZE, np.float32), np.ones(OBSERVATION_SIZE, np.float32)
    contract = bench_spec(RATE_HZ).contract()
    model = build_policy_model(actor, PolicyMetadata(contract=contract, max_episode_steps=10**9), normalizer=normalizer)
    write_model(model, path)
    return weights


def compare_action(
    policy: OnnxPolicy, weights: list[tuple[NDArray[np.float32], NDArray[np.float32]]], folder: Path, rounds: int
) -> dict[str, Any]:
    """Microseconds per action of each, in turn, and the file's ratio to the others."""
    contestants = {
        "file": _file_caller(policy),
        "c": _c_caller(weights, folder),
        "torch": _torch_caller(weights),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 2):
        for name, call in contestants.items():
            times[name].append(call() * 1e6)
    times = {name: found[2:] for name, found in times.items()}
    return {f"{name}_us": _spread(found) for name, found in times.items()} | {
        f"file_to_{other}": _spread([a / b for a, b in zip(times["file"], times[other], strict=True)])
        for other in ("c", "torch")
    }


def _file_caller(policy: OnnxPolicy) -> Callable[[], float]:
    observation = {"state": np.zeros(OBSERVATION_SIZE, np.float32)}
    return lambda: _seconds_per_call(lambda: policy(observation))


def _torch_caller(weights: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> Callable[[], float]:
    modules: list[torch.nn.Module] = []
    for w, b in weights:
        linear = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T))
            linear.bias.copy_(torch.from_numpy(b))
        modules += [linear, torch.nn.ReLU()]
    network = torch.nn.Sequential(*modules[:-1], torch.nn.Tanh())
    observation = np.zeros(OBSERVATION_SIZE, np.float32)
    mean, scale = torch.zeros(OBSERVATION_SIZE), torch.ones(OBSERVATION_SIZE)

    def act() -> object:
        with torch.inference_mode():
            x = (torch.from_numpy(observation)[None] - mean) / scale
            return (network(x)[0] * 2.0).numpy()

    return lambda: _seconds_per_call(act)


def _c_caller(weights: list[tuple[NDArray[np.float32], NDArray[np.float32]]], folder: Path) -> Callable[[], float]:
    (folder / "network.c").write_text(C_SOURCE)
    command = ["cc", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-o", "network.so", "network.c"]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "network.so"))
    sizes = [weights[0][0].shape[0], *(b.size for _, b in weights)]
    pointer = ctypes.POINTER(ctypes.c_float)
    kernels = (pointer * len(weights))(*(w.ctypes.data_as(pointer) for w, _ in weights))
    biases = (pointer * len(weights))(*(b.ctypes.data_as(pointer) for _, b in weights))
    buffers = [np.zeros(max(sizes), np.float32) for _ in range(3)]
    arguments = [(ctypes.c_int * len(sizes))(*sizes), kernels, biases, *(b.ctypes.data_as(pointer) for b in buffers)]

    def seconds_per_call() -> float:
        times_s = []
        for _ in range(CALLS // BATCH):
            began_s = time.perf_counter()
            library.network(BATCH, len(weights), *arguments)
            times_s.append((time.perf_counter() - began_s) / BATCH)
        return statistics.median(times_s)

    return seconds_per_call


def _seconds_per_call(call: Callable[[], object]) -> float:
    times_s = []
    for _ in range(CALLS):
        began_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - began_s)
    return statistics.median(times_s)


def tick_us(path: Path, limits: SafetyLimits) -> dict[str, float]:
    """The whole loop with policy and filter on a robot that does nothing, microseconds per step."""
    ticks = _Ticks()
    with SafeRobot(NullRobot(), limits) as robot:
        rollout(robot, read_policy(path), SignalTask("bench", 5000), listeners=[ticks])
    p50, p99 = np.percentile(np.diff(ticks.times_s[100:]) * 1e6, [50, 99])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


def _filters() -> dict[str, SafetyLimits]:
    joint = ComponentLimits(low=-1.5, high=1.5, velocity=2.0, acceleration=10.0, margin=0.1)
    return {
        "bounds": SafetyLimits(),
        "all_limits": SafetyLimits(components={f"j{i}": joint for i in range(ACTION_SIZE)}),
    }


def cold_start(path: Path, starts: int) -> dict[str, Any]:
    """Seconds to the first action and peak memory in MB of a fresh process with each library, in turn."""
    found: dict[str, list[list[float]]] = {"file": [], "torch": []}
    for _ in range(starts):
        for name, program in (("file", COLD_ONNX), ("torch", COLD_TORCH)):
            done = subprocess.run(
                [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
            )
            found[name].append(json.loads(done.stdout))
    result: dict[str, Any] = {}
    for i, unit in enumerate(("s", "mb")):
        columns = {name: [values[i] for values in rows] for name, rows in found.items()}
        result |= {f"{name}_{unit}": _spread(values) for name, values in columns.items()}
        result[f"ratio_{unit}"] = _spread([a / b for a, b in zip(columns["file"], columns["torch"], strict=True)])
    return result


def _schedules() -> list[tuple[str, int | None]]:
    return [("ordinary", None), *([("sched_fifo", 50)] if may_run_real_time() else [])]


def loop(path: Path, folder: Path, seconds: float, priority: int | None) -> dict[str, Any]:
    """Late ticks at 500 Hz with the recorder on."""
    clock = MonotonicClock() if priority is None else SpinningClock()
    with SafeRobot(PacedRobot(NullRobot(), clock)) as robot:
        store = EpisodeStore.create(folder / f"runs-{priority}.zarr", robot.spec)
        with store:
            driven: Driven = drive(
                robot,
                read_policy(path),
                SignalTask("bench", round(seconds * RATE_HZ)),
                start=Start(real_time_priority=priority),
                listeners=[StoreListener(store)],
            )
    times = driven.times
    return {
        "rate_hz": times.rate_hz,
        "steps": times.steps,
        "late_ticks": times.late_ticks,
        "late_share": times.late_ticks / times.steps,
        "lateness_us": times.lateness_us(),
        "latency_us": driven.policy.latency_us(),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    sys.exit(main())
