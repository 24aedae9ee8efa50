"""Bring the gripper to a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.task import TaskOptions, TaskSetup
from sim.arm import MAX_OPENING_M, Start, arm_spec
from sim.expert import ScriptedExpert
from sim.goal_task import GoalTask, check_options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.robot import Observation, Policy, Robot

MAX_EPISODE_STEPS = 40
TOLERANCE_M = 0.02
"""Largest distance from the TCP to the target."""
FIELDS = ("joint_positions", "tcp_position", "tcp_velocity", "gripper_opening", "target_position", "target_from_tcp")
SPEC = arm_spec("sim_arm_reach", FIELDS)


def is_solved(observation: Observation) -> bool:
    """Whether the TCP is at the target."""
    return float(np.linalg.norm(observation["target_from_tcp"])) < TOLERANCE_M


def draw_start(rng: np.random.Generator) -> Start:
    """A target and a gripper anywhere over the table."""
    return Start(
        tcp_position=(rng.uniform(0.30, 0.50), rng.uniform(-0.16, 0.16), rng.uniform(0.06, 0.28)),
        target_position=(rng.uniform(0.28, 0.52), rng.uniform(-0.20, 0.20), rng.uniform(0.05, 0.30)),
    )


def plan(observation: Observation, error: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Straight to the target."""
    return observation["target_from_tcp"] + error, MAX_OPENING_M


def make_expert(noise: float, seed: int) -> Policy:
    """The scripted expert."""
    return ScriptedExpert(plan, gain=0.8, noise=noise, seed=seed)


def setup(argument: str, options: TaskOptions) -> TaskSetup:
    """The entry point `reach`."""
    check_options("reach", argument, options)
    steps = options.max_episode_steps or MAX_EPISODE_STEPS
    needs = ("target_from_tcp",)

    def make_robot() -> Robot:
        from sim.robot import SimRobot

        live = GoalTask("reach", fields=needs, is_solved=is_solved, max_episode_steps=steps)
        return SimRobot(SPEC, scene="arm.xml", task=live, draw_start=draw_start)

    task = GoalTask("reach", fields=needs, is_solved=is_solved, max_episode_steps=steps, reward=options.reward)
    return TaskSetup(task=task, spec=SPEC, make_robot=make_robot, make_expert=make_expert)
