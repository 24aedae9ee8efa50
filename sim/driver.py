"""One arm in a model: what its controller measures, and the joint targets that an action means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from sim import kinematics
from sim.arm import JOINTS, WORKSPACE_HIGH_M, WORKSPACE_LOW_M

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sim.scene import Vector

FINGERS = ("left_finger", "right_finger")


class ArmDriver:
    """Reads and commands one arm.

    Args:
        model: The model.
        name: What the arm's names begin with.
        base: x, y [m] and turn [rad] of the arm's base.

    Attributes:
        model: The model that it is in.
        encoder_offset: What the joint encoders show too much, `(5,)` [rad]; the controller does not know of it.
        positions: Where the arm's joints and fingers are in `qpos`, `(7,)`.
        velocities: Where they are in `qvel`.
        actuators: Where their targets are in `ctrl`.
    """

    def __init__(self, model: mujoco.MjModel, name: str, base: Vector) -> None:
        self.name = name
        self.encoder_offset = np.zeros(len(JOINTS))
        joints = [model.joint(f"{name}{joint}") for joint in (*JOINTS, *FINGERS)]
        self.positions = np.array([int(joint.qposadr[0]) for joint in joints])
        self.velocities = np.array([int(joint.dofadr[0]) for joint in joints])
        self.actuators = np.array([model.actuator(f"{name}{joint}").id for joint in (*JOINTS, *FINGERS)])
        self.model = model
        self._tcp = model.site(f"{name}tcp").id
        self._jacobian = np.zeros((3, model.nv))
        cosine, sine = math.cos(base[2]), math.sin(base[2])
        self._base = np.array([base[0], base[1], 0.0])
        self._turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        self._at_origin = not any(base)

    def joint_positions(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """As they are, `(5,)` [rad]."""
        joints: NDArray[np.float64] = data.qpos[self.positions[: len(JOINTS)]]
        return joints

    def tcp_position(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """Where the TCP is, `(3,)` [m]."""
        position: NDArray[np.float64] = data.site_xpos[self._tcp]
        return position

    def shown_tcp_position(self, shown_joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the TCP is by the joints that the encoders show, `(3,)` [m]."""
        return self._to_world(kinematics.tcp_position(shown_joints))

    def tcp_velocity(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """Velocity of the TCP, `(3,)` [m/s]."""
        mujoco.mj_comPos(self.model, data)
        mujoco.mj_jacSite(self.model, data, self._jacobian, None, self._tcp)
        velocity: NDArray[np.float64] = self._jacobian @ data.qvel
        return velocity

    def gripper_opening(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """Distance between the fingers, `(1,)` [m]."""
        opening: NDArray[np.float64] = data.qpos[self.positions[len(JOINTS) :]].sum(keepdims=True)
        return opening

    def targets(self, data: mujoco.MjData, action: NDArray[np.float32]) -> NDArray[np.float64]:
        """Joint and finger targets `(7,)` of an action `(4,)`: from where the TCP seems to be, within the workspace."""
        if self.encoder_offset.any():
            seeming = self.shown_tcp_position(self.joint_positions(data) + self.encoder_offset)
        else:
            seeming = self.tcp_position(data)
        wanted = self._to_base(seeming) + (action[:3] if self._at_origin else self._direction_to_base(action[:3]))
        return self.pose(np.clip(wanted, WORKSPACE_LOW_M, WORKSPACE_HIGH_M), float(action[3]))

    def start(self, tcp_position: Vector, opening_m: float) -> NDArray[np.float64]:
        """Joints and fingers `(7,)` with the TCP at a position of the world."""
        return self.pose(self._to_base(np.array(tcp_position)), opening_m)

    def pose(self, tcp_position: NDArray[np.float64], opening_m: float) -> NDArray[np.float64]:
        """Joints and fingers `(7,)` with the TCP at a position of the arm's own frame, as the encoders have it."""
        joints = kinematics.joint_positions(tcp_position) - self.encoder_offset
        return np.append(joints, [opening_m / 2.0] * 2)

    def _to_base(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        return position if self._at_origin else self._turn.T @ (position - self._base)

    def _direction_to_base(self, direction: NDArray[np.float32]) -> NDArray[np.float64]:
        turned: NDArray[np.float64] = self._turn.T @ direction
        return turned

    def _to_world(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        return position if self._at_origin else self._turn @ position + self._base
