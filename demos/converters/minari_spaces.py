"""Minari's descriptions of Gymnasium spaces, as JSON objects, and ours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

_HINT = "name a task with --task"


def fields(space: dict[str, Any], name: str = "") -> tuple[ArraySpec, ...]:
    """A field for every Box, Discrete, MultiDiscrete and MultiBinary; names of nested spaces are joined by "/".

    Raises:
        DataError: Another space.
    """
    try:
        if space["type"] == "Dict":
            inner = space["subspaces"].items()
            return tuple(s for key, sub in inner for s in fields(sub, f"{name}/{key}" if name else str(key)))
        return (_field(space, name or "observation"),)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"damaged: {error!r}", field=f"observation_space {name}".strip(), hint=_HINT) from None


def _field(space: dict[str, Any], name: str) -> ArraySpec:
    match space["type"]:
        case "Box":
            return _box(space, name)
        case "Discrete":
            start, number = float(space.get("start", 0)), float(space["n"])
            return ArraySpec(name=name, shape=(), dtype="int64", low=(start,), high=(start + number - 1,))
        case "MultiDiscrete":
            return ArraySpec(name=name, shape=np.shape(space["nvec"]), dtype="int64")
        case "MultiBinary":
            return ArraySpec(name=name, shape=np.shape(np.zeros(space["n"])), dtype="uint8", low=(0.0,), high=(1.0,))
    allowed = "Box, Discrete, MultiDiscrete, MultiBinary, Dict"
    raise DataError(field=f"observation_space {name}", found=str(space["type"]), allowed=allowed, hint=_HINT)


def _box(space: dict[str, Any], name: str) -> ArraySpec:
    shape = tuple(int(n) for n in space["shape"])
    dtype = "float32" if np.dtype(space["dtype"]).kind == "f" else str(space["dtype"])
    if dtype == "uint8" and len(shape) == 2 and min(shape) >= 32:  # a grey image
        shape = (*shape, 1)
    is_image = dtype == "uint8" and len(shape) == 3
    low, high = (_few(space[bound]) for bound in ("low", "high"))
    return ArraySpec(name=name, shape=shape, dtype=dtype, low=low, high=high, is_image=is_image)


def _few(bound: Any) -> tuple[float, ...]:
    values = tuple(float(v) for v in np.ravel(np.array(bound, np.float64)))
    return values[:1] if len(set(values)) == 1 else values


def action(space: dict[str, Any]) -> ActionSpec:
    """The action of a bounded Box.

    Raises:
        DataError: Another space.
        ConfigError: Without bounds.
    """
    if space.get("type") != "Box":
        raise DataError(field="action_space", found=str(space.get("type")), allowed="a Box of continuous actions")
    low, high = (np.ravel(np.array(space[bound], np.float64)) for bound in ("low", "high"))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ConfigError("the data set does not bound its actions", field="action_space", hint=_HINT)
    return ActionSpec(
        components=tuple(
            ActionComponent(name=f"a{i}", low=float(low[i]), high=float(high[i]))
            for i in range(math.prod(space["shape"]))
        )
    )


def describe_observation(spec: RobotSpec) -> dict[str, Any]:
    """The Dict space of the fields, or the Box of the only one."""
    if len(spec.observation) == 1:
        return describe(spec.observation[0])
    tree: dict[str, Any] = {"type": "Dict", "subspaces": {}}
    for s in spec.observation:
        *outer, last = s.name.split("/")
        node = tree
        for part in outer:
            node = node["subspaces"].setdefault(part, {"type": "Dict", "subspaces": {}})
        node["subspaces"][last] = describe(s)
    return tree


def describe(spec: ArraySpec) -> dict[str, Any]:
    """A Box; bounds that its type cannot hold are those of the type."""
    dtype = np.dtype("uint8" if spec.dtype == "bool" else spec.dtype)
    bounds = {name: _bound(getattr(spec, name), spec, dtype) for name in ("low", "high")}
    return {"type": "Box", "dtype": str(dtype), "shape": list(spec.shape), **bounds}


def _bound(values: tuple[float, ...], spec: ArraySpec, dtype: np.dtype[Any]) -> Any:
    if dtype.kind != "f":
        least, greatest = np.iinfo(dtype).min, np.iinfo(dtype).max
        values = tuple(least if v <= least else greatest if v >= greatest else int(v) for v in values)
    return np.broadcast_to(np.array(values, dtype), (spec.size,)).reshape(spec.shape).tolist()


def describe_action(spec: RobotSpec) -> dict[str, Any]:
    """The action as a Box in robot units."""
    return {
        "type": "Box",
        "dtype": "float32",
        "shape": [spec.action.size],
        "low": spec.action.low.tolist(),
        "high": spec.action.high.tolist(),
    }
