"""How an expert grasps a thing that stands below the gripper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.arm import MAX_OPENING_M

if TYPE_CHECKING:
    from numpy.typing import NDArray

NARROWING = 0.3
"""How much farther aside the gripper may be for each metre above, on its way down."""


GRASP_M = 0.05
"""What a grasp that is still to be done counts as, beside the way to the thing: so a thing that is held is nearer."""


@dataclass(frozen=True, kw_only=True)
class GraspFromAbove:
    """Over the thing, down, close; what comes next shows in the observation.

    Attributes:
        near_m: So near aside, and above at most `low_m`, the fingers are around it and close.
        low_m: See `near_m`.
        aside_m: So near aside, and a little more while high above, the gripper goes down.
        hover_m: Height over the thing while going there.
        missed_m: Fingers that are closed farther than this hold nothing, and open again.
    """

    near_m: float
    low_m: float
    aside_m: float
    hover_m: float
    missed_m: float

    def next(self, there: NDArray[np.float64], opening_m: float) -> tuple[NDArray[np.float64], float]:
        """The motion and the opening that come next.

        Args:
            there: From the gripper to the thing, `(3,)` [m].
            opening_m: Of the gripper now.
        """
        aside, above = float(np.linalg.norm(there[:2])), -float(there[2])
        if aside < self.near_m and above < self.low_m:
            return there, MAX_OPENING_M if opening_m < self.missed_m else 0.0
        if aside < self.aside_m + NARROWING * max(above, 0.0):
            return there, MAX_OPENING_M
        is_clear = above > 0.6 * self.hover_m
        return np.array([*(there[:2] if is_clear else (0.0, 0.0)), there[2] + self.hover_m]), MAX_OPENING_M
