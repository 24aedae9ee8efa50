"""Distributions of one number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rlpd.errors import ConfigError

FORMS = "a number, [low, high], or one of uniform, log_uniform: [low, high]; normal: [mean, deviation]"


@dataclass(frozen=True)
class Constant:
    """Always the same value."""

    value: float

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value that can be drawn."""
        return self.value, self.value

    def draw(self, rng: np.random.Generator) -> float:
        """The value; draws nothing."""
        del rng
        return self.value


@dataclass(frozen=True)
class Uniform:
    """Every value between `low` and `high` is as likely as another."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ConfigError(field="uniform", found=f"[{self.low}, {self.high}]", allowed="low <= high")

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value that can be drawn."""
        return self.low, self.high

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class LogUniform:
    """Half and twice a value are as likely; for factors."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 < self.low <= self.high:
            raise ConfigError(field="log_uniform", found=f"[{self.low}, {self.high}]", allowed="0 < low <= high")

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value that can be drawn."""
        return self.low, self.high

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        return float(np.clip(math.exp(rng.uniform(math.log(self.low), math.log(self.high))), self.low, self.high))


@dataclass(frozen=True)
class Normal:
    """A bell curve, cut off at two standard deviations."""

    mean: float
    deviation: float

    def __post_init__(self) -> None:
        if not self.deviation >= 0.0:
            raise ConfigError(field="normal", found=f"deviation {self.deviation}", allowed="0 or more")

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value that can be drawn."""
        return self.mean - 2.0 * self.deviation, self.mean + 2.0 * self.deviation

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        return float(np.clip(rng.normal(self.mean, self.deviation), *self.bounds))


Distribution = Constant | Uniform | LogUniform | Normal
KINDS: dict[str, type[Uniform | LogUniform | Normal]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "normal": Normal,
}


def parse_distribution(value: Any, *, field: str) -> Distribution:
    """A distribution from plain values, such as JSON has.

    Args:
        value: A number, a pair, or an object with one entry that names the kind of distribution and gives a pair.
        field: Where the value comes from, for messages.

    Raises:
        ConfigError: It is none of those.
    """
    kind, numbers = "uniform", value
    if _is_number(value):
        return Constant(float(value))
    if isinstance(value, dict) and len(value) == 1:
        ((kind, numbers),) = value.items()
    if kind not in KINDS or not _is_pair(numbers):
        raise ConfigError(field=field, found=str(value), allowed=FORMS)
    try:
        return KINDS[kind](float(numbers[0]), float(numbers[1]))
    except ConfigError as error:
        raise ConfigError(field=f"{field}.{error.field}", found=error.found, allowed=error.allowed) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(_is_number(number) for number in value)
