"""The arithmetic of the safety filter: the whole action within the limits of its components and of observed boxes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.component_filter import ComponentFilter
from robot_rlpd.limits import ComponentLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from robot_rlpd.limits import BoxLimits, SafetyLimits
    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.specs import ActionSpec, RobotSpec

REASONS = ("bounds", "position", "velocity", "acceleration", "margin", "change", "workspace")
"""What changed an action; bit i of the recorded number stands for entry i."""
SLOWEST = 0.1
"""Share of the speed that is left at the wall of an observed box, so that a robot can still leave it."""


class MotionFilter:
    """Brings actions within the limits; keeps where each component was last commanded to be.

    Position limits come first, then velocity, then acceleration, then margins. A robot at rest within its position
    limits can be held to all of them at once, whatever is commanded: braking begins in time. One that is found outside,
    for instance because somebody pushed it, is led back as fast as velocity and acceleration allow.

    Args:
        limits: Checked against `spec` already.
        spec: Of the robot.
    """

    def __init__(self, limits: SafetyLimits, spec: RobotSpec) -> None:
        self._spec = spec
        self._boxes = [(name, box) for name, box in limits.workspace.items() if box.margin > 0]
        named, all_components = limits.components, spec.action.components
        self._components = [ComponentFilter.of(c, named.get(c.name, ComponentLimits()), spec) for c in all_components]
        self._limited = [
            i for i, c in enumerate(all_components) if c.kind != "binary" and (self._boxes or c.name in named)
        ]

    def begin(self, observation: Observation) -> None:
        """The robot rests where it is observed to be."""
        for component in self._components:
            component.begin(observation)

    def limit(self, action: Action, observation: Observation) -> tuple[Action, set[str]]:
        """The action to apply, and which limits changed it; counts as applied.

        Args:
            action: Within the bounds of the spec.
            observation: The last one.
        """
        reasons: set[str] = set()
        share = min((_share_left(box, observation[name].reshape(-1)) for name, box in self._boxes), default=1.0)
        applied = action.astype(np.float64)
        for i in self._limited:
            applied[i] = self._components[i].limit(float(action[i]), observation, share, reasons)
        return self._applied(applied), reasons

    def braking(self) -> Action:
        """The next action on the way to rest; counts as applied."""
        return self._applied(np.array([component.resting_action() for component in self._components]))

    def rest(self) -> None:
        """The robot stands still: it was held."""
        for component in self._components:
            component.velocity = 0.0

    @property
    def is_moving(self) -> bool:
        """Whether a component with an acceleration limit was last commanded to move."""
        return any(c.velocity != 0.0 and c.limits.acceleration is not None for c in self._components)

    def _applied(self, action: NDArray[np.float64]) -> Action:
        rounded = _rounded_within(action, self._components, self._spec.action)
        for component, value in zip(self._components, rounded, strict=True):
            component.applied(float(value))
        return rounded


def outside(name: str, box: BoxLimits, observation: Observation) -> str:
    """Which entry of the field has left its box, or empty."""
    for i, value in enumerate(observation[name].reshape(-1)):
        low = box.low[i] if box.low else -math.inf
        high = box.high[i] if box.high else math.inf
        if not low <= value <= high:
            return f"{name}[{i}] = {float(value):.6g} is outside [{low:g}, {high:g}]"
    return ""


def _share_left(box: BoxLimits, values: NDArray[Any]) -> float:
    rooms = [float(np.min(values - box.low))] if box.low else []
    rooms += [float(np.min(np.subtract(box.high, values)))] if box.high else []
    return min(1.0, max(SLOWEST, min(rooms, default=math.inf) / box.margin))


def _rounded_within(action: NDArray[np.float64], components: Sequence[ComponentFilter], spec: ActionSpec) -> Action:
    """To float32 without leaving a limit by the rounding."""
    rounded = action.astype(np.float32)
    for i, c in enumerate(components):
        if c.quantity in ("absolute", "effort"):
            if c.limits.high is not None and float(rounded[i]) > c.limits.high:
                rounded[i] = np.nextafter(rounded[i], np.float32(-np.inf))
            if c.limits.low is not None and float(rounded[i]) < c.limits.low:
                rounded[i] = np.nextafter(rounded[i], np.float32(np.inf))
    bounded: Action = np.clip(rounded, spec.low, spec.high)
    return bounded
