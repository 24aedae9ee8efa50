"""What the simulated arm observes and accepts: its spec, without needing the simulator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTROL_RATE_HZ = 10.0
MAX_DELTA_M = 0.03
MAX_OPENING_M = 0.08
CUBE_SIZE_M = 0.04
WORKSPACE_LOW_M = (0.24, -0.24, 0.016)
WORKSPACE_HIGH_M = (0.56, 0.24, 0.34)
"""The TCP is commanded inside this box only; the arm reaches every point of it with the tool pointing down."""

JOINTS = ("base_yaw", "shoulder_pitch", "elbow_pitch", "wrist_pitch", "wrist_roll")
XYZ = ("x", "y", "z")


def _position(name: str, low: tuple[float, ...] = (-0.2, -0.6, -0.4)) -> ArraySpec:
    return ArraySpec(name=name, shape=(3,), low=low, high=(0.8, 0.6, 0.8), unit="m", components=XYZ)


def _vector(name: str) -> ArraySpec:
    return ArraySpec(name=name, shape=(3,), low=(-1.0,), high=(1.0,), unit="m", components=XYZ)


FIELDS = {
    field.name: field
    for field in (
        ArraySpec(name="joint_positions", shape=(5,), low=(-math.pi,), high=(math.pi,), unit="rad", components=JOINTS),
        _position("tcp_position"),
        ArraySpec(name="tcp_velocity", shape=(3,), low=(-2.0,), high=(2.0,), unit="m/s", components=XYZ),
        ArraySpec(name="gripper_opening", shape=(1,), low=(0.0,), high=(0.09,), unit="m", components=("opening",)),
        _position("cube_position"),
        ArraySpec(name="cube_yaw", shape=(1,), low=(-0.8,), high=(0.8,), unit="rad", components=("yaw",)),
        _position("target_position"),
        _vector("cube_from_tcp"),
        _vector("target_from_cube"),
        _vector("target_from_tcp"),
    )
}
"""Every field that `SimRobot` can observe; all in the base frame.

The cube looks the same after a quarter turn, so its yaw is within an eighth of a turn. Its tilt is left out: no
demonstration has any, so normalised by demonstrations it would drown all else as soon as the cube tips over.
"""

ACTION = ActionSpec(
    components=(
        *(
            ActionComponent(
                name=f"tcp_d{axis}", low=-MAX_DELTA_M, high=MAX_DELTA_M, unit="m", mode="delta", frame="base"
            )
            for axis in XYZ
        ),
        ActionComponent(name="gripper_opening", low=0.0, high=MAX_OPENING_M, unit="m", frame="tcp"),
    )
)
"""Where the TCP should be at the end of the control step, from where it is now; and how far the gripper should open."""

SIGNALS = (
    ArraySpec(name="reward", shape=()),
    ArraySpec(name="terminated", shape=(), dtype="bool"),
    ArraySpec(name="truncated", shape=(), dtype="bool"),
    ArraySpec(name="success", shape=(), dtype="bool"),
)


def arm_spec(name: str, fields: Sequence[str]) -> RobotSpec:
    """The spec of the simulated arm observing `fields` in this order."""
    return RobotSpec(
        name=name,
        observation=tuple(FIELDS[field] for field in fields),
        action=ACTION,
        control_rate_hz=CONTROL_RATE_HZ,
        signals=SIGNALS,
        metadata={"simulator": "mujoco"},
    )


@dataclass(frozen=True, kw_only=True)
class Start:
    """How an episode begins; positions in the base frame.

    Attributes:
        tcp_position: Where the gripper starts, wide open [m].
        target_position: Where the target is [m].
        cube_position: Centre of the cube [m]; None where there is no cube.
        cube_yaw: Turn of the cube about the vertical [rad].
    """

    tcp_position: tuple[float, float, float]
    target_position: tuple[float, float, float]
    cube_position: tuple[float, float, float] | None = None
    cube_yaw: float = 0.0
