"""Control steps per second of the simulated tasks without images, on one core, driven by their experts.

    python -m benchmarks.task_speed [--tasks push drawer] [--steps 3000] [--repeats 3] [--json]

Counted is the processor time inside `robot.step`, so that other programs on the machine disturb little; resets and
the expert's own thinking are left out. With `--camera front` a picture of 96 x 96 pixels is drawn at every step.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from benchmarks.machine import machine
from robot_rlpd.registry import entry_points
from robot_rlpd.task import TaskOptions, load_task


def main() -> int:
    """Measure every task, print the median and the range of all repeats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=simulated(), help="default all")
    parser.add_argument("--steps", type=int, default=3000, help="control steps per repeat (default 3000)")
    parser.add_argument("--repeats", type=int, default=3, help="default 3")
    parser.add_argument("--camera", default="", help="camera to draw at every step (default none)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    # Drawing without a graphics card may use as many threads as there are cores.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    tasks = {}
    for name in arguments.tasks:
        speeds = sorted(steps_per_s(name, arguments.steps, arguments.camera) for _ in range(arguments.repeats))
        tasks[name] = {"median": speeds[len(speeds) // 2], "min": speeds[0], "max": speeds[-1]}
    if arguments.json:
        print(json.dumps({"steps_per_s": tasks, "camera": arguments.camera, "machine": machine()}))
        return 0
    for name, speed in tasks.items():
        print(f"{name:<18} {speed['median']:7.0f} steps/s ({speed['min']:.0f} to {speed['max']:.0f})")
    return 0


def simulated() -> list[str]:
    """The tasks of the package `sim`."""
    return sorted(name for name, point in entry_points("robot_rlpd.tasks").items() if point.module.startswith("sim."))


def steps_per_s(name: str, steps: int, camera: str) -> float:
    """Control steps per second of processor time in one process."""
    setup = load_task(name, TaskOptions(env_kwargs={"cameras": [camera]} if camera else {}))
    assert setup.make_expert is not None
    spent_s = 0.0
    with setup.make_robot() as robot:
        expert = setup.make_expert(0.5, 0)
        expert.reset()
        result = robot.reset(seed=0)
        for _ in range(steps):
            action = expert(result.observation)
            started_s = time.process_time()
            result = robot.step(action)
            spent_s += time.process_time() - started_s
            if result.signals["terminated"] or result.signals["truncated"]:
                expert.reset()
                result = robot.reset()
    return steps / spent_s


if __name__ == "__main__":
    sys.exit(main())
