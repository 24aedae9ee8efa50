"""What the simulated arms observe and accept: their specs, without needing the simulator."""

from __future__ import annotations

import math
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
ONE_ARM = ("",)
TWO_ARMS = ("left_", "right_")
"""What the names of an arm's fields, joints and sites begin with."""


def _position(name: str) -> ArraySpec:
    low, high = (-0.2, -0.6, -0.4), (0.8, 0.6, 0.8)
    return ArraySpec(name=name, shape=(3,), low=low, high=high, unit="m", components=XYZ)


def _vector(name: str) -> ArraySpec:
    return ArraySpec(name=name, shape=(3,), low=(-1.0,), high=(1.0,), unit="m", components=XYZ)


def _yaw(name: str, limit: float) -> ArraySpec:
    return ArraySpec(name=name, shape=(1,), low=(-limit,), high=(limit,), unit="rad", components=("yaw",))


def _opening(name: str, low: float, high: float) -> ArraySpec:
    return ArraySpec(name=name, shape=(1,), low=(low,), high=(high,), unit="m", components=("opening",))


def _own(arm: str) -> tuple[ArraySpec, ...]:
    joints = ArraySpec(
        name=f"{arm}joint_positions", shape=(5,), low=(-math.pi,), high=(math.pi,), unit="rad", components=JOINTS
    )
    velocity = ArraySpec(name=f"{arm}tcp_velocity", shape=(3,), low=(-2.0,), high=(2.0,), unit="m/s", components=XYZ)
    return joints, _position(f"{arm}tcp_position"), velocity, _opening(f"{arm}gripper_opening", 0.0, 0.09)


POSITIONS = ("cube", "block", "tip", "hole", "handle", "bar", "target")
VECTORS = (
    *("cube_from_tcp", "target_from_cube", "target_from_tcp", "block_from_tcp", "target_from_block"),
    *("tip_from_tcp", "hole_from_tip", "handle_from_tcp", "bar_from_left_tcp", "bar_from_right_tcp"),
)
FIELDS = {
    field.name: field
    for field in (
        *(own for arm in (*ONE_ARM, *TWO_ARMS) for own in _own(arm)),
        *(_position(f"{name}_position") for name in POSITIONS),
        *(_vector(name) for name in VECTORS),
        _yaw("cube_yaw", 0.8),
        _yaw("block_yaw", 0.8),
        _yaw("bar_yaw", 0.8),
        _opening("drawer_opening", -0.02, 0.2),
    )
}
"""Every field that `SimRobot` can observe; all in the base frame (with two arms: that of the left one).

Cube, block and bar look the same after a quarter turn, so their yaw is within an eighth of a turn. Tilt is left out: no
demonstration has any, so normalised by demonstrations it would drown all else as soon as one tips over.
"""

SIGNALS = (
    ArraySpec(name="reward", shape=()),
    ArraySpec(name="terminated", shape=(), dtype="bool"),
    ArraySpec(name="truncated", shape=(), dtype="bool"),
    ArraySpec(name="success", shape=(), dtype="bool"),
)


def arm_action(arms: Sequence[str] = ONE_ARM) -> ActionSpec:
    """Per arm: where the TCP should be at the end of the control step, from where it is now; and how far it opens."""
    components = []
    for arm in arms:
        components += [
            ActionComponent(
                name=f"{arm}tcp_d{axis}", low=-MAX_DELTA_M, high=MAX_DELTA_M, unit="m", mode="delta", frame="base"
            )
            for axis in XYZ
        ]
        components.append(
            ActionComponent(name=f"{arm}gripper_opening", low=0.0, high=MAX_OPENING_M, unit="m", frame="tcp")
        )
    return ActionSpec(components=tuple(components))


ACTION = arm_action()
"""That of one arm."""


def arm_spec(name: str, fields: Sequence[str], arms: Sequence[str] = ONE_ARM) -> RobotSpec:
    """The spec of the simulated arms observing `fields` in this order."""
    return RobotSpec(
        name=name,
        observation=tuple(FIELDS[field] for field in fields),
        action=arm_action(arms),
        control_rate_hz=CONTROL_RATE_HZ,
        signals=SIGNALS,
        metadata={"simulator": "mujoco"},
    )


def image_field(camera: str, size: tuple[int, int]) -> ArraySpec:
    """The picture of a camera; `size` is width and height in pixels."""
    width, height = size
    return ArraySpec(
        name=f"{camera}_image", shape=(height, width, 3), dtype="uint8", low=(0.0,), high=(255.0,), is_image=True
    )
