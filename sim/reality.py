"""Makes a model differ from the nominal one, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from sim.arm import JOINTS
from sim.quantities import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sim.driver import ArmDriver
    from sim.motion import Motion
    from sim.scene import Scene
    from sim.sensing import Sensing

CHANGED = (
    *("body_mass", "body_inertia", "geom_friction", "geom_size", "geom_rbound", "geom_aabb", "dof_damping"),
    *("dof_frictionloss", "actuator_gainprm", "actuator_biasprm", "actuator_forcerange"),
    *("cam_pos", "cam_quat", "light_diffuse", "light_ambient"),
)
HEADLIGHT = ("ambient", "diffuse")
OFFSET_JOINTS = JOINTS[:3]
TABLE, PADS = ("table",), ("left_pad", "right_pad")
UNCOMPENSATED = "hand"


class Reality:
    """Applies quantities of `sim.quantities` to a model and to what drives and observes it.

    Args:
        model: In its nominal state; changed in place from then on.
        data: Any state of it; scratch space.
        scene: What is in it.
        drivers: One per arm.
        motion: What drives them.
        sensing: What observes.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        scene: Scene,
        drivers: Sequence[ArmDriver],
        motion: Motion,
        sensing: Sensing,
    ) -> None:
        self._model, self._data, self._motion, self._sensing, self._drivers = model, data, motion, sensing, drivers
        self._nominal = {name: getattr(model, name).copy() for name in CHANGED}
        self._light = {name: np.array(getattr(model.vis.headlight, name)) for name in HEADLIGHT}
        names = [model.geom(index).name for index in range(model.ngeom)]
        self._table = [names.index(name) for name in TABLE]
        self._pads = [names.index(f"{d.name}{pad}") for d in drivers for pad in PADS]
        self._bodies = [model.body(scene.thing).id] if scene.thing else []
        self._things = [index for index in range(model.ngeom) if model.geom_bodyid[index] in self._bodies]
        self._slides = [int(model.joint(scene.slide).dofadr[0])] if scene.slide else []
        self._arm_dofs = np.concatenate([driver.velocities[: len(JOINTS)] for driver in drivers])
        self._servos = np.concatenate([driver.actuators[: len(JOINTS)] for driver in drivers])
        self._fingers = np.concatenate([driver.actuators[len(JOINTS) :] for driver in drivers])
        self._hands = [model.body(f"{driver.name}{UNCOMPENSATED}").id for driver in drivers]
        self._is_nominal = True

    def apply(self, values: Mapping[str, float]) -> None:
        """Make the world differ from the nominal one in these quantities and no others.

        The start of the episode is not touched: what begins with `start_` is the robot's business.
        """
        if self._is_nominal and not values:
            return
        for name, array in self._nominal.items():
            getattr(self._model, name)[:] = array
        amounts = {name: quantity.nominal for name, quantity in QUANTITIES.items()} | dict(values)
        self._change_bodies(amounts)
        self._change_arm(amounts)
        self._change_looks(amounts)
        self._change_senses(amounts)
        mujoco.mj_setConst(self._model, self._data)
        self._is_nominal = not values

    def _change_bodies(self, amounts: Mapping[str, float]) -> None:
        model, size = self._model, amounts["thing_size_scale"]
        model.body_mass[self._bodies] *= amounts["thing_mass_scale"]
        model.body_inertia[self._bodies] *= amounts["thing_mass_scale"]
        model.geom_friction[self._things, 0] *= amounts["thing_friction_scale"]
        for array in (model.geom_size, model.geom_rbound, model.geom_aabb):
            array[self._things] *= size
        model.geom_friction[self._table, 0] *= amounts["table_friction_scale"]
        model.dof_damping[self._slides] *= amounts["slide_damping_scale"]
        model.dof_frictionloss[self._slides] += amounts["slide_friction_n"]

    def _change_arm(self, amounts: Mapping[str, float]) -> None:
        model = self._model
        model.geom_friction[self._pads, 0] *= amounts["pad_friction_scale"]
        model.actuator_forcerange[self._fingers] *= amounts["gripper_force_scale"]
        model.actuator_gainprm[self._fingers, 0] *= amounts["gripper_force_scale"]
        model.actuator_biasprm[self._fingers, 1] *= amounts["gripper_force_scale"]
        model.dof_damping[self._arm_dofs] *= amounts["joint_damping_scale"]
        model.dof_frictionloss[self._arm_dofs] += amounts["joint_friction_nm"]
        model.actuator_gainprm[self._servos, 0] *= amounts["servo_gain_scale"]
        model.actuator_biasprm[self._servos, 1] *= amounts["servo_gain_scale"]
        model.actuator_biasprm[self._servos, 2] *= amounts["servo_damping_scale"]
        heavier = 1.0 + amounts["payload_kg"] / model.body_mass[self._hands]
        # MuJoCo compensates a body's weight in proportion to its mass, so a load takes that much of it away.
        model.body_gravcomp[self._hands] = 1.0 / heavier
        model.body_mass[self._hands] *= heavier
        self._motion.backlash_rad = amounts["backlash_rad"]
        self._motion.delay_substeps = self._substeps(amounts["action_delay_s"])

    def _change_senses(self, amounts: Mapping[str, float]) -> None:
        sensing = self._sensing
        sensing.delay_substeps = self._substeps(amounts["observation_delay_s"])
        sensing.drop_probability = amounts["drop_probability"]
        sensing.position_noise_m, sensing.joint_noise_rad = amounts["position_noise_m"], amounts["joint_noise_rad"]
        sensing.seen_offset_m = np.array([amounts[f"seen_d{axis}_m"] for axis in "xyz"])
        for driver in self._drivers:
            driver.encoder_offset[: len(OFFSET_JOINTS)] = [amounts[f"{joint}_offset_rad"] for joint in OFFSET_JOINTS]

    def _change_looks(self, amounts: Mapping[str, float]) -> None:
        model = self._model
        model.cam_pos += [amounts[f"camera_d{axis}_m"] for axis in "xyz"]
        if amounts["camera_turn_rad"]:
            half = amounts["camera_turn_rad"] / 2.0
            turn = np.array([math.cos(half), 0.0, 0.0, math.sin(half)])
            for orientation in model.cam_quat:
                mujoco.mju_mulQuat(orientation, orientation.copy(), turn)
        model.light_diffuse *= amounts["light_scale"]
        model.light_ambient *= amounts["light_scale"]
        for name, nominal in self._light.items():
            getattr(model.vis.headlight, name)[:] = nominal * amounts["light_scale"]

    def _substeps(self, seconds: float) -> int:
        return round(seconds / float(self._model.opt.timestep))
