"""What recording costs the control loop, and whether the loop keeps its rate while it records.

    python -m benchmarks.recorder_load [--seconds 60] [--json]

The cost is measured beside a raw write of the same bytes to a file, step by step in one run: the time that the loop
gives to the recorder, and the time of the whole way into the store, encoding included, in whatever process. The rate is
measured with and without real-time priority, where that is permitted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.recorder_crash import FilmedRobot, Numbering, film_spec
from demos.recording.options import RecordOptions
from demos.recording.priority import real_time_priority
from demos.recording.recorder import Recorder
from demos.recording.writer_process import WriterProcess
from robot_rlpd.episode import EpisodeInfo
from robot_rlpd.errors import ConfigError
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.robot import Source
from robot_rlpd.rollout import SilentListener
from robot_rlpd.testing import FakeTask

if TYPE_CHECKING:
    from robot_rlpd.episode import Step
    from robot_rlpd.specs import RobotSpec

COST_STEPS = 600
LATE = 0.1
"""A tick later than this share of the period is late."""
SETTINGS = {
    "50 Hz, 2 cameras of 128x128": film_spec(128, 128, 2, 50.0),
    "30 Hz, 1 camera of 640x480": film_spec(480, 640, 1, 30.0),
}
EPISODE_S = 5.0


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each recording (default 60)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, spec) in enumerate(SETTINGS.items()):
            result[name] = {"cost": cost(Path(folder) / f"cost_{number}", spec)}
            result[name]["rate"] = rate(Path(folder) / f"rate_{number}", spec, arguments.seconds)
            try:
                with real_time_priority():
                    result[name]["rate_with_real_time_priority"] = rate(
                        Path(folder) / f"real_{number}", spec, arguments.seconds
                    )
            except ConfigError as error:
                result[name]["rate_with_real_time_priority"] = str(error)
    result["machine"] = machine() | {"load": os.getloadavg()}
    sys.stdout.write(json.dumps(result, indent=None if arguments.json else 1) + "\n")
    return 0


def cost(path: Path, spec: RobotSpec) -> dict[str, float]:
    """Microseconds per step, at the robot's rate, and of a recording as fast as it goes."""
    robot, policy = FilmedRobot(spec), Numbering()
    observation = robot.reset(seed=0).observation
    step = robot.step(policy(observation))
    size = sum(array.nbytes for array in step.observation.values())
    in_loop, raw = np.zeros(COST_STEPS), np.zeros(COST_STEPS)
    keeper = WriterProcess(path, spec)
    keeper.start(spec, EpisodeInfo(), step, 0.0)
    with path.with_suffix(".raw").open("wb", buffering=0) as file:
        blocks = [array.tobytes() for array in step.observation.values()]
        for t in range(COST_STEPS):
            began = time.perf_counter()
            keeper.step(policy(observation), Source.HUMAN, step, 0.0)
            in_loop[t] = time.perf_counter() - began
            began = time.perf_counter()
            for block in blocks:
                file.write(block)
            raw[t] = time.perf_counter() - began
            time.sleep(spec.control_period_s / 2)
    keeper.end(EpisodeInfo(), keep=True)
    keeper.close()
    fast = WriterProcess(path.with_suffix(".fast"), spec)
    began = time.perf_counter()
    fast.start(spec, EpisodeInfo(), step, 0.0)
    for _ in range(COST_STEPS):
        fast.step(policy(observation), Source.HUMAN, step, 0.0)
    fast.end(EpisodeInfo(), keep=True)
    fast.close()
    whole = (time.perf_counter() - began) / COST_STEPS
    loop_s, raw_s = float(np.median(in_loop)), float(np.median(raw))
    return {
        "bytes_per_step": size,
        "in_the_loop_us_p50": round(loop_s * 1e6, 1),
        "in_the_loop_us_p99": round(float(np.percentile(in_loop, 99)) * 1e6, 1),
        "raw_write_us_p50": round(raw_s * 1e6, 1),
        "in_the_loop_to_raw": round(loop_s / raw_s, 2),
        "whole_way_us_mean": round(whole * 1e6, 1),
        "whole_way_to_raw": round(whole / raw_s, 2),
    }


class Lateness(SilentListener):
    """How late each tick is after the one before."""

    def __init__(self, robot: PacedRobot) -> None:
        self._robot = robot
        self._worst_s = 0.0
        self.late_s: list[float] = []
        self.due_s = 0.0

    def on_start(self, *arguments: object) -> None:
        """The first tick is on time."""
        del arguments
        self.due_s = time.monotonic()

    def on_step(self, step: Step) -> None:
        """Measure against the schedule."""
        del step
        self.due_s += self._robot.spec.control_period_s
        late_s = time.monotonic() - self.due_s
        self.late_s.append(max(0.0, late_s))
        if late_s > self._robot.spec.control_period_s:
            self.due_s = time.monotonic()


def rate(path: Path, spec: RobotSpec, seconds: float) -> dict[str, float]:
    """Record for so long, in episodes of a few seconds."""
    keeper = WriterProcess(path, spec)
    robot = PacedRobot(FilmedRobot(spec))
    lateness = Lateness(robot)
    steps = round(EPISODE_S * spec.control_rate_hz)
    options = RecordOptions(
        episodes=max(1, round(seconds / EPISODE_S)), max_attempts=10**6, keep_failures=True, info=EpisodeInfo()
    )
    Recorder(robot, Numbering(), FakeTask(steps), keeper, options, listeners=[lateness]).run()
    keeper.close()
    late_s = np.array(lateness.late_s)
    limit_s = LATE * spec.control_period_s
    return {
        "steps": len(late_s),
        "late_share": round(float((late_s > limit_s).mean()), 5),
        "lateness_us_p50": round(float(np.median(late_s)) * 1e6, 1),
        "lateness_us_p99": round(float(np.percentile(late_s, 99)) * 1e6, 1),
        "lateness_us_max": round(float(late_s.max()) * 1e6, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
