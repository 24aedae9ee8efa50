"""A stand-in for a real robot: the same task in a world that differs from the nominal one, and does not tell how.

    robot-rlpd serve --robot standin:pick_place:hard

It runs in a process of its own and in real time, and is seen over the bridge only. Its spec and signals say nothing of
what is hidden; who wants to know has to read this file, which is cheating.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.errors import ConfigError
from robot_rlpd.previous_actions import remembering
from sim.distributions import LogUniform, Uniform
from sim.options import parse_options
from sim.randomization import Randomization
from sim.served import find_task

if TYPE_CHECKING:
    from robot_rlpd.robot import Robot
    from robot_rlpd.task import TaskOptions

MILD = {
    "thing_mass_scale": 1.3,
    "thing_friction_scale": 0.8,
    "pad_friction_scale": 0.8,
    "slide_friction_n": 1.0,
    "servo_gain_scale": 0.6,
    "joint_damping_scale": 2.0,
    "joint_friction_nm": 0.5,
    "payload_kg": 0.1,
    "backlash_rad": 0.003,
    "action_delay_s": 0.03,
    "observation_delay_s": 0.02,
    "position_noise_m": 0.0005,
    "joint_noise_rad": 0.0002,
    "seen_dx_m": 0.002,
    "seen_dy_m": -0.003,
    "light_scale": 0.8,
}
"""A robot that was set up with care."""
MILD_BY_TASK = {"peg_insert": {"seen_dx_m": 0.0005, "seen_dy_m": -0.0005}}
"""More care, where a millimetre counts."""
HARD = {
    "thing_mass_scale": 2.0,
    "thing_friction_scale": 0.6,
    "table_friction_scale": 0.7,
    "pad_friction_scale": 0.6,
    "thing_size_scale": 1.02,
    "slide_damping_scale": 2.5,
    "slide_friction_n": 1.5,
    "gripper_force_scale": 0.8,
    "servo_gain_scale": 0.4,
    "joint_damping_scale": 4.0,
    "joint_friction_nm": 1.2,
    "payload_kg": 0.4,
    "backlash_rad": 0.005,
    "action_delay_s": 0.08,
    "observation_delay_s": 0.06,
    "drop_probability": 0.05,
    "position_noise_m": 0.0005,
    "joint_noise_rad": 0.0003,
    "seen_dx_m": 0.008,
    "seen_dy_m": -0.012,
    "seen_dz_m": 0.004,
    "base_yaw_offset_rad": 0.02,
    "shoulder_pitch_offset_rad": -0.008,
    "camera_dx_m": 0.03,
    "camera_dy_m": -0.02,
    "camera_turn_rad": 0.05,
    "light_scale": 0.6,
}
"""A worn robot with a camera that was moved since its calibration."""
STIFFER = {"servo_gain_scale": 0.6, "joint_damping_scale": 2.0, "joint_friction_nm": 0.5, "backlash_rad": 0.002}
HARD_BY_TASK = {
    "peg_insert": STIFFER | {"action_delay_s": 0.05, "observation_delay_s": 0.03},
    "bimanual_handover": STIFFER
    | {"gripper_force_scale": 1.0, "pad_friction_scale": 0.8, "thing_friction_scale": 0.8, "thing_mass_scale": 1.3},
    "drawer": STIFFER | {"slide_damping_scale": 1.5, "slide_friction_n": 0.5, "gripper_force_scale": 1.0},
}
"""What is less bad on tasks that a person could not do with so worn a robot."""
HELD_BACK = Randomization(
    {
        "thing_mass_scale": LogUniform(0.5, 2.5),
        "thing_friction_scale": LogUniform(0.5, 1.5),
        "table_friction_scale": LogUniform(0.5, 1.5),
        "pad_friction_scale": LogUniform(0.5, 1.3),
        "slide_damping_scale": LogUniform(0.5, 3.0),
        "slide_friction_n": Uniform(0.0, 2.0),
        "gripper_force_scale": LogUniform(0.8, 1.5),
        "servo_gain_scale": LogUniform(0.25, 1.5),
        "servo_damping_scale": LogUniform(0.7, 2.0),
        "joint_damping_scale": LogUniform(0.5, 8.0),
        "joint_friction_nm": Uniform(0.0, 3.0),
        "payload_kg": Uniform(0.0, 0.6),
        "backlash_rad": Uniform(0.0, 0.015),
        "action_delay_s": Uniform(0.0, 0.1),
        "observation_delay_s": Uniform(0.0, 0.08),
        "drop_probability": Uniform(0.0, 0.1),
        "position_noise_m": Uniform(0.0, 0.002),
        "joint_noise_rad": Uniform(0.0, 0.001),
        "seen_dx_m": Uniform(-0.01, 0.01),
        "seen_dy_m": Uniform(-0.01, 0.01),
        "seen_dz_m": Uniform(-0.003, 0.003),
        "base_yaw_offset_rad": Uniform(-0.015, 0.015),
        "shoulder_pitch_offset_rad": Uniform(-0.008, 0.008),
        "light_scale": LogUniform(0.5, 1.6),
    }
)
"""Robots that nothing was developed against; each seed is another one."""
PROFILES = ("mild", "hard")
DRAWN = "held_back"
ALLOWED = f"TASK:PROFILE with a profile of {', '.join(PROFILES)}, {DRAWN}:SEED"


def make_robot(argument: str, options: TaskOptions) -> Robot:
    """The stand-in called `TASK`, `TASK:PROFILE` or `TASK:held_back:SEED`; without a profile the mild one.

    Raises:
        UnknownNameError: No such task.
        ConfigError: No such profile, or randomization, which reality does not offer.
    """
    name, _, profile = argument.partition(":")
    task = find_task(name, field="robot", prefix="standin:")
    hidden = hidden_values(name, profile or "mild")
    if "randomization" in options.env_kwargs:
        raise ConfigError("a stand-in hides what it is", field="env_kwargs", found="randomization", allowed="cameras")
    seen = parse_options(name, task.scene, "", options)
    known = replace(seen, randomization=Randomization.constant(hidden))
    return remembering(task.make_robot(known, options, secret_name=f"{name}_robot"), seen.previous_actions)


def hidden_values(task: str, profile: str) -> dict[str, float]:
    """What differs from the nominal world in a profile of a task.

    Raises:
        ConfigError: No such profile.
    """
    if profile == "mild":
        return MILD | MILD_BY_TASK.get(task, {})
    if profile == "hard":
        return HARD | HARD_BY_TASK.get(task, {})
    kind, _, seed = profile.partition(":")
    if kind == DRAWN and seed.isascii() and seed.isdecimal():
        return HELD_BACK.draw(np.random.default_rng([int(seed), len(DRAWN)]))
    raise ConfigError("no such stand-in", field="robot", found=profile, allowed=ALLOWED)
