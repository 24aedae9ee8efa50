"""From actions to actuator targets, one substep of the simulation after the other."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from sim.arm import JOINTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from robot_rlpd.robot import Action
    from sim.driver import ArmDriver

RAMP = 0.6
"""Part of a control step over which the joint targets move to their new places; they rest for the remainder."""


class Motion:
    """Moves the targets of all arms. Each action takes effect after the delay, from where the arms are then.

    Args:
        model: The model.
        drivers: One per arm, in the order of the action's parts.
        substeps: Steps of the simulation per control step.

    Attributes:
        delay_substeps: From an action to its effect.
        backlash_rad: Play of the arm joints: a target moves its joint only after taking up the play.
    """

    def __init__(self, model: mujoco.MjModel, drivers: Sequence[ArmDriver], substeps: int) -> None:
        self.delay_substeps = 0
        self.backlash_rad = 0.0
        self._drivers = drivers
        self._substeps = substeps
        self._parts = np.minimum(np.arange(1, substeps + 1) / (RAMP * substeps), 1.0)
        self._positions = np.concatenate([driver.positions for driver in drivers])
        self._actuators = np.concatenate([driver.actuators for driver in drivers])
        self._arm = np.concatenate([np.arange(7) < len(JOINTS) for _ in drivers])
        self._pending: deque[Action] = deque()
        self.rest(np.zeros(model.nu))

    def rest(self, targets: NDArray[np.float64]) -> None:
        """Forget all commands and hold these targets."""
        self._pending.clear()
        self._begin, self._way = targets.copy(), np.zeros_like(targets)
        self._played = targets.copy()
        self._elapsed = self._substeps

    def command(self, action: Action) -> None:
        """Take the action of the control step that begins now."""
        self._pending.append(action)

    def follow(self, data: mujoco.MjData, targets: NDArray[np.float64]) -> None:
        """Move to these targets from where the arms are now."""
        self._begin = data.qpos[self._positions]
        self._way = targets - self._begin
        self._elapsed = 0

    def advance(self, data: mujoco.MjData, substep: int) -> None:
        """Set the targets of one substep of the present control step."""
        whole, rest = divmod(self.delay_substeps, self._substeps)
        if substep == rest and len(self._pending) > whole:
            if rest:
                mujoco.mj_kinematics(self._drivers[0].model, data)
            self.follow(data, self._targets(data, self._pending.popleft()))
        if self._elapsed < self._substeps:
            targets = self._begin + self._parts[self._elapsed] * self._way
            self._elapsed += 1
            if not self.backlash_rad:
                data.ctrl[self._actuators] = targets
                return
            self._play(data, targets)

    def _play(self, data: mujoco.MjData, targets: NDArray[np.float64]) -> None:
        half = np.where(self._arm, self.backlash_rad / 2.0, 0.0)
        self._played = np.clip(self._played, targets - half, targets + half)
        data.ctrl[self._actuators] = self._played

    def _targets(self, data: mujoco.MjData, action: Action) -> NDArray[np.float64]:
        parts = np.split(action, len(self._drivers))
        return np.concatenate([driver.targets(data, part) for driver, part in zip(self._drivers, parts, strict=True)])
