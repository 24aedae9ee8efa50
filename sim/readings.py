"""Observation fields read from the state of the simulation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from sim.arm import JOINTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from robot_rlpd.robot import Observation
    from robot_rlpd.specs import ArraySpec

ARM = slice(0, len(JOINTS))
FINGERS = slice(len(JOINTS), len(JOINTS) + 2)
CUBE_POSITION = slice(-7, -4)
CUBE_ORIENTATION = slice(-4, None)
"""Where things are in `qpos`; the cube comes last, where there is one."""


def has_cube(model: mujoco.MjModel) -> bool:
    """Whether the scene has a cube beside the arm."""
    return int(model.nq) > FINGERS.stop


def read(model: mujoco.MjModel, data: mujoco.MjData, fields: Sequence[ArraySpec]) -> Observation:
    """The fields of `sim.arm.FIELDS` that are asked for, as new arrays; needs up-to-date kinematics."""
    tcp, target = data.site_xpos[model.site("tcp").id], model.site_pos[model.site("target").id]
    values: dict[str, Any] = {
        "joint_positions": data.qpos[ARM],
        "tcp_position": tcp,
        "tcp_velocity": _tcp_velocity(model, data),
        "gripper_opening": data.qpos[FINGERS].sum(keepdims=True),
        "target_position": target,
        "target_from_tcp": target - tcp,
    }
    if has_cube(model):
        cube = data.qpos[CUBE_POSITION]
        values |= {
            "cube_position": cube,
            "cube_yaw": [_cube_yaw(data.body("cube").xmat.reshape(3, 3))],
            "cube_from_tcp": cube - tcp,
            "target_from_cube": target - cube,
        }
    return {field.name: np.array(values[field.name], np.float32) for field in fields}


def _cube_yaw(axes: NDArray[np.float64]) -> float:
    """Yaw of the edge that lies flattest, within an eighth of a turn; `axes` are the cube's edges in columns."""
    x, y, _ = axes[:, np.argmin(np.abs(axes[2]))]
    quarter = math.pi / 2.0
    return (math.atan2(y, x) + quarter / 2.0) % quarter - quarter / 2.0


def _tcp_velocity(model: mujoco.MjModel, data: mujoco.MjData) -> NDArray[np.float64]:
    mujoco.mj_comPos(model, data)
    jacobian = np.zeros((3, model.nv))
    mujoco.mj_jacSite(model, data, jacobian, None, model.site("tcp").id)
    velocity: NDArray[np.float64] = jacobian @ data.qvel
    return velocity
