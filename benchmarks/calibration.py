"""What is left of the stand-ins' wrong calibration after it was found from demonstrations.

    python -m benchmarks.calibration [--tasks peg_insert reach] [--worlds hard held_back:0] [--episodes 5 20] [--json]

The person who knows a stand-in demonstrates; `sim.calibration` sees only the recorded episodes, the solved ones. Told
is by how much the fields `a_from_b` are off on episodes that it has not seen, horizontally and vertically, as the mean
over observations of the worst field: as the robot shows them, and with what was found taken out.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import machine
from robot_rlpd.errors import DataError
from robot_rlpd.rollout import rollout
from robot_rlpd.task import SignalTask, TaskOptions
from sim.calibrate import calibrate
from sim.calibration import Calibration
from sim.demonstrator import Demonstrator
from sim.readings import BETWEEN
from sim.served import find_task
from sim.standin import hidden_values, make_robot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from robot_rlpd.episode import Episode
    from robot_rlpd.robot import Observation
    from sim.sim_task import SimTask

TASKS = ("reach", "pick_place", "push", "peg_insert", "drawer")
WORLDS = ("hard", "held_back:0", "held_back:1", "held_back:2")
NOISE = 0.5
UNSEEN = 10
FIRST_TEST_SEED = 1000
"""Episodes that the search has not seen begin here."""


def main() -> int:
    """Calibrate by every number of demonstrations in every world and print what is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help=f"default {' '.join(TASKS)}")
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), help=f"stand-ins (default {' '.join(WORLDS)})")
    parser.add_argument("--episodes", type=int, nargs="+", default=[5, 20], help="demonstrations (default 5 and 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    results = []
    for name in arguments.tasks:
        for world in arguments.worlds:
            for result in measure(find_task(name, field="tasks"), world, arguments.episodes):
                results.append(result)
                if not arguments.json:
                    print(told(result), flush=True)
    if arguments.json:
        print(json.dumps({"results": results, "config": vars(arguments), "machine": machine()}))
    return 0


def measure(task: SimTask, world: str, counts: Sequence[int]) -> list[dict[str, Any]]:
    """One result for each number of demonstrations."""
    hidden = hidden_values(task.name, world)
    right = Calibration(task.scene, hidden)
    demonstrations = _shown(task, world, hidden, range(max(counts)))
    unseen = _shown(task, world, hidden, range(FIRST_TEST_SEED, FIRST_TEST_SEED + UNSEEN))
    observations = [
        {name: column[row] for name, column in episode.observations.items()}
        for episode in unseen
        for row in range(len(episode) + 1)
    ]
    results = []
    for count in counts:
        result: dict[str, Any] = {"task": task.name, "world": world, "episodes": count}
        try:
            found = calibrate(task, demonstrations[:count], seed=0)
        except DataError as error:
            results.append(result | {"error": str(error)})
            continue
        before, after = (_off(right, Calibration(task.scene, values), observations) for values in ({}, found.values))
        result |= {"solved": found.episodes, "off_before_m": before, "off_after_m": after, "values": found.values}
        results.append(result)
    return results


def _shown(task: SimTask, world: str, hidden: Mapping[str, float], seeds: range) -> list[Episode]:
    robot = make_robot(f"{task.name}:{world}", TaskOptions())
    return [rollout(robot, Demonstrator(task, hidden, noise=NOISE, seed=s), SignalTask(), seed=s) for s in seeds]


def _off(right: Calibration, found: Calibration, observations: Sequence[Observation]) -> list[float]:
    """Horizontal and vertical error of the worst field, means over observations [m]."""
    names = [name for name in observations[0] if BETWEEN in name]
    apart = np.array([[found.undone(o)[n] - right.undone(o)[n] for n in names] for o in observations], np.float64)
    aside, height = np.hypot(apart[..., 0], apart[..., 1]).mean(axis=0), np.abs(apart[..., 2]).mean(axis=0)
    return [float(aside.max()), float(height.max())]


def told(result: dict[str, Any]) -> str:
    """One line."""
    head = f"{result['task']:<12} {result['world']:<12} {result['episodes']:>3} demonstrations"
    if "error" in result:
        return f"{head}: {result['error']}"
    before, after = ([1000 * part for part in result[name]] for name in ("off_before_m", "off_after_m"))
    return (
        f"{head}, {result['solved']} solved: aside {before[0]:.1f} to {after[0]:.1f} mm, "
        f"height {before[1]:.1f} to {after[1]:.1f} mm"
    )


if __name__ == "__main__":
    sys.exit(main())
