"""Replay memory as rows of one tensor, and symmetric sampling of offline and online data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from robot_rlpd.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = np.ndarray[Any, Any]


class ReplayBuffer:
    """Transitions as float32 rows [observation | action | reward | mask | next_observation].

    Memory grows by doubling up to the capacity; then each new row replaces the oldest one. Not thread safe.

    Args:
        observation_size: Number of observation entries O.
        action_size: Number of action entries A.
        capacity: Largest number of transitions, >= 1.
        device: Where the rows live.
    """

    def __init__(
        self, observation_size: int, action_size: int, *, capacity: int, device: torch.device | str = "cpu"
    ) -> None:
        if capacity < 1:
            raise ConfigError(field="capacity", found=capacity, allowed=">= 1")
        self.capacity = capacity
        self.device = torch.device(device)
        self._names = ("observations", "actions", "rewards", "masks", "next_observations")
        self._widths = [observation_size, action_size, 1, 1, observation_size]
        self._rows = torch.empty(min(capacity, 1024), sum(self._widths), device=self.device)
        self._num_rows = 0
        self._next = 0

    def __len__(self) -> int:
        """Number of transitions held."""
        return self._num_rows

    def append(self, observation: Array, action: Array, reward: float, mask: float, next_observation: Array) -> None:
        """Add one transition: observations (O,), action (A,), and mask = 1 - terminated."""
        row = np.concatenate([observation, action, (reward, mask), next_observation], dtype=np.float32)
        self._append_rows(row.reshape(1, -1))

    def append_many(self, batch: Mapping[str, Tensor]) -> None:
        """Add n transitions, the oldest first.

        Args:
            batch: observations [n, O], actions [n, A], rewards [n], masks [n] and next_observations [n, O].
        """
        num = len(batch["rewards"])
        if num == 0:
            return
        columns = [batch[name].reshape(num, -1) for name in self._names]
        self._append_rows(torch.cat(columns, dim=1).to("cpu", torch.float32).numpy())

    def rewards(self) -> Tensor:
        """The rewards of all transitions held, in no particular order; shares the buffer's memory."""
        return self._rows[: self._num_rows, sum(self._widths[:2])]

    def sample(self, num: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw `num` transitions uniformly, with replacement.

        Raises:
            DataError: The buffer is empty.
        """
        return self.unpack(self.sample_rows((num,), generator))

    def sample_rows(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw packed rows uniformly, with replacement: [*shape, row width]."""
        if self._num_rows == 0:
            raise DataError(field="replay buffer", found="0 transitions", allowed=">= 1", hint="append data first")
        indices = torch.randint(self._num_rows, (math.prod(shape),), generator=generator, device=generator.device)
        return self._rows.index_select(0, indices.to(self.device)).view(*shape, -1)

    def zeros(self, num: int) -> dict[str, Tensor]:
        """A batch of `num` rows of zeros, laid out in memory like one of `sample`."""
        return self.unpack(torch.zeros(num, self._rows.shape[1], device=self.device))

    def unpack(self, rows: Tensor) -> dict[str, Tensor]:
        """Name the columns of packed rows [n, row width]; reward and mask lose their column axis."""
        parts = dict(zip(self._names, torch.split(rows, self._widths, dim=-1), strict=True))
        return parts | {name: parts[name].squeeze(-1) for name in ("rewards", "masks")}

    def _append_rows(self, rows: Array) -> None:
        width = self._rows.shape[1]
        if rows.shape[1] != width:
            raise DataError(field="transition", found=f"{rows.shape[1]} entries", allowed=f"{width} entries")
        if not np.isfinite(rows).all():
            raise DataError(field="transition", found="NaN or infinity", allowed="finite numbers")
        rows = rows[-self.capacity :]
        self._grow(min(self._num_rows + len(rows), self.capacity))
        until_end = min(len(rows), self.capacity - self._next)
        new = torch.from_numpy(rows).to(self.device)
        self._rows[self._next : self._next + until_end] = new[:until_end]
        self._rows[: len(rows) - until_end] = new[until_end:]
        self._next = (self._next + len(rows)) % self.capacity
        self._num_rows = min(self._num_rows + len(rows), self.capacity)

    def _grow(self, needed: int) -> None:
        size = self._rows.shape[0]
        if needed <= size:
            return
        while size < needed:
            size = min(2 * size, self.capacity)
        grown = torch.empty(size, self._rows.shape[1], device=self.device)
        grown[: self._num_rows] = self._rows[: self._num_rows]
        self._rows = grown


class SymmetricSampler:
    """Minibatches with a fixed number of offline and of online transitions each (half and half in the paper).

    Args:
        offline: Prior data; may be None when `offline_fraction` rounds to no row.
        online: Data collected in this session; may grow between calls.
        offline_fraction: Share of offline data in each minibatch, 0..1.
    """

    def __init__(self, offline: ReplayBuffer | None, online: ReplayBuffer, offline_fraction: float) -> None:
        if not 0.0 <= offline_fraction <= 1.0:
            raise ConfigError(field="offline_fraction", found=offline_fraction, allowed="0..1")
        if offline is None and offline_fraction > 0.0:
            hint = "give offline data, or set the fraction to 0"
            raise ConfigError(field="offline_fraction", found=offline_fraction, allowed="0 without data", hint=hint)
        self.offline = offline
        self.online = online
        self.offline_fraction = offline_fraction

    def num_offline(self, batch_size: int) -> int:
        """Offline rows of each minibatch: the share rounded half up."""
        return math.floor(self.offline_fraction * batch_size + 0.5)

    def sample(self, num_minibatches: int, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw minibatches, one after the other along the first axis; in each the offline rows come first.

        Raises:
            DataError: A buffer that has to contribute is empty.
        """
        num_offline = self.num_offline(batch_size)
        shares = ((self.offline, num_offline, "offline data"), (self.online, batch_size - num_offline, "online data"))
        parts = []
        for buffer, count, field in shares:
            if count == 0 or buffer is None:
                continue
            if len(buffer) == 0:
                needed = f"{count} of {batch_size} transitions of each minibatch come from here"
                raise DataError(field=field, found="0 transitions", allowed=">= 1", hint=needed)
            parts.append(buffer.sample_rows((num_minibatches, count), generator))
        return self.online.unpack(torch.cat(parts, dim=1).flatten(0, 1))
