"""Between the state of the world and what is observed of it: noise, wrong calibration, delay, lost frames."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from robot_rlpd.robot import Observation
    from sim.driver import ArmDriver

SEEN = tuple(f"{name}_position" for name in ("cube", "block", "hole", "handle", "bar", "target"))
"""What a camera measures."""
IN_HAND = "tip_position"
"""What is measured by the arm that holds it, so that it is off where the TCP is."""


class Sensing:
    """Satisfies `Senses`; perfect until told otherwise.

    Attributes:
        position_noise_m: Standard deviation of each seen coordinate.
        joint_noise_rad: Of each joint; the TCP's position is computed from the joints.
        seen_offset_m: By how much seen positions are off, `(3,)`.
        delay_substeps: From a state to its observation.
        drop_probability: Chance per step that the observation before is delivered again.
        rng: Draws noise and lost frames.
    """

    def __init__(self, drivers: Sequence[ArmDriver], substeps: int) -> None:
        self.position_noise_m = self.joint_noise_rad = self.drop_probability = 0.0
        self.seen_offset_m = np.zeros(3)
        self.delay_substeps = 0
        self.rng = np.random.default_rng(0)
        self._drivers = drivers
        self._substeps = substeps
        self._late: deque[Observation] = deque()
        self._shown: Observation = {}

    @property
    def is_perfect(self) -> bool:
        """Whether what is observed is what is."""
        noisy = self.position_noise_m or self.joint_noise_rad or self.drop_probability or self.delay_substeps
        return not (noisy or self.seen_offset_m.any() or any(d.encoder_offset.any() for d in self._drivers))

    @property
    def capture_substep(self) -> int:
        """After how many substeps of a control step the state is observed."""
        return self._substeps - self.delay_substeps % self._substeps

    def start(self, first: Observation) -> Observation:
        """The first observation of an episode, in which nothing has moved for long."""
        whole = self.delay_substeps // self._substeps
        self._late = deque([first] * whole)
        self._shown = first
        return first

    def deliver(self, captured: Observation) -> Observation:
        """What arrives at the end of the control step in which this was captured."""
        self._late.append(captured)
        arrived = self._late.popleft()
        if not (self.drop_probability and self.rng.random() < self.drop_probability):
            self._shown = arrived
        return self._shown

    def measured(self, values: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        """Positions and joints with their errors."""
        measured = dict(values)
        for name in SEEN:
            if name in values:
                noise = self.rng.normal(0.0, self.position_noise_m, 3) if self.position_noise_m else 0.0
                measured[name] = values[name] + self.seen_offset_m + noise
        for driver in self._drivers:
            if self.joint_noise_rad or driver.encoder_offset.any():
                shown = values[f"{driver.name}joint_positions"] + driver.encoder_offset
                shown += self.rng.normal(0.0, self.joint_noise_rad, shown.shape)
                measured[f"{driver.name}joint_positions"] = shown
                tcp = f"{driver.name}tcp_position"
                measured[tcp] = driver.shown_tcp_position(shown)
                if IN_HAND in values:
                    measured[IN_HAND] = values[IN_HAND] + measured[tcp] - values[tcp]
        return measured
