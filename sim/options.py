"""What may be said about a simulated task on a command line, in the JSON object `--env-kwargs`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from robot_rlpd.errors import ConfigError
from sim.quantities import CALIBRATION, check_values
from sim.randomization import Randomization, parse_randomization

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.task import TaskOptions
    from sim.scene import Scene

VIEWS = ("front", "side", "top")
WRIST = "wrist"
IMAGE_SIZES = (8, 1024)
KEYS = ("cameras", "image_size", "randomization", "calibration", "previous_actions")


@dataclass(frozen=True, kw_only=True)
class SimOptions:
    """Options of a simulated task.

    Attributes:
        cameras: Which cameras are observed.
        image_size: Width and height of their pictures in pixels.
        randomization: What differs from one episode to the next.
        calibration: What camera and arm are known to be off by; taken out of what is observed.
        previous_actions: How many actions before are observed.
    """

    cameras: tuple[str, ...] = ()
    image_size: tuple[int, int] = (96, 96)
    randomization: Randomization = field(default_factory=Randomization)
    calibration: Mapping[str, float] = field(default_factory=dict)
    previous_actions: int = 0


def parse_options(name: str, scene: Scene, argument: str, options: TaskOptions) -> SimOptions:
    """The options of the task `name`, which is played in `scene`.

    Raises:
        ConfigError: An argument, a success condition, an unknown key or a value that is not allowed was given.
    """
    if argument:
        raise ConfigError("takes no argument", field=f"task {name}", found=argument, allowed=name)
    if options.success_when:
        raise ConfigError("only for gymnasium tasks", field="success_when", found=options.success_when)
    given = options.env_kwargs
    unknown = sorted(given.keys() - set(KEYS))
    if unknown:
        raise ConfigError("no such option of a simulated task", field="env_kwargs", found=unknown[0], allowed=_keys())
    return SimOptions(
        cameras=_cameras(given.get("cameras", ()), (*VIEWS, *(f"{arm}{WRIST}" for arm in scene.arms))),
        image_size=_image_size(given.get("image_size", SimOptions.image_size)),
        randomization=parse_randomization(given.get("randomization", "none")),
        calibration=_calibration(given.get("calibration", {})),
        previous_actions=given.get("previous_actions", 0),
    )


def _keys() -> str:
    return ", ".join(KEYS)


def _cameras(value: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or len(set(map(str, names))) != len(names):
        raise ConfigError(field="cameras", found=str(value), allowed=f"a list of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ConfigError("no such camera", field="cameras", found=str(name), allowed=", ".join(known))
    return tuple(names)


def read_calibration(path: Path) -> dict[str, float]:
    """The quantities in a file of `sim calibrate`.

    Raises:
        ConfigError: It is none.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}", field="calibration", found=str(path)) from None
    if not isinstance(found, dict) or "calibration" not in found:
        raise ConfigError(field="calibration", found=str(path), allowed="a file that sim calibrate wrote")
    return _calibration(found["calibration"])


def _calibration(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ConfigError(field="calibration", found=str(value), allowed=f"an object of {', '.join(CALIBRATION)}")
    for name, number in value.items():
        if name not in CALIBRATION:
            raise ConfigError("is no calibration", field="calibration", found=name, allowed=", ".join(CALIBRATION))
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ConfigError(field=f"calibration.{name}", found=str(number), allowed="a number")
    check_values(value.items(), field="calibration")
    return {name: float(number) for name, number in value.items()}


def _image_size(value: Any) -> tuple[int, int]:
    low, high = IMAGE_SIZES
    sizes = [value] * 2 if isinstance(value, int) else value
    whole = isinstance(sizes, (list, tuple)) and len(sizes) == 2 and all(type(size) is int for size in sizes)
    if not whole or not all(low <= size <= high for size in sizes):
        allowed = f"one number or [width, height], {low} to {high} pixels"
        raise ConfigError(field="image_size", found=str(value), allowed=allowed)
    return sizes[0], sizes[1]
