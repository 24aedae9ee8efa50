"""System identification: hidden quantities found again, and the stand-ins' prediction made better.

    python -m benchmarks.identification [--task pick_place] [--episodes 10] [--evaluations 800] [--seeds 3] [--json]

First the nominal simulation with known quantities records episodes with the scripted expert; the search sees only the
episodes. Then the same with the stand-ins, whose other differences (noise, lost frames, wrong calibration) are not
searched for.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from robot_rlpd.rollout import rollout
from robot_rlpd.task import SignalTask, TaskOptions
from sim.identification import DEFAULT, identify
from sim.options import SimOptions
from sim.prediction import Predictor, rms_m
from sim.randomization import Randomization
from sim.served import find_task
from sim.standin import hidden_values, make_robot

if TYPE_CHECKING:
    from robot_rlpd.robot import Robot
    from sim.sim_task import SimTask

HIDDEN = {
    "servo_gain_scale": 0.5,
    "joint_damping_scale": 3.0,
    "joint_friction_nm": 1.0,
    "action_delay_s": 0.07,
}
FIRST_TEST_SEED = 1000
"""Episodes that the search has not seen begin here."""


def main() -> int:
    """Search in every world with every seed and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pick_place")
    parser.add_argument("--worlds", nargs="+", default=["synthetic", "mild", "hard"])
    parser.add_argument(
        "--episodes", type=int, default=10, help="that the search sees; as many more to test (default 10)"
    )
    parser.add_argument("--evaluations", type=int, default=800, help="default 800")
    parser.add_argument("--seeds", type=int, default=3, help="searches per world (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    task = find_task(arguments.task, field="task")
    results = []
    for world in arguments.worlds:
        for seed in range(arguments.seeds):
            result = search(task, world, arguments.episodes, arguments.evaluations, seed)
            results.append(result)
            if not arguments.json:
                print(told(result), flush=True)
    if arguments.json:
        print(json.dumps({"results": results, "config": vars(arguments), "machine": machine()}))
    return 0


def search(task: SimTask, world: str, num: int, evaluations: int, seed: int) -> dict[str, Any]:
    """One search, tested on episodes that it has not seen."""
    robot = _robot(task, world)
    seen, unseen = (
        [rollout(robot, task.make_expert(0.5, k), SignalTask(), seed=k) for k in range(first, first + num)]
        for first in (seed * num, FIRST_TEST_SEED + seed * num)
    )
    found = identify(Predictor(task, seen), DEFAULT, evaluations=evaluations, seed=seed)
    test = Predictor(task, unseen)
    hidden = HIDDEN if world == "synthetic" else hidden_values(task.name, world)
    return {
        "world": world,
        "seed": seed,
        "hidden": {name: hidden.get(name) for name in DEFAULT},
        "test_before_m": rms_m(test.residuals({})),
        "test_after_m": rms_m(test.residuals(found.values)),
        **asdict(found),
    }


def told(result: dict[str, Any]) -> str:
    """Some lines."""
    lines = [
        f"{result['world']} seed {result['seed']}: "
        f"{1000 * result['before_m']:.2f} to {1000 * result['after_m']:.2f} mm, "
        f"unseen {1000 * result['test_before_m']:.2f} to {1000 * result['test_after_m']:.2f} mm, "
        f"{result['evaluations']} simulations"
    ]
    lines += [
        f"    {name:<22} {value:8.4f} hidden {result['hidden'][name]}" for name, value in result["values"].items()
    ]
    return "\n".join(lines)


def _robot(task: SimTask, world: str) -> Robot:
    if world == "synthetic":
        return task.make_robot(SimOptions(randomization=Randomization.constant(HIDDEN)), TaskOptions())
    return make_robot(f"{task.name}:{world}", TaskOptions())


if __name__ == "__main__":
    sys.exit(main())
