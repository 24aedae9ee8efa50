"""How often the scripted experts solve their tasks, and how long they take.

python -m benchmarks.task_experts [--tasks push drawer] [--episodes 100] [--noise 0 0.7 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from benchmarks.machine import machine
from robot_rlpd.evaluation import wilson_interval
from robot_rlpd.rollout import rollout
from robot_rlpd.task import load_task
from sim.served import task_names


def main() -> int:
    """Run every expert at every noise, print successes with n and a 95 % interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=task_names(), help="default all")
    parser.add_argument("--episodes", type=int, default=100, help="per task and noise (default 100)")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.7, 1.0], help="mistakes, 0 to 1")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    for name in arguments.tasks:
        results[name] = {str(noise): measure(name, noise, arguments.episodes) for noise in arguments.noise}
        for noise, result in results[name].items():
            if not arguments.json:
                low, high = (100.0 * bound for bound in result["ci95"])
                shown = f"{result['successes']}/{result['episodes']} ({low:.1f} to {high:.1f} %)"
                print(f"{name:<18} noise {noise:<4} {shown}, median {result['median_steps']:g} steps", flush=True)
    if arguments.json:
        print(json.dumps({"results": results, "config": vars(arguments), "machine": machine()}))
    return 0


def measure(name: str, noise: float, num: int) -> dict[str, Any]:
    """Successes and lengths of `num` episodes, seeds 0 and up."""
    setup = load_task(name)
    assert setup.make_expert is not None
    with setup.make_robot() as robot:
        episodes = [rollout(robot, setup.make_expert(noise, seed), setup.task, seed=seed) for seed in range(num)]
    successes = sum(bool(episode.info.success) for episode in episodes)
    return {
        "successes": successes,
        "episodes": num,
        "ci95": wilson_interval(successes, num),
        "median_steps": statistics.median(len(episode) for episode in episodes),
    }


if __name__ == "__main__":
    sys.exit(main())
