"""Push a block over the table to a target; it slides and turns as it likes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.expert import ScriptedExpert
from sim.scene import Scene, Start
from sim.sim_task import SimTask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.robot import Expert, Observation
    from robot_rlpd.task import TaskOptions, TaskSetup

MAX_EPISODE_STEPS = 100
TOLERANCE_M = 0.02
"""Largest distance from the block's centre to the target, on the table."""
FLAT_WITHIN_M = 0.008
"""A block that lies flat has its centre so close to the target's height; a lifted or tipped one does not count."""
BLOCK_HEIGHT_M = 0.03
PUSH_HEIGHT_M = 0.022
HOVER_M = 0.07
BEHIND_M = 0.075
"""From the block's centre to where a push begins."""
FIELDS = (
    "joint_positions",
    "tcp_position",
    "tcp_velocity",
    "gripper_opening",
    "block_position",
    "block_yaw",
    "target_position",
    "block_from_tcp",
    "target_from_block",
)


def is_solved(observation: Observation) -> bool:
    """Whether the block lies at the target."""
    x, y, z = observation["target_from_block"]
    return float(np.hypot(x, y)) < TOLERANCE_M and abs(float(z)) < FLAT_WITHIN_M


def draw_start(rng: np.random.Generator) -> Start:
    """A block and a target on the table, 8 to 20 cm apart, the gripper closed somewhere above."""
    while True:
        block, target = (np.array([rng.uniform(0.31, 0.49), rng.uniform(-0.15, 0.15)]) for _ in range(2))
        if 0.08 < float(np.linalg.norm(block - target)) < 0.20:
            break
    return Start(
        tcp_positions=((rng.uniform(0.34, 0.44), rng.uniform(-0.06, 0.06), rng.uniform(0.12, 0.18)),),
        opening_m=0.0,
        thing_position=(float(block[0]), float(block[1]), BLOCK_HEIGHT_M / 2.0),
        thing_yaw=rng.uniform(-0.7, 0.7),
        target_position=(float(target[0]), float(target[1]), BLOCK_HEIGHT_M / 2.0),
    )


def plan(observation: Observation, error: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Over the place behind the block, down, and through the block's centre towards the target."""
    block, way = observation["block_from_tcp"].astype(np.float64), observation["target_from_block"].astype(np.float64)
    distance = float(np.linalg.norm(way[:2])) + 1e-6
    along = way[:2] / distance
    across = np.array([-along[1], along[0]])
    height = float(observation["tcp_position"][2])
    behind, aside = float(block[:2] @ along), float(block[:2] @ across)
    low = height < PUSH_HEIGHT_M + 0.015
    ready = abs(aside) < 0.012 + 0.2 * max(behind - 0.05, 0.0) and behind > 0.03
    if low and ready:
        # Towards the middle of the block's back more than forwards: a push off the centre turns the block away.
        forward = min(distance, 0.02) if distance > TOLERANCE_M / 2.0 else 0.0
        step = along * forward + across * (1.2 * aside)
        return np.array([*step, PUSH_HEIGHT_M - height]), 0.0
    begin = block[:2] - along * (BEHIND_M + 0.3 * float(np.abs(error[:2]).sum())) + error[:2] * 0.5
    if float(np.linalg.norm(begin)) < 0.012:
        return np.array([*begin, PUSH_HEIGHT_M - height]), 0.0
    rise = HOVER_M - height
    clear = rise < 0.02
    return np.array([*(begin if clear else (0.0, 0.0)), rise]), 0.0


def remaining_m(observation: Observation) -> float:
    """The block's way to the target, and as long as the gripper is not behind it, its way there, seen from above."""
    block, way = observation["block_from_tcp"][:2].astype(np.float64), observation["target_from_block"][:2]
    distance = float(np.linalg.norm(way))
    along = way / (distance + 1e-6)
    behind, aside = float(block @ along), float(block @ np.array([-along[1], along[0]]))
    return distance + float(np.hypot(max(BEHIND_M / 2.0 - behind, 0.0), aside))


def make_expert(noise: float, seed: int) -> Expert:
    """The scripted expert."""
    return ScriptedExpert(plan, remaining_m, gain=0.8, noise=noise, seed=seed)


TASK = SimTask(
    name="push",
    scene=Scene(file="arm_and_block.xml", thing="block"),
    fields=FIELDS,
    needs=("target_from_block",),
    is_solved=is_solved,
    draw_start=draw_start,
    make_expert=make_expert,
    max_episode_steps=MAX_EPISODE_STEPS,
)
SPEC = TASK.spec


def setup(argument: str, options: TaskOptions) -> TaskSetup:
    """The entry point `push`."""
    return TASK.setup(argument, options)
