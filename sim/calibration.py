"""What the calibration of camera and arm is off by, taken out of an observation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sim import kinematics
from sim.arm import JOINTS
from sim.readings import BETWEEN
from sim.sensing import IN_HAND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from robot_rlpd.robot import Observation
    from sim.scene import Scene

METADATA_KEY = "calibration"
"""In the metadata of a robot's spec: the JSON object of what its observations were freed of."""


class Calibration:
    """What the calibration of a scene's camera and arms is off by.

    Args:
        scene: Its arms and their bases.
        values: Quantities of `sim.quantities`; those that are no calibration are left aside.
    """

    def __init__(self, scene: Scene, values: Mapping[str, float]) -> None:
        self._arms, self._bases = scene.arms, scene.bases
        self._seen = np.array([values.get(f"seen_d{axis}_m", 0.0) for axis in "xyz"])
        self._encoders = np.array([values.get(f"{joint}_offset_rad", 0.0) for joint in JOINTS])
        self.is_right = not (self._seen.any() or self._encoders.any())

    def undone(self, observation: Observation, *, joints: bool = False) -> Observation:
        """The observation without these errors; noise and delay stay.

        Args:
            observation: As it was made.
            joints: Whether joint positions are freed of their errors too.
        """
        errors: dict[str, NDArray[np.float64]] = {}
        corrected = dict(observation)
        for arm, (_, _, turn) in zip(self._arms, self._bases, strict=True):
            name = f"{arm}joint_positions"
            shown = observation[name].astype(np.float64)
            x, y, z = kinematics.tcp_position(shown) - kinematics.tcp_position(shown - self._encoders)
            cosine, sine = math.cos(turn), math.sin(turn)
            errors[f"{arm}tcp_position"] = np.array([cosine * x - sine * y, sine * x + cosine * y, z])
            if joints:
                corrected[name] = (shown - self._encoders).astype(observation[name].dtype)
        for name, value in observation.items():
            error = self._error(name, errors)
            if error is not None:
                corrected[name] = (value - error).astype(value.dtype)
        return corrected

    def _error(self, name: str, errors: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
        """By how much a field is off; None where it is not."""
        to, between, origin = name.partition(BETWEEN)
        if between:
            return self._position_error(f"{to}_position", errors) - self._position_error(f"{origin}_position", errors)
        return self._position_error(name, errors) if name.endswith("_position") else None

    def _position_error(self, name: str, errors: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        if name == IN_HAND:
            return errors[f"{self._arms[0]}tcp_position"]
        return errors[name] if name.endswith("tcp_position") else self._seen
