"""Observation fields read from the state of the simulation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import mujoco
    from numpy.typing import NDArray

    from robot_rlpd.robot import Observation
    from robot_rlpd.specs import ArraySpec
    from sim.driver import ArmDriver
    from sim.scene import Scene

    Read = Callable[[mujoco.MjData], Any]

SEEN_SITES = ("tip", "hole", "handle")
"""Places that are marked by a site of the same name."""
BETWEEN = "_from_"


class Senses(Protocol):
    """What stands between a quantity and its measurement."""

    def measured(self, values: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        """The quantities as measured, given as they are."""
        ...


class Readings:
    """Reads the fields of `sim.arm.FIELDS` that are asked for.

    A field `a_from_b` is `a_position - b_position` as both were measured, so that errors of measurement agree.

    Args:
        model: The model.
        scene: What is in it.
        drivers: One per arm of the scene.
        fields: What to read; images are left out.
    """

    def __init__(
        self, model: mujoco.MjModel, scene: Scene, drivers: Sequence[ArmDriver], fields: Sequence[ArraySpec]
    ) -> None:
        self._names = [field.name for field in fields if not field.is_image]
        known = _readers(model, scene, drivers)
        wanted = dict.fromkeys(part for name in self._names for part in _parts(name))
        self._readers = {name: known[name] for name in wanted}

    def read(self, data: mujoco.MjData, senses: Senses | None = None) -> Observation:
        """New arrays; needs up-to-date kinematics."""
        values = {name: np.array(reader(data), np.float64) for name, reader in self._readers.items()}
        if senses is not None:
            values = senses.measured(values)
        return {name: _value(name, values).astype(np.float32) for name in self._names}


def _parts(field: str) -> tuple[str, ...]:
    """The quantities that a field is made of."""
    to, between, origin = field.partition(BETWEEN)
    return (f"{to}_position", f"{origin}_position") if between else (field,)


def _value(field: str, values: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    parts = _parts(field)
    return values[parts[0]] if len(parts) == 1 else values[parts[0]] - values[parts[1]]


def _readers(model: mujoco.MjModel, scene: Scene, drivers: Sequence[ArmDriver]) -> dict[str, Read]:
    readers: dict[str, Read] = {}
    for driver in drivers:
        readers |= {
            f"{driver.name}joint_positions": driver.joint_positions,
            f"{driver.name}tcp_position": driver.tcp_position,
            f"{driver.name}tcp_velocity": driver.tcp_velocity,
            f"{driver.name}gripper_opening": driver.gripper_opening,
        }
    if scene.thing:
        address = int(model.joint(scene.thing).qposadr[0])
        body = model.body(scene.thing).id
        readers[f"{scene.thing}_position"] = lambda data: data.qpos[address : address + 3]
        readers[f"{scene.thing}_yaw"] = lambda data: [_quarter_turn_yaw(data.xmat[body].reshape(3, 3))]
    if scene.slide:
        joint = int(model.joint(scene.slide).qposadr[0])
        readers[f"{scene.slide}_opening"] = lambda data: data.qpos[joint : joint + 1]
    sites = {model.site(index).name for index in range(model.nsite)}
    for name in SEEN_SITES:
        if name in sites:
            readers[f"{name}_position"] = _site(model.site(name).id)
    target = model.site("target").id
    readers["target_position"] = lambda _: model.site_pos[target]
    return readers


def _site(index: int) -> Read:
    return lambda data: data.site_xpos[index]


def _quarter_turn_yaw(axes: NDArray[np.float64]) -> float:
    """Yaw of the edge that lies flattest, within an eighth of a turn; `axes` are a box's edges in columns."""
    x, y, _ = axes[:, np.argmin(np.abs(axes[2]))]
    quarter = math.pi / 2.0
    return (math.atan2(y, x) + quarter / 2.0) % quarter - quarter / 2.0
