"""The named quantities of model, controller, senses and start that may differ from the nominal simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robot_rlpd.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number that says how a world differs from the nominal one.

    Attributes:
        name: Its name; the suffix tells the unit, `_scale` is a factor to the nominal value.
        nominal: The value that changes nothing.
        low: Smallest value that is allowed.
        high: Largest value that is allowed.
        meaning: One line for people.
    """

    name: str
    nominal: float
    low: float
    high: float
    meaning: str


def _scale(name: str, meaning: str, low: float = 0.05, high: float = 20.0) -> Quantity:
    return Quantity(name=name, nominal=1.0, low=low, high=high, meaning=meaning)


def _added(name: str, high: float, meaning: str, *, signed: bool = False) -> Quantity:
    return Quantity(name=name, nominal=0.0, low=-high if signed else 0.0, high=high, meaning=meaning)


THING = (
    _scale("thing_mass_scale", "mass and inertia of what is handled"),
    _scale("thing_friction_scale", "sliding friction of what is handled"),
    _scale("thing_size_scale", "size of what is handled", 0.8, 1.2),
    _scale("slide_damping_scale", "damping of the drawer"),
    _added("slide_friction_n", 20.0, "dry friction of the drawer"),
    _scale("table_friction_scale", "sliding friction of the table"),
)
ARM = (
    _scale("pad_friction_scale", "sliding friction of the finger pads"),
    _scale("gripper_force_scale", "force of the fingers"),
    _scale("joint_damping_scale", "damping of the arm's joints"),
    _added("joint_friction_nm", 10.0, "dry friction in each joint of the arm"),
    _scale("servo_gain_scale", "stiffness of the joint servos"),
    _scale("servo_damping_scale", "velocity gain of the joint servos"),
    _added("payload_kg", 3.0, "mass at the hand that nothing compensates"),
    _added("backlash_rad", 0.1, "play between servo and joint"),
    _added("action_delay_s", 0.5, "from the command to its effect"),
)
WRONG = (
    *(_added(f"seen_d{axis}_m", 0.1, f"{axis} by which seen positions are off", signed=True) for axis in "xyz"),
    *(
        _added(f"{joint}_offset_rad", 0.2, f"what the encoder of {joint} shows too much", signed=True)
        for joint in ("base_yaw", "shoulder_pitch", "elbow_pitch")
    ),
)
SENSES = (
    _added("observation_delay_s", 0.5, "from the state to its observation"),
    _added("drop_probability", 0.9, "chance per step that the observation before is seen again"),
    _added("position_noise_m", 0.05, "noise of seen positions, one standard deviation"),
    _added("joint_noise_rad", 0.1, "noise of the joint encoders, one standard deviation"),
)
LOOKS = (
    *(_added(f"camera_d{axis}_m", 0.3, f"shift of every camera along {axis}", signed=True) for axis in "xyz"),
    _added("camera_turn_rad", 0.5, "turn of every camera about its optical axis", signed=True),
    _scale("light_scale", "brightness of all lights", 0.1, 3.0),
)
START = (
    _added("start_dx_m", 0.1, "shift of what is handled along x, at the start", signed=True),
    _added("start_dy_m", 0.1, "shift of what is handled along y, at the start", signed=True),
)

QUANTITIES = {quantity.name: quantity for quantity in (*THING, *ARM, *SENSES, *WRONG, *LOOKS, *START)}
"""All of them by name. In a scene that lacks the thing or the drawer its quantities change nothing."""
CALIBRATION = tuple(quantity.name for quantity in WRONG)
"""What a wrong calibration is made of."""


def check_values(values: Iterable[tuple[str, float]], *, field: str) -> None:
    """Refuse unknown names and values that are out of range.

    Raises:
        UnknownNameError: Lists the names.
        ConfigError: Names the quantity and its range.
    """
    for name, value in values:
        if name not in QUANTITIES:
            raise UnknownNameError("no such quantity", field=field, found=name, allowed=", ".join(QUANTITIES))
        low, high = QUANTITIES[name].low, QUANTITIES[name].high
        if not low <= value <= high:
            raise ConfigError(field=f"{field}.{name}", found=value, allowed=f"{low:g} to {high:g}")
