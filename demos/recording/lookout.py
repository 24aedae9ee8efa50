"""What a robot sees while no episode runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from robot_rlpd.robot import look_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from demos.recording.cameras import CameraWatch
    from robot_rlpd.clock import Clock
    from robot_rlpd.robot import Observation, Robot

LOOK_PERIOD_S = 0.1


class Lookout:
    """Looks now and then.

    Args:
        robot: Tells what it sees, or not.
        cameras: Told of it; of a robot that does not tell, nothing is known between episodes.
        clock: Wall time.
        on_look: Told too.

    Attributes:
        can_look: Whether the robot told when it was looked at last.
    """

    def __init__(
        self, robot: Robot, cameras: CameraWatch, clock: Clock, on_look: Callable[[Observation], None] | None
    ) -> None:
        self._robot, self._cameras, self._clock, self._on_look = robot, cameras, clock, on_look
        self._looked_s = -math.inf
        self.can_look = False

    def look(self) -> None:
        """Look, unless that was done just now."""
        now_s = self._clock.now_s()
        if now_s - self._looked_s < LOOK_PERIOD_S:
            return
        self._looked_s = now_s
        result = look_at(self._robot)
        self.can_look = result is not None
        if result is None:
            self._cameras.forget()
            return
        self._cameras.observe(result)
        if self._on_look is not None:
            self._on_look(result.observation)
