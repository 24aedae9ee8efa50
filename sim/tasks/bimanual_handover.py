"""One arm takes a bar from the table and hands it to the other in the air."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.robot import Source
from sim.arm import MAX_OPENING_M, TWO_ARMS
from sim.expert import ScriptedExpert
from sim.grasping import GRASP_M, GraspFromAbove
from sim.scene import Scene, Start
from sim.sim_task import SimTask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.robot import Action, Expert, Observation
    from robot_rlpd.task import TaskOptions, TaskSetup

MAX_EPISODE_STEPS = 120
BAR_HEIGHT_M = 0.02
GRIP_M = 0.06
"""From the bar's middle to where an arm grasps it, to its own side."""
HELD_WITHIN_M = 0.03
HELD_OPENING_M = (0.009, 0.024)
"""Fingers on the bar, which is 16 mm wide, are that far open."""
RELEASED_OPENING_M = 0.05
LIFTED_M = 0.10
MEETING = np.array([0.40, 0.0, 0.15])
HOVER_M = 0.06
GRASP = GraspFromAbove(near_m=0.012, low_m=0.010, aside_m=0.014, hover_m=HOVER_M, missed_m=HELD_OPENING_M[0])
FIELDS = (
    *(
        f"{arm}{field}"
        for arm in TWO_ARMS
        for field in ("joint_positions", "tcp_position", "tcp_velocity", "gripper_opening")
    ),
    "bar_position",
    "bar_yaw",
    "bar_from_left_tcp",
    "bar_from_right_tcp",
)
BASES = ((0.0, 0.0, 0.0), (0.8, 0.0, float(np.pi)))
SIDES = {"left_": np.array([-GRIP_M, 0.0, 0.0]), "right_": np.array([GRIP_M, 0.0, 0.0])}


def is_held(observation: Observation, arm: str) -> bool:
    """Whether an arm's fingers are closed on the bar."""
    low, high = HELD_OPENING_M
    beside = float(np.linalg.norm(_grip_from_tcp(observation, arm)))
    return beside < HELD_WITHIN_M and low < float(observation[f"{arm}gripper_opening"][0]) < high


def is_solved(observation: Observation) -> bool:
    """Whether the right arm alone holds the bar in the air."""
    released = float(observation["left_gripper_opening"][0]) > RELEASED_OPENING_M
    return released and float(observation["bar_position"][2]) > LIFTED_M and is_held(observation, "right_")


def draw_start(rng: np.random.Generator) -> Start:
    """The bar on the left arm's side of the table, both grippers over their own side."""
    return Start(
        tcp_positions=(
            (rng.uniform(0.28, 0.34), rng.uniform(-0.05, 0.05), rng.uniform(0.14, 0.20)),
            (rng.uniform(0.48, 0.54), rng.uniform(-0.05, 0.05), rng.uniform(0.20, 0.26)),
        ),
        thing_position=(rng.uniform(0.33, 0.40), rng.uniform(-0.08, 0.08), BAR_HEIGHT_M / 2.0),
    )


def plan_left(observation: Observation, error: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Take the bar to the meeting place; let go and back off when the other arm has it."""
    if is_held(observation, "right_"):
        released = float(observation["left_gripper_opening"][0]) > RELEASED_OPENING_M
        return np.array([-0.02, 0.0, 0.03]) if released else np.zeros(3), MAX_OPENING_M
    if is_held(observation, "left_"):
        return _to_meeting(observation) + 0.3 * error, 0.0
    return _approach(observation, "left_", error)


def plan_right(observation: Observation, error: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Wait beside the meeting place; grasp the bar when it is there."""
    if is_held(observation, "right_"):
        return np.zeros(3), 0.0
    if is_held(observation, "left_") and float(np.linalg.norm(_to_meeting(observation))) < 0.02:
        return _approach(observation, "right_", error)
    waiting = MEETING + SIDES["right_"] + (0.03, 0.0, HOVER_M)
    return waiting - observation["right_tcp_position"] + error, MAX_OPENING_M


def _grip_from_tcp(observation: Observation, arm: str) -> NDArray[np.float64]:
    """From an arm's TCP to the place on the bar that it grasps."""
    yaw = float(observation["bar_yaw"][0])
    along = np.array([np.cos(yaw), np.sin(yaw), 0.0]) * SIDES[arm][0]
    grip: NDArray[np.float64] = observation[f"bar_from_{arm}tcp"] + along
    return grip


def _to_meeting(observation: Observation) -> NDArray[np.float64]:
    return MEETING - observation["bar_position"]


def _approach(observation: Observation, arm: str, error: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Over the bar, down, close."""
    there = _grip_from_tcp(observation, arm) + error * (1.0, 0.8, 0.5)
    return GRASP.next(there, float(observation[f"{arm}gripper_opening"][0]))


def remaining_m(observation: Observation) -> float:
    """The bar's way to the meeting place, each hand's to its own, and the grasps that are still to be done."""
    if is_held(observation, "right_"):
        return max(RELEASED_OPENING_M - float(observation["left_gripper_opening"][0]), 0.0)
    waiting = MEETING + SIDES["right_"] - observation["right_tcp_position"]
    left = float(np.linalg.norm(_to_meeting(observation))) + float(np.linalg.norm(waiting)) + 2.0 * GRASP_M
    if is_held(observation, "left_"):
        return left
    return left + float(np.linalg.norm(_grip_from_tcp(observation, "left_"))) + GRASP_M


class BimanualExpert:
    """Two hands that make their mistakes each on its own."""

    source = Source.SCRIPTED

    def __init__(self, noise: float, seed: int) -> None:
        plans = (plan_left, plan_right)
        self._hands = [
            ScriptedExpert(plan, remaining_m, gain=0.8, noise=noise, seed=2 * seed + hand, clumsiness=0.6)
            for hand, plan in enumerate(plans)
        ]

    def reset(self) -> None:
        """Start with new mistakes."""
        for hand in self._hands:
            hand.reset()

    def __call__(self, observation: Observation) -> Action:
        """The next action of both arms."""
        return np.concatenate([hand(observation) for hand in self._hands])

    def remaining_m(self, observation: Observation) -> float:
        """The way that is left for both."""
        return remaining_m(observation)


def make_expert(noise: float, seed: int) -> Expert:
    """The scripted expert."""
    return BimanualExpert(noise, seed)


TASK = SimTask(
    name="bimanual_handover",
    scene=Scene(file="two_arms_and_bar.xml", arms=TWO_ARMS, bases=BASES, thing="bar", substeps=12),
    fields=FIELDS,
    needs=(*("left_gripper_opening", "right_gripper_opening", "bar_position", "bar_yaw", "bar_from_right_tcp"),),
    is_solved=is_solved,
    draw_start=draw_start,
    make_expert=make_expert,
    max_episode_steps=MAX_EPISODE_STEPS,
)
SPEC = TASK.spec


def setup(argument: str, options: TaskOptions) -> TaskSetup:
    """The entry point `bimanual_handover`."""
    return TASK.setup(argument, options)
