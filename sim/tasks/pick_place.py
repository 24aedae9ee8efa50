"""Grasp a cube from the table and hold it at a target in the air."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.arm import CUBE_SIZE_M
from sim.expert import ScriptedExpert
from sim.grasping import GRASP_M, GraspFromAbove
from sim.scene import Scene, Start
from sim.sim_task import SimTask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.robot import Expert, Observation
    from robot_rlpd.task import TaskOptions, TaskSetup

MAX_EPISODE_STEPS = 60
TOLERANCE_M = 0.03
"""Largest distance from the cube's centre to the target."""
HELD_WITHIN_M = 0.025
"""A held cube has its centre at most this far from the TCP ..."""
HELD_OPENING_M = (0.03, 0.058)
"""... and keeps the gripper this far open; so a cube that was thrown or flicked does not count."""
GRASP = GraspFromAbove(near_m=0.012, low_m=0.012, aside_m=0.015, hover_m=0.06, missed_m=HELD_OPENING_M[0])
FIELDS = (
    "joint_positions",
    "tcp_position",
    "tcp_velocity",
    "gripper_opening",
    "cube_position",
    "cube_yaw",
    "target_position",
    "cube_from_tcp",
    "target_from_cube",
)


def is_held(observation: Observation) -> bool:
    """Whether the cube is between the fingers."""
    low, high = HELD_OPENING_M
    near = float(np.linalg.norm(observation["cube_from_tcp"])) < HELD_WITHIN_M
    return near and low < float(observation["gripper_opening"][0]) < high


def is_solved(observation: Observation) -> bool:
    """Whether the cube is held at the target."""
    return is_held(observation) and float(np.linalg.norm(observation["target_from_cube"])) < TOLERANCE_M


def draw_start(rng: np.random.Generator) -> Start:
    """A cube on the table, a target above it all, a gripper somewhere over the table."""
    return Start(
        tcp_positions=((rng.uniform(0.34, 0.44), rng.uniform(-0.06, 0.06), rng.uniform(0.16, 0.22)),),
        thing_position=(rng.uniform(0.30, 0.50), rng.uniform(-0.125, 0.125), CUBE_SIZE_M / 2.0),
        thing_yaw=rng.uniform(-0.4, 0.4),
        target_position=(rng.uniform(0.32, 0.48), rng.uniform(-0.14, 0.14), rng.uniform(0.10, 0.22)),
    )


def plan(observation: Observation, error: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Over the cube, down, close, to the target; what comes next shows in the observation."""
    if is_held(observation):
        return observation["target_from_cube"] + 0.5 * error, 0.0
    there = observation["cube_from_tcp"] + error * (1.0, 1.0, 0.5)
    return GRASP.next(there, float(observation["gripper_opening"][0]))


def remaining_m(observation: Observation) -> float:
    """The cube's way to the target, and before that the gripper's to the cube."""
    to_target = float(np.linalg.norm(observation["target_from_cube"]))
    return (
        to_target if is_held(observation) else to_target + float(np.linalg.norm(observation["cube_from_tcp"])) + GRASP_M
    )


def make_expert(noise: float, seed: int) -> Expert:
    """The scripted expert."""
    return ScriptedExpert(plan, remaining_m, gain=0.8, noise=noise, seed=seed)


TASK = SimTask(
    name="pick_place",
    scene=Scene(file="arm_and_cube.xml", thing="cube"),
    fields=FIELDS,
    needs=("gripper_opening", "cube_from_tcp", "target_from_cube"),
    is_solved=is_solved,
    draw_start=draw_start,
    make_expert=make_expert,
    max_episode_steps=MAX_EPISODE_STEPS,
)
SPEC = TASK.spec


def setup(argument: str, options: TaskOptions) -> TaskSetup:
    """The entry point `pick_place`."""
    return TASK.setup(argument, options)
