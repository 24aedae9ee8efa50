"""Replay with camera images: single frames as uint8, stacked when they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from robot_rlpd.errors import DataError
from robot_rlpd.learner.encoders import frame_bytes, images_of, state_size
from robot_rlpd.learner.replay import ReplayBuffer

if TYPE_CHECKING:
    from robot_rlpd.learner.encoders import PixelConfig
    from robot_rlpd.specs import PolicyContract

Array = np.ndarray[Any, Any]
FLOAT_BYTES = 4


class CameraReplay(ReplayBuffer):
    """Transitions whose images are kept once each, in uint8, and come out as stacks of `frame_stack` frames.

    Observations go in flat, [state | frame], and come out as the state alone; a batch has one more entry, `frames`
    [B, K + 1, frame bytes], the oldest first: the first K are seen in the observation, the last K in the next one. A
    stack never reaches across its episode's start: the first frame is repeated there. An episode has one frame more
    than transitions; where room for frames runs out before that for transitions, the oldest transitions go as well.

    Args:
        contract: What is observed, images last.
        config: Gives the length of the stack.
        capacity: Largest number of transitions, >= 1.
        frame_capacity: Largest number of frames, above `frame_stack`.
        device: Where rows and frames live.
    """

    def __init__(
        self,
        contract: PolicyContract,
        config: PixelConfig,
        *,
        capacity: int,
        frame_capacity: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(state_size(contract), contract.action.size, capacity=capacity, device=device)
        self._state_size, self._stack = state_size(contract), config.frame_stack
        self.frame_capacity = max(frame_capacity, self._stack + 1)
        self._frames = torch.empty(
            self.frame_capacity, frame_bytes(images_of(contract)), dtype=torch.uint8, device=self.device
        )
        self._frames[0] = 0
        self._back = torch.arange(self._stack, -1, -1, device=self.device)
        # Of each transition: the frame of its next observation, counted from the very first one, and how many frames
        # of its episode lie before that.
        self._newest = torch.zeros(capacity, dtype=torch.int64, device=self.device)
        self._before = torch.zeros(capacity, dtype=torch.int64, device=self.device)
        self._first_needed = np.zeros(capacity, np.int64)
        self._num_frames = self._age = self._oldest = 0
        self._oldest_on_device = torch.zeros((), dtype=torch.int64, device=self.device)

    def start_episode(self) -> None:
        """The next transition is the first of another episode."""
        self._age = 0

    @property
    def nbytes(self) -> int:
        """Memory reserved [byte]."""
        return sum(tensor.nbytes for tensor in (self._rows, self._frames, self._newest, self._before))

    def rewards(self) -> Tensor:
        """The rewards of all transitions held, the oldest first."""
        return self._rows[self._places(torch.arange(len(self), device=self.device)), sum(self._widths[:2])]

    def zeros(self, num: int) -> dict[str, Tensor]:
        """A batch of `num` rows of zeros, laid out in memory like one of `sample`."""
        width = FLOAT_BYTES * self._rows.shape[1] + (self._stack + 1) * self._frames.shape[1]
        return self.unpack(torch.zeros(num, width, dtype=torch.uint8, device=self.device))

    def unpack(self, rows: Tensor) -> dict[str, Tensor]:
        """Name the parts of packed rows [n, row width], which are bytes here."""
        split = FLOAT_BYTES * self._rows.shape[1]
        parts = super().unpack(rows[:, :split].contiguous().view(torch.float32))
        return parts | {"frames": rows[:, split:].view(len(rows), self._stack + 1, -1)}

    def _places(self, indices: Tensor) -> Tensor:
        return (self._oldest_on_device + indices) % self.capacity

    def _drawn(self, indices: Tensor) -> Tensor:
        places = self._places(indices)
        back = torch.minimum(self._back, self._before.index_select(0, places)[:, None])
        slots = (self._newest.index_select(0, places)[:, None] - back) % self.frame_capacity
        frames = self._frames.index_select(0, slots.flatten()).view(len(places), -1)
        return torch.cat([self._rows.index_select(0, places).view(torch.uint8), frames], dim=1)

    def _append_rows(self, rows: Array) -> None:
        observation = self._state_size + self._frames.shape[1]
        actions = sum(self._widths[1:4])
        width = 2 * observation + actions
        if rows.shape[1] != width:
            raise DataError(field="transition", found=f"{rows.shape[1]} entries", allowed=f"{width} entries")
        first, middle, then = np.split(rows, [observation, observation + actions], axis=1)
        states = np.concatenate([first[:, : self._state_size], middle, then[:, : self._state_size]], axis=1)
        if not np.isfinite(states).all():
            raise DataError(field="transition", found="NaN or infinity", allowed="finite numbers")
        for state, before, after in zip(states, first, then, strict=True):
            if self._age == 0:
                self._add_frame(before[self._state_size :])
            self._add_frame(after[self._state_size :])
            self._age = min(self._age + 1, self._stack)
            self._add_row(state)

    def _add_frame(self, frame: Array) -> None:
        self._write_to(self._frames, self._num_frames % self.frame_capacity, frame.astype(np.uint8)[None])
        self._num_frames += 1

    def _add_row(self, row: Array) -> None:
        place = self._next
        if self._num_rows == self.capacity:
            self._drop_oldest()
        self._write_to(self._rows, place, row[None])
        self._newest[place] = self._num_frames - 1
        self._before[place] = self._age
        self._first_needed[place] = self._num_frames - 1 - self._age
        self._next = (place + 1) % self.capacity
        self._num_rows += 1
        while self._first_needed[self._oldest] < self._num_frames - self.frame_capacity:
            self._drop_oldest()
        self._num_rows_on_device.fill_(self._num_rows)
        self._oldest_on_device.fill_(self._oldest)

    def _drop_oldest(self) -> None:
        self._oldest = (self._oldest + 1) % self.capacity
        self._num_rows -= 1


def frame_room(capacity: int, episodes: int) -> int:
    """Frames to make room for: one for each transition, and one more for each known episode or eighth transition."""
    return capacity + episodes + capacity // 8 + 1
