"""Bring the gripper to a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.arm import MAX_OPENING_M
from sim.expert import ScriptedExpert
from sim.scene import Scene, Start
from sim.sim_task import SimTask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.robot import Expert, Observation
    from robot_rlpd.task import TaskOptions, TaskSetup

MAX_EPISODE_STEPS = 40
TOLERANCE_M = 0.02
"""Largest distance from the TCP to the target."""
MARKER_M = 0.03
"""Radius of the target's marker: five pixels of a 64x64 camera image, where one of the tolerance would be three."""
FIELDS = ("joint_positions", "tcp_position", "tcp_velocity", "gripper_opening", "target_position", "target_from_tcp")


def is_solved(observation: Observation) -> bool:
    """Whether the TCP is at the target."""
    return float(np.linalg.norm(observation["target_from_tcp"])) < TOLERANCE_M


def draw_start(rng: np.random.Generator) -> Start:
    """A target and a gripper anywhere over the table."""
    return Start(
        tcp_positions=((rng.uniform(0.30, 0.50), rng.uniform(-0.16, 0.16), rng.uniform(0.06, 0.28)),),
        target_position=(rng.uniform(0.28, 0.52), rng.uniform(-0.20, 0.20), rng.uniform(0.05, 0.30)),
    )


def plan(observation: Observation, error: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Straight to the target."""
    return observation["target_from_tcp"] + error, MAX_OPENING_M


def remaining_m(observation: Observation) -> float:
    """The way to the target."""
    return float(np.linalg.norm(observation["target_from_tcp"]))


def make_expert(noise: float, seed: int) -> Expert:
    """The scripted expert."""
    return ScriptedExpert(plan, remaining_m, gain=0.8, noise=noise, seed=seed)


TASK = SimTask(
    name="reach",
    scene=Scene(file="arm.xml", target_radius_m=MARKER_M),
    fields=FIELDS,
    needs=("target_from_tcp",),
    is_solved=is_solved,
    draw_start=draw_start,
    make_expert=make_expert,
    max_episode_steps=MAX_EPISODE_STEPS,
)
SPEC = TASK.spec


def setup(argument: str, options: TaskOptions) -> TaskSetup:
    """The entry point `reach`."""
    return TASK.setup(argument, options)
