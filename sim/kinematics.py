"""Closed-form kinematics of the arm with the tool pointing straight down."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SHOULDER_HEIGHT_M = 0.30
UPPER_ARM_M = 0.34
FOREARM_M = 0.32
TOOL_M = 0.16
"""From the wrist's pitch axis to the tool centre point (TCP)."""


def joint_positions(tcp_position: ArrayLike) -> NDArray[np.float64]:
    """Joints [rad] that bring the TCP to a position with the tool pointing down and its yaw fixed in the base frame.

    The arm is a planar two-link chain in a vertical plane that turns about the base's axis; the wrist's pitch makes up
    for shoulder and elbow, its roll for the base's yaw. Beyond its reach the arm is stretched out or folded up.

    Args:
        tcp_position: Position in the base frame [m], `(3,)`.

    Returns:
        base_yaw, shoulder_pitch, elbow_pitch, wrist_pitch, wrist_roll, `(5,)`, elbow up.
    """
    x, y, z = (float(v) for v in np.asarray(tcp_position))
    forward, up = math.hypot(x, y), z + TOOL_M - SHOULDER_HEIGHT_M
    cosine = (forward**2 + up**2 - UPPER_ARM_M**2 - FOREARM_M**2) / (2.0 * UPPER_ARM_M * FOREARM_M)
    elbow = math.acos(min(max(cosine, -1.0), 1.0))
    inner = math.atan2(FOREARM_M * math.sin(elbow), UPPER_ARM_M + FOREARM_M * math.cos(elbow))
    shoulder = math.atan2(forward, up) - inner
    yaw = math.atan2(y, x)
    return np.array([yaw, shoulder, elbow, math.pi - shoulder - elbow, yaw])


def upright(yaw: float) -> tuple[float, float, float, float]:
    """The unit quaternion (w, x, y, z) of a turn by `yaw` [rad] about the vertical."""
    return math.cos(yaw / 2.0), 0.0, 0.0, math.sin(yaw / 2.0)


def tcp_position(joints: ArrayLike) -> NDArray[np.float64]:
    """Position of the TCP in the base frame [m], `(3,)`, for any joints `(5,)` [rad]."""
    yaw, shoulder, elbow, wrist, _ = (float(v) for v in np.asarray(joints))
    angles = (shoulder, shoulder + elbow, shoulder + elbow + wrist)
    lengths = (UPPER_ARM_M, FOREARM_M, TOOL_M)
    forward = sum(length * math.sin(angle) for length, angle in zip(lengths, angles, strict=True))
    up = SHOULDER_HEIGHT_M + sum(length * math.cos(angle) for length, angle in zip(lengths, angles, strict=True))
    return np.array([forward * math.cos(yaw), forward * math.sin(yaw), up])
