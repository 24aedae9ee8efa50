"""A self-check: without entropy backup, Q settles within the range of discounted returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robot_rlpd.learner.rlpd import RLPDConfig

PATIENCE = 20
"""Checks in a row outside the range before it counts; an untrained critic starts outside."""


class QRangeAlarm:
    """Warns once when targets stay outside what rewards allow. Never a reason to stop by itself."""

    def __init__(self, config: RLPDConfig) -> None:
        self._config = config
        self._outside = 0
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
        """
        if self._config.backup_entropy or self._reward_min > self._reward_max:
            return ""
        low, high = self._config.return_bounds(self._reward_min, self._reward_max)
        slack = 0.05 * max(1.0, high - low)
        self._outside = self._outside + 1 if lowest < low - slack or highest > high + slack else 0
        if self._outside != PATIENCE:
            return ""
        return (
            f"Q targets stay in [{lowest:.1f}, {highest:.1f}], outside [{low:.1f}, {high:.1f}], "
            "the range that rewards and discount allow"
        )
