"""How a policy takes over a robot: hold, ramp in, run; and hold again while paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.limits import measured_entry, measured_value, quantity_of
from robot_rlpd.robot import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from deploy.runtime.control import RunControl
    from robot_rlpd.robot import Action, Observation, Policy
    from robot_rlpd.specs import RobotSpec


class StartingPolicy:
    """Holds the robot, then lets the policy's actions in little by little.

    Held are the components of which it is known how: deltas and velocities are zero, an absolute target stays where the
    component was observed when the hold began (the observation entry of the same name and unit). Binary components,
    forces, and targets that are not observed follow the policy from the first step on. Steps of the hold and of the
    ramp are recorded as `Source.SCRIPTED`.

    Args:
        policy: Takes over.
        spec: Of the robot.
        control: Asked at every step whether to hold.
        hold_s: Length of the hold at the beginning of each episode, seconds.
        ramp_s: Length of the ramp after a hold, seconds.
        on_wait: Called when an episode is not begun because of a pause.
    """

    def __init__(
        self,
        policy: Policy,
        spec: RobotSpec,
        control: RunControl,
        *,
        hold_s: float = 0.0,
        ramp_s: float = 0.0,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._policy = policy
        self._control = control
        self._hold_ticks = round(hold_s * spec.control_rate_hz)
        self._ramp_ticks = round(ramp_s * spec.control_rate_hz)
        self._on_wait = on_wait
        self._low, self._high = spec.action.low, spec.action.high
        self._still = np.zeros(spec.action.size, np.bool_)
        self._measured: list[tuple[int, tuple[str, int]]] = []
        for i, component in enumerate(spec.action.components):
            quantity, entry = quantity_of(component), measured_entry(spec, component)
            if component.kind == "binary" or quantity == "effort":
                continue
            if quantity != "absolute":
                self._still[i] = True
            elif entry is not None:
                self._measured.append((i, entry))
        self._held = self._still.copy()
        self._held[[i for i, _ in self._measured]] = True
        self._ticks = 0
        self._ramped = 0
        self._rest: NDArray[np.float32] | None = None
        self.source = policy.source

    def reset(self) -> None:
        """Wait for the end of a pause, then begin anew.

        Raises:
            StoppedError: The end of the run was asked for while waiting.
        """
        if self._control.paused:
            self._on_wait()
            self._control.wait_while_paused()
        self._policy.reset()
        self._ticks, self._ramped, self._rest = 0, 0, None

    def __call__(self, observation: Observation) -> Action:
        """The policy's action, or as much of it as it is time for."""
        action = self._policy(observation)
        self._ticks += 1
        if self._ticks <= self._hold_ticks or self._control.paused:
            if self._rest is None:
                self._rest = self._resting(observation)
            self._ramped = 0
            return self._mixed(action, 0.0)
        if self._ramped < self._ramp_ticks:
            if self._rest is None:
                self._rest = self._resting(observation)
            self._ramped += 1
            return self._mixed(action, self._ramped / (self._ramp_ticks + 1))
        self._rest = None
        self.source = self._policy.source
        return action

    def _resting(self, observation: Observation) -> NDArray[np.float32]:
        rest = np.zeros(len(self._low), np.float32)
        for i, entry in self._measured:
            rest[i] = measured_value(observation, entry)
        bounded: NDArray[np.float32] = np.clip(rest, self._low, self._high)
        return bounded

    def _mixed(self, action: Action, share: float) -> Action:
        assert self._rest is not None
        self.source = Source.SCRIPTED
        mixed = self._rest + np.float32(share) * (action - self._rest)
        return np.where(self._held, mixed, action)
