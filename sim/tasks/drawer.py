"""Grasp the handle of a drawer and pull it open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.expert import ScriptedExpert
from sim.grasping import GRASP_M, GraspFromAbove
from sim.scene import Scene, Start
from sim.sim_task import SimTask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.robot import Expert, Observation
    from robot_rlpd.task import TaskOptions, TaskSetup

MAX_EPISODE_STEPS = 100
OPEN_M = 0.12
"""How far the drawer has to be out."""
GRASPED_WITHIN_M = 0.03
GRASPED_OPENING_M = (0.008, 0.022)
"""Fingers on the handle, which is 14 mm wide, are that far open."""
GRASP = GraspFromAbove(near_m=0.010, low_m=0.012, aside_m=0.014, hover_m=0.06, missed_m=GRASPED_OPENING_M[0])
PULL_M = 0.025
FIELDS = (
    "joint_positions",
    "tcp_position",
    "tcp_velocity",
    "gripper_opening",
    "handle_position",
    "drawer_opening",
    "handle_from_tcp",
)


def is_solved(observation: Observation) -> bool:
    """Whether the drawer is open."""
    return float(observation["drawer_opening"][0]) > OPEN_M


def draw_start(rng: np.random.Generator) -> Start:
    """A cabinet at the far side of the table, its drawer closed, and a gripper somewhere before it."""
    return Start(
        tcp_positions=((rng.uniform(0.32, 0.42), rng.uniform(-0.10, 0.10), rng.uniform(0.16, 0.24)),),
        fixture_position=(rng.uniform(0.49, 0.54), rng.uniform(-0.10, 0.10), 0.0),
    )


def is_grasped(observation: Observation) -> bool:
    """Whether the fingers are closed on the handle."""
    low, high = GRASPED_OPENING_M
    near = float(np.linalg.norm(observation["handle_from_tcp"])) < GRASPED_WITHIN_M
    return near and low < float(observation["gripper_opening"][0]) < high


def plan(observation: Observation, error: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Over the handle, down, close, pull."""
    if is_grasped(observation):
        # A handle that slips through the fingers is pulled more gently.
        slipped = max(float(observation["handle_from_tcp"][0]), 0.0)
        return np.array([min(slipped - PULL_M, 0.0), 0.3 * observation["handle_from_tcp"][1], 0.0]), 0.0
    there = observation["handle_from_tcp"] + error * (0.6, 0.6, 0.5)
    return GRASP.next(there, float(observation["gripper_opening"][0]))


def remaining_m(observation: Observation) -> float:
    """How far the drawer is to come out still, and before that the way to its handle."""
    to_open = max(OPEN_M - float(observation["drawer_opening"][0]), 0.0)
    return (
        to_open
        if is_grasped(observation)
        else to_open + float(np.linalg.norm(observation["handle_from_tcp"])) + GRASP_M
    )


def make_expert(noise: float, seed: int) -> Expert:
    """The scripted expert."""
    return ScriptedExpert(plan, remaining_m, gain=0.8, noise=noise, seed=seed, clumsiness=0.6)


TASK = SimTask(
    name="drawer",
    scene=Scene(file="arm_and_drawer.xml", fixture="cabinet", slide="drawer"),
    fields=FIELDS,
    needs=("drawer_opening",),
    is_solved=is_solved,
    draw_start=draw_start,
    make_expert=make_expert,
    max_episode_steps=MAX_EPISODE_STEPS,
)
SPEC = TASK.spec


def setup(argument: str, options: TaskOptions) -> TaskSetup:
    """The entry point `drawer`."""
    return TASK.setup(argument, options)
