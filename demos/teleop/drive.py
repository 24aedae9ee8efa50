"""Axes and a gripper switch as actions of a robot that takes deltas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robot_rlpd.robot import Action
    from robot_rlpd.specs import ActionSpec


class Drive:
    """Scales axes in [-1, 1] to the delta components of an action, and holds the gripper where it was put.

    Args:
        action_spec: Delta components move; a binary component, or one called "...gripper...", is the gripper.
        device: Name of the device, for messages.

    Attributes:
        num_axes: Components that move.
        names: Their names, in the order of the axes.
        gripper_high: Whether the gripper is at its upper bound.

    Raises:
        ConfigError: A component is neither.
    """

    def __init__(self, action_spec: ActionSpec, *, device: str) -> None:
        self._spec = action_spec
        components = action_spec.components
        self._grippers = [i for i, c in enumerate(components) if c.kind == "binary" or "gripper" in c.name]
        self._moved = [i for i in range(action_spec.size) if i not in self._grippers]
        for i in self._moved:
            component = components[i]
            if component.mode != "delta" or not component.low <= 0.0 <= component.high:
                raise ConfigError(
                    f"the {device} can only drive robots with delta actions",
                    field=f"action.{component.name}",
                    found=f"{component.mode} in [{component.low}, {component.high}]",
                )
        self.num_axes = len(self._moved)
        self.names = [components[i].name for i in self._moved]
        self.gripper_high = True

    @property
    def has_gripper(self) -> bool:
        """Whether there is one to switch."""
        return bool(self._grippers)

    def reset(self) -> None:
        """The gripper at its upper bound."""
        self.gripper_high = True

    def action(self, axes: Sequence[float]) -> Action:
        """The action for axes in [-1, 1], the first for the first delta component; missing ones are 0."""
        action = np.zeros(self._spec.size, np.float32)
        bounds = self._spec.high if self.gripper_high else self._spec.low
        action[self._grippers] = bounds[self._grippers]
        for index, axis in zip(self._moved, axes, strict=False):
            value = min(max(float(axis), -1.0), 1.0)
            action[index] = value * self._spec.high[index] if value >= 0.0 else -value * self._spec.low[index]
        return action
