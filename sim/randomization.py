"""What differs from the nominal world from one episode to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from robot_rlpd.errors import ConfigError
from sim.distributions import Constant, Distribution, LogUniform, Uniform, parse_distribution
from sim.quantities import check_values

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Randomization:
    """Draws quantities of `sim.quantities` once per episode, independently of one another.

    Attributes:
        distributions: By name of the quantity.
    """

    distributions: dict[str, Distribution] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, distribution in self.distributions.items():
            check_values([(name, bound) for bound in distribution.bounds], field="randomization")

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """One value per quantity."""
        return {name: distribution.draw(rng) for name, distribution in self.distributions.items()}

    @classmethod
    def constant(cls, values: dict[str, float]) -> Randomization:
        """The same values in every episode."""
        return cls({name: Constant(value) for name, value in values.items()})


MILD = Randomization(
    {
        "thing_mass_scale": LogUniform(0.8, 1.25),
        "thing_friction_scale": LogUniform(0.8, 1.25),
        "table_friction_scale": LogUniform(0.8, 1.25),
        "pad_friction_scale": LogUniform(0.8, 1.25),
        "thing_size_scale": Uniform(0.99, 1.01),
        "slide_damping_scale": LogUniform(0.7, 1.5),
        "joint_damping_scale": LogUniform(0.7, 1.5),
        "servo_gain_scale": LogUniform(0.8, 1.25),
        "action_delay_s": Uniform(0.0, 0.02),
        "position_noise_m": Uniform(0.0, 0.001),
        "camera_dx_m": Uniform(-0.01, 0.01),
        "camera_dy_m": Uniform(-0.01, 0.01),
        "camera_dz_m": Uniform(-0.01, 0.01),
        "camera_turn_rad": Uniform(-0.02, 0.02),
        "light_scale": LogUniform(0.8, 1.25),
    }
)
WIDE = Randomization(
    {
        "thing_mass_scale": LogUniform(0.5, 2.0),
        "thing_friction_scale": LogUniform(0.5, 2.0),
        "table_friction_scale": LogUniform(0.5, 2.0),
        "pad_friction_scale": LogUniform(0.6, 1.6),
        "thing_size_scale": Uniform(0.97, 1.03),
        "slide_damping_scale": LogUniform(0.4, 3.0),
        "slide_friction_n": Uniform(0.0, 2.0),
        "gripper_force_scale": LogUniform(0.7, 1.5),
        "joint_damping_scale": LogUniform(0.4, 4.0),
        "joint_friction_nm": Uniform(0.0, 2.0),
        "servo_gain_scale": LogUniform(0.4, 1.5),
        "servo_damping_scale": LogUniform(0.7, 2.0),
        "payload_kg": Uniform(0.0, 0.5),
        "backlash_rad": Uniform(0.0, 0.01),
        "action_delay_s": Uniform(0.0, 0.08),
        "observation_delay_s": Uniform(0.0, 0.06),
        "drop_probability": Uniform(0.0, 0.1),
        "position_noise_m": Uniform(0.0, 0.003),
        "joint_noise_rad": Uniform(0.0, 0.002),
        "seen_dx_m": Uniform(-0.006, 0.006),
        "seen_dy_m": Uniform(-0.006, 0.006),
        "seen_dz_m": Uniform(-0.003, 0.003),
        "camera_dx_m": Uniform(-0.04, 0.04),
        "camera_dy_m": Uniform(-0.04, 0.04),
        "camera_dz_m": Uniform(-0.04, 0.04),
        "camera_turn_rad": Uniform(-0.08, 0.08),
        "light_scale": LogUniform(0.5, 1.6),
        "start_dx_m": Uniform(-0.01, 0.01),
        "start_dy_m": Uniform(-0.01, 0.01),
    }
)
PRESETS = {"none": Randomization(), "mild": MILD, "wide": WIDE}


def parse_randomization(value: Any) -> Randomization:
    """A preset by name, or quantities with their distributions, as JSON has them.

    Raises:
        ConfigError: Neither; an unknown quantity, or one that leaves its range.
    """
    if isinstance(value, str) and value in PRESETS:
        return PRESETS[value]
    if not isinstance(value, dict):
        allowed = f"{', '.join(PRESETS)}, or an object of quantities"
        raise ConfigError(field="randomization", found=str(value), allowed=allowed)
    return Randomization(
        {name: parse_distribution(entry, field=f"randomization.{name}") for name, entry in value.items()}
    )
