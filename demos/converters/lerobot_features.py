"""What the features of a LeRobot data set say of the robot."""

from __future__ import annotations

from typing import Any

import numpy as np

from demos.converters.fields import FieldSource
from demos.converters.lerobot_layout import ACTION, IMAGES
from robot_rlpd.errors import DataError
from robot_rlpd.specs import DTYPES, ActionComponent, ActionSpec, ArraySpec, RobotSpec

_OBSERVATION = "observation."
_IMAGE_KINDS = ("video", "image")


def describe(info: dict[str, Any], stats: dict[str, Any], rate_hz: float | None) -> RobotSpec:
    """Every column `observation.*`; the bounds of the action are the least and the greatest that occur.

    Raises:
        DataError: No observation, or no statistics of the action.
    """
    features = info["features"]
    observation = tuple(_field(column, features[column]) for column in features if column.startswith(_OBSERVATION))
    if not observation:
        raise DataError("no observation", field=f"features, {_OBSERVATION}*", found=", ".join(features))
    try:
        low, high = (np.ravel(stats[ACTION][bound]).astype(float).tolist() for bound in ("min", "max"))
    except (KeyError, TypeError, ValueError):
        raise DataError("no statistics of the action", field="meta/stats.json", hint="name a task: --task") from None
    names = _names(features.get(ACTION, {})) or [f"action_{i}" for i in range(len(low))]
    if len(names) != len(low):
        raise DataError(field="meta/stats.json, action", found=f"{len(low)} numbers", allowed=str(len(names)))
    return RobotSpec(
        name=str(info.get("robot_type") or "lerobot"),
        observation=observation,
        action=ActionSpec(
            components=tuple(
                ActionComponent(name=name, low=a, high=b if b > a else a + 1.0)
                for name, a, b in zip(names, low, high, strict=True)
            )
        ),
        control_rate_hz=rate_hz or float(info["fps"]),
    )


def source(features: dict[str, Any], spec: ArraySpec) -> FieldSource:
    """The column of a field's name."""
    name = spec.name.replace("/", ".")
    places = [IMAGES + name, _OBSERVATION + name, name]
    return FieldSource(
        dataset=next((place for place in places if place in features), places[0 if spec.is_image else 1])
    )


def pixels(feature: dict[str, Any]) -> tuple[int, int, int]:
    """Height, width and channels of a camera, whose axes may come in either order."""
    shape, names = list(feature["shape"]), list(feature.get("names") or [])
    if len(shape) != 3:
        raise DataError(field="features", found=f"images of shape {shape}", allowed="three dimensions")
    if names and str(names[0]).startswith("channel"):
        shape = [*shape[1:], shape[0]]
    return int(shape[0]), int(shape[1]), int(shape[2])


def _field(column: str, feature: dict[str, Any]) -> ArraySpec:
    if feature["dtype"] in _IMAGE_KINDS:
        name = column.removeprefix(IMAGES).removeprefix(_OBSERVATION)
        return ArraySpec(name=name, shape=(*pixels(feature)[:2], 3), dtype="uint8", is_image=True)
    if feature["dtype"] not in DTYPES:
        raise DataError(field=column, found=f"dtype {feature['dtype']}", allowed=", ".join(DTYPES))
    dtype = "float32" if feature["dtype"] == "float64" else feature["dtype"]
    shape = tuple(int(n) for n in feature["shape"])
    names = _names(feature)
    components = tuple(names) if len(shape) == 1 and len(names) == shape[0] else ()
    return ArraySpec(name=column.removeprefix(_OBSERVATION), shape=shape, dtype=dtype, components=components)


def _names(feature: dict[str, Any]) -> list[str]:
    names = feature.get("names") or []
    if isinstance(names, dict):
        names = [name for part in names.values() for name in (part if isinstance(part, list) else [part])]
    return [str(name) for name in names]
