"""Insert a square peg that the gripper holds into a hole with 1 mm of play on each side."""

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
PEG_SIZE_M = 0.016
DEPTH_M = 0.020
"""How deep the tip has to be under the socket's top ..."""
WITHIN_M = 0.02
"""... and how near to the hole's middle; so deep it can be nowhere else within the socket, however it is measured."""
HOVER_M = 0.012
FIELDS = (
    "joint_positions",
    "tcp_position",
    "tcp_velocity",
    "gripper_opening",
    "tip_position",
    "hole_position",
    "tip_from_tcp",
    "hole_from_tip",
)


def is_solved(observation: Observation) -> bool:
    """Whether the peg is in the hole."""
    x, y, z = observation["hole_from_tip"]
    return float(np.hypot(x, y)) < WITHIN_M and float(z) > DEPTH_M


def draw_start(rng: np.random.Generator) -> Start:
    """A socket on the table, the peg in the gripper somewhere above."""
    return Start(
        tcp_positions=((rng.uniform(0.34, 0.46), rng.uniform(-0.10, 0.10), rng.uniform(0.16, 0.22)),),
        opening_m=PEG_SIZE_M + 0.002,
        thing_from_tcp=(rng.uniform(-0.002, 0.002), 0.0, rng.uniform(-0.022, -0.018)),
        fixture_position=(rng.uniform(0.32, 0.48), rng.uniform(-0.12, 0.12), 0.0),
    )


def plan(observation: Observation, error: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Over the hole, down to it, and in while the tip is within the play."""
    way = observation["hole_from_tip"].astype(np.float64)
    above = -float(way[2])
    if above < -0.001:
        return np.array([*(0.5 * way[:2]), -0.012]), 0.0
    there = way[:2] + 0.5 * error[:2]
    aside = float(np.linalg.norm(there))
    if aside > 0.0012 + 0.6 * max(above - HOVER_M, 0.0):
        return np.array([*there, HOVER_M - above]), 0.0
    return np.array([*there, max(-above - 0.004, -0.02)]), 0.0


def remaining_m(observation: Observation) -> float:
    """Aside to the hole's middle, and down to the depth."""
    x, y, z = observation["hole_from_tip"]
    return float(np.hypot(x, y)) + max(DEPTH_M - float(z), 0.0)


def make_expert(noise: float, seed: int) -> Expert:
    """The scripted expert."""
    return ScriptedExpert(plan, remaining_m, gain=0.8, noise=noise, seed=seed, clumsiness=0.25)


TASK = SimTask(
    name="peg_insert",
    scene=Scene(file="arm_and_peg.xml", thing="peg", fixture="socket", substeps=14),
    fields=FIELDS,
    needs=("hole_from_tip",),
    is_solved=is_solved,
    draw_start=draw_start,
    make_expert=make_expert,
    max_episode_steps=MAX_EPISODE_STEPS,
)
SPEC = TASK.spec


def setup(argument: str, options: TaskOptions) -> TaskSetup:
    """The entry point `peg_insert`."""
    return TASK.setup(argument, options)
