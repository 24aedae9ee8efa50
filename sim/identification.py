"""System identification: the quantities with which the simulation predicts recorded episodes best."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.errors import ConfigError
from sim.prediction import Predictor, rms_m
from sim.quantities import QUANTITIES, check_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

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
FIRST_STEP = 0.25
"""Standard deviation of the first candidates, as a part of the range."""
FLAT = 0.01
"""A parameter whose change by a tenth of its range adds less than this part to what is minimised is not determined."""


@dataclass(frozen=True, kw_only=True)
class Identified:
    """What was found.

    Attributes:
        values: The parameters.
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
    on_progress: Callable[[int, float], None] = lambda count, least: None,
) -> Identified:
    """Search with CMA-ES (Hansen's `cma`) from the nominal values; Ctrl-C ends it with the best found so far.

    Args:
        predictor: Of the recorded episodes.
        parameters: Names out of `SEARCHED`.
        evaluations: Largest number of simulations of all episodes.
        seed: Of the search, at least 0.
        on_progress: Told the number of simulations and the least of what is minimised after each generation.

    Raises:
        ConfigError: A parameter that cannot be identified, or too few evaluations.
    """
    _check(parameters, evaluations)

    def cost(unit: NDArray[np.float64]) -> float:
        residuals = predictor.residuals(_values(parameters, unit))
        return float(np.mean(np.log1p((residuals / SCALE_M) ** 2)))

    nominal = np.array([_to_unit(name, QUANTITIES[name].nominal) for name in parameters])
    best, count = _search(cost, nominal, evaluations, seed, on_progress)
    if cost(nominal) <= cost(best):
        best = nominal
    least = cost(best)
    determined = {}
    for index, name in enumerate(parameters):
        beside = best.copy()
        beside[index] += 0.1 if best[index] < 0.5 else -0.1
        determined[name] = cost(beside) > (1.0 + FLAT) * least
    return Identified(
        values=_values(parameters, best),
        determined=determined,
        before_m=rms_m(predictor.residuals({})),
        after_m=rms_m(predictor.residuals(_values(parameters, best))),
        evaluations=count,
    )


def _search(
    cost: Callable[[NDArray[np.float64]], float],
    start: NDArray[np.float64],
    evaluations: int,
    seed: int,
    on_progress: Callable[[int, float], None],
) -> tuple[NDArray[np.float64], int]:
    """The best point of the unit cube that was found, and the number of evaluations."""
    import cma

    draws = np.random.default_rng(seed)
    # With one dimension cma has no covariance to adapt and says so; a second one that nothing depends on is harmless.
    padded = np.append(start, [0.5] * (len(start) == 1))
    options = {
        "bounds": [0.0, 1.0],
        "maxfevals": evaluations,
        "randn": lambda *shape: draws.standard_normal(shape),
        "seed": np.nan,
        "verbose": -9,
        "verb_log": 0,
        "tolx": 1e-4,
        "tolfun": 1e-12,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = cma.CMAEvolutionStrategy(np.clip(padded, 0.05, 0.95), FIRST_STEP, options)
        try:
            while not search.stop():
                candidates = search.ask()
                search.tell(candidates, [cost(np.asarray(c)[: len(start)]) for c in candidates])
                on_progress(int(search.result.evaluations), float(search.result.fbest))
        except KeyboardInterrupt:
            if search.result.xbest is None:
                raise
    return np.asarray(search.result.xbest)[: len(start)], int(search.result.evaluations)


def _check(parameters: Sequence[str], evaluations: int) -> None:
    check_values(
        [(name, QUANTITIES[name].nominal if name in QUANTITIES else 0.0) for name in parameters], field="parameters"
    )
    for name in parameters:
        if name not in SEARCHED:
            raise ConfigError("motion does not tell it", field="parameters", found=name, allowed=", ".join(SEARCHED))
    if not parameters or len(set(parameters)) != len(parameters):
        raise ConfigError(field="parameters", found=str(list(parameters)), allowed="one or more, each once")
    if evaluations < 1:
        raise ConfigError(field="evaluations", found=evaluations, allowed="at least 1")


def _values(parameters: Sequence[str], unit: NDArray[np.float64]) -> dict[str, float]:
    return {name: _from_unit(name, float(u)) for name, u in zip(parameters, unit, strict=True)}


def _to_unit(name: str, value: float) -> float:
    low, high = SEARCHED[name]
    if name.endswith("_scale"):
        return float((np.log(value) - np.log(low)) / (np.log(high) - np.log(low)))
    return (value - low) / (high - low)


def _from_unit(name: str, unit: float) -> float:
    low, high = SEARCHED[name]
    if name.endswith("_scale"):
        return float(np.exp(np.log(low) + unit * (np.log(high) - np.log(low))))
    return low + unit * (high - low)
