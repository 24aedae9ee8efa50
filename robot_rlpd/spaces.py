"""Gymnasium's spaces as the fields of a spec, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from robot_rlpd.errors import SpecError
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

if TYPE_CHECKING:
    import gymnasium

DEFAULT_RATE_HZ = 30.0
SIGNALS = (
    ArraySpec(name="reward", shape=()),
    ArraySpec(name="terminated", shape=(), dtype="bool"),
    ArraySpec(name="truncated", shape=(), dtype="bool"),
    ArraySpec(name="success", shape=(), dtype="bool"),
)


def spec_of(env: gymnasium.Env[Any, Any], name: str) -> RobotSpec:
    """Describe an environment's spaces.

    Raises:
        SpecError: A space that cannot be described (discrete or unbounded actions, graphs, text ...).
    """
    return RobotSpec(
        name=name,
        observation=tuple(
            _field_spec(field, space) for field, space in _flatten_spaces(env.observation_space, "").items()
        ),
        action=_action_spec(env.action_space),
        control_rate_hz=_rate_hz(env),
        signals=SIGNALS,
    )


def _rate_hz(env: gymnasium.Env[Any, Any]) -> float:
    period_s = getattr(env.unwrapped, "dt", None)
    if isinstance(period_s, (int, float)) and period_s > 0:
        return round(1.0 / float(period_s), 9)
    return float(env.metadata.get("render_fps") or DEFAULT_RATE_HZ)


def _flatten_spaces(space: spaces.Space[Any], prefix: str) -> dict[str, spaces.Space[Any]]:
    if not isinstance(space, spaces.Dict):
        return {prefix or "observation": space}
    flat: dict[str, spaces.Space[Any]] = {}
    for key, inner in space.spaces.items():
        flat |= _flatten_spaces(inner, f"{prefix}/{key}" if prefix else str(key))
    return flat


def flatten_names(value: Any, prefix: str = "") -> dict[str, Any]:
    """The entries of an observation by the names that their fields have."""
    if not isinstance(value, Mapping):
        return {prefix or "observation": value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= flatten_names(inner, f"{prefix}/{key}" if prefix else str(key))
    return flat


def _field_spec(name: str, space: spaces.Space[Any]) -> ArraySpec:
    if isinstance(space, spaces.Box):
        dtype = "float32" if np.issubdtype(space.dtype, np.floating) else str(space.dtype)
        is_image = dtype == "uint8" and len(space.shape) == 3
        return ArraySpec(
            name=name, shape=space.shape, dtype=dtype, low=_few(space.low), high=_few(space.high), is_image=is_image
        )
    if isinstance(space, spaces.Discrete):
        low = float(space.start)
        return ArraySpec(name=name, shape=(), dtype="int64", low=(low,), high=(low + float(space.n) - 1.0,))
    if isinstance(space, spaces.MultiBinary):
        return ArraySpec(name=name, shape=tuple(space.shape), dtype="uint8", low=(0.0,), high=(1.0,))
    raise SpecError(field=f"observation.{name}", found=type(space).__name__, allowed="Box, Discrete, MultiBinary, Dict")


def _few(bound: np.ndarray[Any, Any]) -> tuple[float, ...]:
    values = tuple(float(v) for v in bound.ravel())
    return values[:1] if len(set(values)) == 1 else values


def _action_spec(space: spaces.Space[Any]) -> ActionSpec:
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise SpecError(field="action", found=type(space).__name__, allowed="a Box of continuous actions")
    low, high = space.low.ravel(), space.high.ravel()
    return ActionSpec(
        components=tuple(
            ActionComponent(name=f"a{i}", low=float(low[i]), high=float(high[i])) for i in range(math.prod(space.shape))
        )
    )


def box(spec: ArraySpec) -> spaces.Box:
    """The space of a field."""
    dtype = np.dtype("uint8" if spec.dtype == "bool" else spec.dtype)
    if dtype.kind == "f":
        limits = -np.inf, np.inf
    elif spec.dtype == "bool":
        limits = 0, 1
    else:
        limits = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
        if dtype.itemsize == 8:  # 2**63 - 1 is no float64
            limits = limits[0], float(np.nextafter(limits[1], 0.0))
    low = np.clip(np.broadcast_to(np.reshape(spec.low, (-1,)), (spec.size,)), *limits).reshape(spec.shape)
    high = np.clip(np.broadcast_to(np.reshape(spec.high, (-1,)), (spec.size,)), *limits).reshape(spec.shape)
    return spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype.type)
