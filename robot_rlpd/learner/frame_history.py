"""The last frames of an episode, as an acting policy sees them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FrameHistory:
    """Turns flat observations [state | frame] into [state | K frames, the oldest first].

    Args:
        state_size: Number of entries before the frame.
        frame_stack: Number of frames K; until an episode has as many, its first one is repeated.
    """

    def __init__(self, state_size: int, frame_stack: int) -> None:
        self._state_size = state_size
        self._frames: deque[NDArray[np.float32]] = deque(maxlen=frame_stack)

    def reset(self) -> None:
        """An episode starts."""
        self._frames.clear()

    def __call__(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add the frame of `flat` and return the state with the whole stack."""
        state, frame = flat[: self._state_size], flat[self._state_size :]
        if not self._frames:
            self._frames.extend([frame] * ((self._frames.maxlen or 1) - 1))
        self._frames.append(frame)
        return np.concatenate([state, *self._frames])
