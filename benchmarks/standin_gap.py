"""How far the stand-ins are from the nominal simulation: scripts, open-loop replay, and one-step prediction.

    python -m benchmarks.standin_gap [--tasks push drawer] [--worlds nominal mild hard] [--episodes 50] [--noise 0.5]

Per task and world, over the same starts: how often the task's expert succeeds, how often the person does who knows the
robot (`sim.demonstrator`), how often the nominal expert's actions succeed when they are replayed without looking, and
how well the nominal simulation predicts the recorded steps. Success is the robot's own signal.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from robot_rlpd.evaluation import wilson_interval
from robot_rlpd.rollout import rollout
from robot_rlpd.task import SignalTask, TaskOptions
from sim.demonstrator import Demonstrator
from sim.options import SimOptions
from sim.prediction import Predictor, rms_m
from sim.served import find_task, task_names
from sim.standin import hidden_values, make_robot

if TYPE_CHECKING:
    from robot_rlpd.episode import Episode
    from robot_rlpd.robot import Policy, Robot
    from sim.sim_task import SimTask

NOMINAL = "nominal"
PREDICTED = 10
"""Episodes that are predicted."""


def main() -> int:
    """Measure every task in every world and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=task_names(), help="default all")
    parser.add_argument("--worlds", nargs="+", default=[NOMINAL, "mild", "hard", "held_back:0"])
    parser.add_argument("--episodes", type=int, default=50, help="per number (default 50)")
    parser.add_argument("--noise", type=float, default=0.5, help="mistakes of experts and person, 0 to 1 (default 0.5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    for name in arguments.tasks:
        results[name] = {}
        for world in arguments.worlds:
            results[name][world] = measure(find_task(name, field="tasks"), world, arguments.episodes, arguments.noise)
            if not arguments.json:
                print(f"{name:<18} {world:<12} {told(results[name][world])}", flush=True)
    if arguments.json:
        print(json.dumps({"results": results, "config": vars(arguments), "machine": machine()}))
    return 0


def measure(task: SimTask, world: str, episodes: int, noise: float) -> dict[str, Any]:
    """All numbers of one task in one world."""
    robot = world_of(task, world)
    hidden = {} if world == NOMINAL else hidden_values(task.name, world)
    scripted = [rollout(robot, task.make_expert(noise, seed), SignalTask(), seed=seed) for seed in range(episodes)]
    result: dict[str, Any] = {"expert": rate([bool(episode.info.success) for episode in scripted])}
    if world != NOMINAL:
        person = [
            rollout(robot, Demonstrator(task, hidden, noise=noise, seed=seed), SignalTask(), seed=seed)
            for seed in range(episodes)
        ]
        result["person"] = rate([bool(episode.info.success) for episode in person])
    result["replay"] = rate(replayed(task, robot, episodes))
    result["one_step_residual_m"] = rms_m(Predictor(task, scripted[:PREDICTED]).residuals({}))
    return result


def world_of(task: SimTask, world: str) -> Robot:
    """A robot of the nominal simulation or of a stand-in's profile."""
    if world == NOMINAL:
        return task.make_robot(SimOptions(), TaskOptions())
    return make_robot(f"{task.name}:{world}", TaskOptions())


def replayed(task: SimTask, robot: Robot, episodes: int) -> list[bool]:
    """Whether the flawless expert's actions of the nominal world succeed, replayed from the same starts."""
    nominal = task.make_robot(SimOptions(), TaskOptions())
    successes = []
    for seed in range(episodes):
        expert: Policy = task.make_expert(0.0, seed)
        episode: Episode = rollout(nominal, expert, SignalTask(), seed=seed)
        robot.reset(seed=seed)
        done = False
        for action in episode.executed_actions:
            done = done or bool(robot.step(action).signals["success"])
        successes.append(done)
    return successes


def rate(successes: list[bool]) -> dict[str, Any]:
    """Successes with n and a 95 % interval."""
    low, high = wilson_interval(sum(successes), len(successes))
    return {"successes": sum(successes), "episodes": len(successes), "ci95": [low, high]}


def told(result: dict[str, Any]) -> str:
    """One line."""
    parts = [
        f"{name} {part['successes']}/{part['episodes']} ({100 * part['ci95'][0]:.0f} to {100 * part['ci95'][1]:.0f} %)"
        for name, part in result.items()
        if isinstance(part, dict)
    ]
    return ", ".join([*parts, f"one-step residual {1000 * result['one_step_residual_m']:.2f} mm"])


if __name__ == "__main__":
    sys.exit(main())
