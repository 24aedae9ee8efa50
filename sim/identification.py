"""System identification: the quantities with which the simulation predicts recorded episodes best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.errors import ConfigError
from sim.calibrate import SEARCHED as BY_CALIBRATION
from sim.prediction import Predictor, rms_m
from sim.quantities import QUANTITIES, check_values
from sim.search import Range, search

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SEARCHED = {
    "thing_mass_scale": (0.25, 4.0),
    "thing_friction_scale": (0.25, 2.5),
    "table_friction_scale": (0.25, 2.5),
    "pad_friction_scale": (0.25, 2.5),
    "slide_damping_scale": (0.1, 6.0),
    "slide_friction_n": (0.0, 5.0),
    "gripper_force_scale": (0.3, 2.5),
    "joint_damping_scale": (0.2, 10.0),
    "joint_friction_nm": (0.0, 4.0),
    "servo_gain_scale": (0.15, 2.0),
    "servo_damping_scale": (0.3, 3.0),
    "payload_kg": (0.0, 1.5),
    "backlash_rad": (0.0, 0.02),
    "action_delay_s": (0.0, 0.15),
    "observation_delay_s": (0.0, 0.15),
}
"""What can be identified from motion, and where it is looked for. Factors are searched by their logarithm."""
DEFAULT = ("servo_gain_scale", "joint_damping_scale", "joint_friction_nm", "action_delay_s")
"""Recorded steps tell the sum of both delays and hardly their shares, so one of them is fitted for both."""
SCALE_M = 0.001
"""The search minimises the mean of log(1 + (residual / scale)^2): a thing that was dropped in one world and not in the
other, or a lost frame, weighs little."""
FLAT = 0.01
"""A parameter whose change by a tenth of its range adds less than this part to what is minimised is not determined."""


@dataclass(frozen=True, kw_only=True)
class Identified:
    """What was found.

    Attributes:
        values: The parameters, and what was known.
        determined: Whether the data say anything about each.
        before_m: One-step residual of the nominal simulation, root mean square [m].
        after_m: The same with the values found.
        evaluations: How often the episodes were simulated.
    """

    values: dict[str, float]
    determined: dict[str, bool]
    before_m: float
    after_m: float
    evaluations: int


def identify(
    predictor: Predictor,
    parameters: Sequence[str],
    *,
    evaluations: int,
    seed: int,
    known: Mapping[str, float] | None = None,
    on_progress: Callable[[int, float], None] = lambda count, least: None,
) -> Identified:
    """Search with CMA-ES (Hansen's `cma`) from the nominal values; Ctrl-C ends it with the best found so far.

    Args:
        predictor: Of the recorded episodes.
        parameters: Names out of `SEARCHED`.
        evaluations: Largest number of simulations of all episodes.
        seed: Of the search, at least 0.
        known: Other quantities that are not nominal, such as a wrong calibration.
        on_progress: Told the number of simulations and the least of what is minimised after each generation.

    Raises:
        ConfigError: A parameter that cannot be identified, or too few evaluations.
    """
    _check(parameters, evaluations)

    known = known or {}

    def cost(values: Mapping[str, float]) -> float:
        residuals = predictor.residuals({**known, **values})
        return float(np.mean(np.log1p((residuals / SCALE_M) ** 2)))

    ranges = {name: Range(*SEARCHED[name], name.endswith("_scale")) for name in parameters}
    nominal = {name: QUANTITIES[name].nominal for name in parameters}
    found = search(cost, nominal, ranges, evaluations=evaluations, seed=seed, on_progress=on_progress)
    least = cost(found.values)
    determined = dict.fromkeys(known, True)
    for name, value in found.values.items():
        unit = ranges[name].to_unit(value)
        beside = ranges[name].from_unit(unit + (0.1 if unit < 0.5 else -0.1))
        determined[name] = cost({**found.values, name: beside}) > (1.0 + FLAT) * least
    return Identified(
        values={**known, **found.values},
        determined=determined,
        before_m=rms_m(predictor.residuals({})),
        after_m=rms_m(predictor.residuals({**known, **found.values})),
        evaluations=found.evaluations,
    )


def _check(parameters: Sequence[str], evaluations: int) -> None:
    check_values(
        [(name, QUANTITIES[name].nominal if name in QUANTITIES else 0.0) for name in parameters], field="parameters"
    )
    for name in parameters:
        if name not in SEARCHED:
            raise ConfigError(
                "motion does not tell it",
                field="parameters",
                found=name,
                allowed=", ".join(SEARCHED),
                hint="solved episodes do: sim calibrate" if name in BY_CALIBRATION else "",
            )
    if not parameters or len(set(parameters)) != len(parameters):
        raise ConfigError(field="parameters", found=str(list(parameters)), allowed="one or more, each once")
    if evaluations < 1:
        raise ConfigError(field="evaluations", found=evaluations, allowed="at least 1")
