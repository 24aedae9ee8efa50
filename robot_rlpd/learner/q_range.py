"""A self-check: without entropy backup, Q settles within the range of discounted returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.errors import TrainingError

if TYPE_CHECKING:
    from robot_rlpd.learner.rlpd import RLPDConfig

PATIENCE = 20
"""Checks in a row outside the range before it counts; an untrained critic starts outside."""
EXPLODED = 100.0
"""So many times the largest possible return is no learning any more."""
EXPLODED_PATIENCE = 3
"""Checks in a row that far outside after which training ends."""


class QRangeAlarm:
    """Warns once when targets stay outside what rewards allow, and ends training only where they explode.

    Attributes:
        exploding: Whether the last check was that far outside; the parameters are then not worth keeping.
    """

    def __init__(self, config: RLPDConfig) -> None:
        self._config = config
        self.exploding = False
        self._outside = self._exploded = 0
        self._reward_min, self._reward_max = float("inf"), -float("inf")

    def see(self, *rewards: float) -> None:
        """Widen the range of rewards seen, offline or online."""
        self._reward_min = min((self._reward_min, *rewards))
        self._reward_max = max((self._reward_max, *rewards))

    def check(self, lowest: float, highest: float) -> str:
        """The warning, or an empty string.

        Args:
            lowest: Smallest recent regression target.
            highest: Largest recent regression target.

        Raises:
            TrainingError: Targets exploded.
        """
        if self._reward_min > self._reward_max:
            return ""
        low, high = self._config.return_bounds(self._reward_min, self._reward_max)
        self._check_explosion(lowest, highest, max(1.0, -low, high))
        if self._config.backup_entropy:
            return ""
        slack = 0.05 * max(1.0, high - low)
        self._outside = self._outside + 1 if lowest < low - slack or highest > high + slack else 0
        if self._outside != PATIENCE:
            return ""
        return (
            f"Q targets stay in [{lowest:.1f}, {highest:.1f}], outside [{low:.1f}, {high:.1f}], "
            "the range that rewards and discount allow"
        )

    def _check_explosion(self, lowest: float, highest: float, largest_return: float) -> None:
        self.exploding = max(-lowest, highest) > EXPLODED * largest_return
        self._exploded = self._exploded + 1 if self.exploding else 0
        if self._exploded == EXPLODED_PATIENCE:
            raise TrainingError(
                "Q explodes; the last good checkpoint is kept",
                field="target_q",
                found=f"{lowest:.3g} to {highest:.3g}",
                allowed=f"about {-largest_return:.3g} to {largest_return:.3g}",
                hint="lower the step sizes, keep LayerNorm on, and look at the rewards",
            )
