"""Puts a model into the state that an observation describes, for pictures and for predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from sim.arm import JOINTS
from sim.kinematics import upright

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robot_rlpd.robot import Observation
    from sim.driver import ArmDriver
    from sim.scene import Scene

FIXTURE_SITES = ("hole", "handle")


def show(
    model: mujoco.MjModel, data: mujoco.MjData, scene: Scene, drivers: Sequence[ArmDriver], observation: Observation
) -> None:
    """Set arms, thing, fixture and target; things stand upright, for observations do not tell their tilt.

    Raises:
        KeyError: The observation lacks this field.
    """
    for driver in drivers:
        data.qpos[driver.positions[: len(JOINTS)]] = observation[f"{driver.name}joint_positions"]
        data.qpos[driver.positions[len(JOINTS) :]] = observation[f"{driver.name}gripper_opening"][0] / 2.0
    if scene.thing:
        _show_thing(model, data, scene.thing, observation)
    if scene.slide:
        data.qpos[model.joint(scene.slide).qposadr[0]] = observation[f"{scene.slide}_opening"][0]
    if "target_position" in observation:
        model.site_pos[model.site("target").id] = observation["target_position"]
    data.qvel[:] = 0.0
    mujoco.mj_forward(model, data)
    if scene.fixture:
        (site,) = (name for name in FIXTURE_SITES if f"{name}_position" in observation)
        moved = observation[f"{site}_position"] - data.site(site).xpos
        model.body_pos[model.body(scene.fixture).id] += moved
        mujoco.mj_forward(model, data)


def _show_thing(model: mujoco.MjModel, data: mujoco.MjData, thing: str, observation: Observation) -> None:
    if "tip_position" in observation:
        position = observation["tip_position"] - model.site("tip").pos
    else:
        position = observation[f"{thing}_position"]
    yaw = float(observation.get(f"{thing}_yaw", np.zeros(1))[0])
    address = int(model.joint(thing).qposadr[0])
    data.qpos[address : address + 3] = position
    data.qpos[address + 3 : address + 7] = upright(yaw)


def shift(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    scene: Scene,
    drivers: Sequence[ArmDriver],
    predicted: Observation,
    observed: Observation,
) -> None:
    """Move arms, thing and slide by what was observed otherwise than predicted; velocities and targets stay.

    Raises:
        KeyError: The observations lack this field.
    """
    for driver in drivers:
        joints, fingers = f"{driver.name}joint_positions", f"{driver.name}gripper_opening"
        data.qpos[driver.positions[: len(JOINTS)]] += observed[joints] - predicted[joints]
        data.qpos[driver.positions[len(JOINTS) :]] += (observed[fingers][0] - predicted[fingers][0]) / 2.0
    if scene.thing:
        field = "tip_position" if "tip_position" in observed else f"{scene.thing}_position"
        address = int(model.joint(scene.thing).qposadr[0])
        data.qpos[address : address + 3] += observed[field] - predicted[field]
    if scene.slide:
        field = f"{scene.slide}_opening"
        data.qpos[model.joint(scene.slide).qposadr[0]] += observed[field][0] - predicted[field][0]
    mujoco.mj_kinematics(model, data)
