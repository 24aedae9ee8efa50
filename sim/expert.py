"""A scripted expert that makes a person's mistakes: waypoints set wrong and corrected, hesitation, an unsteady hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robot_rlpd.errors import ConfigError
from robot_rlpd.robot import Action, Observation, Source
from sim.arm import ACTION

Plan = Callable[[Observation, NDArray[np.float64]], tuple[NDArray[np.float64], float]]
"""From an observation and the waypoint's present error [m] `(3,)` to a displacement [m] `(3,)` and an opening [m]."""

Remaining = Callable[[Observation], float]
"""From an observation to the way that is left until the task is solved [m], that of the hand and that of the thing."""

STEADINESS = 0.7
"""How much of the hand's unsteadiness stays from one step to the next."""


class ScriptedExpert:
    """Follows a plan that depends on the observation alone, less perfectly as `noise` goes up.

    Args:
        plan: Where to go from here.
        remaining: How far it is from here.
        gain: Part of the remaining displacement that is commanded per step.
        noise: 0 follows the plan; 1 is a clumsy person.
        seed: Seed of the mistakes; episodes differ from one another.
        clumsiness: Size of misjudgements and tremor, 1 for work that forgives centimetres.
    """

    source = Source.SCRIPTED

    def __init__(
        self, plan: Plan, remaining: Remaining, *, gain: float, noise: float, seed: int, clumsiness: float = 1.0
    ) -> None:
        if not 0.0 <= noise <= 1.0:
            raise ConfigError(field="noise", found=noise, allowed="0 to 1")
        self._plan, self._remaining = plan, remaining
        self._gain = gain
        self._noise = noise
        self._clumsiness = clumsiness
        self._rng = np.random.default_rng(seed)
        self._error = np.zeros(3)
        self._tremor = np.zeros(3)
        self._pause = 0

    def reset(self) -> None:
        """Start with a new mistake."""
        self._tremor = np.zeros(3)
        self._pause = 0
        self._misjudge()

    def __call__(self, observation: Observation) -> Action:
        """The next action towards the present waypoint."""
        rng, noise = self._rng, self._noise
        if rng.random() < 0.12:
            self._error *= 0.3
        elif rng.random() < 0.04 * noise:
            self._misjudge()
        if self._pause == 0 and rng.random() < 0.05 * noise:
            self._pause = int(rng.integers(1, 4))
        displacement, opening = self._plan(observation, self._error)
        self._tremor = STEADINESS * self._tremor + rng.normal(0.0, 0.006 * noise, 3) * self._clumsiness
        delta = self._gain * displacement
        if self._pause > 0:
            self._pause -= 1
            delta = np.zeros(3)
        reach = float(ACTION.high[0]) * (1.0 - 0.25 * noise)
        delta = np.clip(delta, -reach, reach) + self._tremor
        return np.clip(np.append(delta, opening).astype(np.float32), ACTION.low, ACTION.high)

    def remaining_m(self, observation: Observation) -> float:
        """The way that is left."""
        return self._remaining(observation)

    def _misjudge(self) -> None:
        self._error = self._rng.normal(0.0, 1.0, 3) * (0.018, 0.012, 0.006) * self._noise * self._clumsiness
