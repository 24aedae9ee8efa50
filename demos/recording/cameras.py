"""Cameras that stop or are unplugged while the robot goes on: which ones, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from robot_rlpd.robot import StepResult

TIMEOUT_S = 1.0
"""A camera that has given no image for so long ends the episode, by default [s]."""
ROUNDING_S = 1e-6
"""A robot's time is often a sum of periods."""


def check_timeout_s(timeout_s: float) -> None:
    """Check an option.

    Raises:
        ConfigError: Not above 0.
    """
    if not timeout_s > 0.0:
        raise ConfigError(field="camera_timeout_s", found=timeout_s, allowed="above 0 s")


class CameraWatch:
    """Looks at every result of a robot, in order.

    Args:
        timeout_s: A camera without an image for so long is lost [s]; infinite for never.

    Attributes:
        missing_s: Cameras that give no image now, and for how long, by the robot's clock [s].
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._since_s: dict[str, float] = {}
        self._at_start: frozenset[str] = frozenset()
        self.missing_s: dict[str, float] = {}

    def forget(self) -> None:
        """Nothing is known of the cameras."""
        self._since_s, self._at_start, self.missing_s = {}, frozenset(), {}

    def begin(self, result: StepResult) -> None:
        """An episode begins with this result of a reset."""
        self._since_s = {}
        self._at_start = frozenset(result.dropped_frames)
        self.observe(result)

    def observe(self, result: StepResult) -> None:
        """One more result."""
        now_s = result.robot_time_s
        self._since_s = {name: self._since_s.get(name, now_s) for name in result.dropped_frames}
        self._at_start &= self._since_s.keys()
        self.missing_s = {name: now_s - since_s for name, since_s in self._since_s.items()}

    @property
    def from_the_start(self) -> bool:
        """Whether a camera that is missing has given no image since the reset."""
        return bool(self._at_start)

    @property
    def lost(self) -> str:
        """Why the episode cannot go on; empty if it can."""
        lost = {name: gone_s for name, gone_s in self.missing_s.items() if gone_s > self._timeout_s - ROUNDING_S}
        return "; ".join(f"camera '{name}' has given no image for {gone_s:.1f} s" for name, gone_s in lost.items())
