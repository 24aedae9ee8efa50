"""Replay memory as rows of one tensor, and symmetric sampling of offline and online data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from robot_rlpd.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = np.ndarray[Any, Any]


class ReplayBuffer:
    """Transitions as float32 rows [observation | action | reward | mask | next_observation].

    Memory for the whole capacity is reserved at once (a CPU takes it from the system as rows come); when it is full,
    each new row replaces the oldest one. Not thread safe.

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
        self._rows = torch.empty(capacity, sum(self._widths), device=self.device)
        self._rows[0] = 0.0  # drawn by `sample_rows_on_device` while there is nothing else
        self._num_rows = 0
        self._num_rows_on_device = torch.zeros((), dtype=torch.int64, device=self.device)
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
        columns = [batch[name].cpu().numpy().reshape(num, -1) for name in self._names]
        self._append_rows(np.concatenate(columns, axis=1, dtype=np.float32))

    def start_episode(self) -> None:
        """The next transition is the first of another episode; without images it does not matter."""

    @property
    def nbytes(self) -> int:
        """Memory reserved [byte]."""
        return self._rows.nbytes

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
        return self._drawn(indices.to(self.device)).view(*shape, -1)

    def sample_rows_on_device(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """`sample_rows` by kernels alone, which a CUDA graph can repeat while rows are added; the numbers differ."""
        uniform = torch.rand(math.prod(shape), generator=generator, dtype=torch.float64, device=self.device)
        last = (self._num_rows_on_device - 1).clamp_(min=0)
        indices = torch.minimum((uniform * self._num_rows_on_device).long(), last)
        return self._drawn(indices).view(*shape, -1)

    def zeros(self, num: int) -> dict[str, Tensor]:
        """A batch of `num` rows of zeros, laid out in memory like one of `sample`."""
        return self.unpack(torch.zeros(num, self._rows.shape[1], device=self.device))

    def unpack(self, rows: Tensor) -> dict[str, Tensor]:
        """Name the columns of packed rows [n, row width]; reward and mask lose their column axis."""
        parts = dict(zip(self._names, torch.split(rows, self._widths, dim=-1), strict=True))
        return parts | {name: parts[name].squeeze(-1) for name in ("rewards", "masks")}

    def _drawn(self, indices: Tensor) -> Tensor:
        return self._rows.index_select(0, indices)

    def _append_rows(self, rows: Array) -> None:
        width = self._rows.shape[1]
        if rows.shape[1] != width:
            raise DataError(field="transition", found=f"{rows.shape[1]} entries", allowed=f"{width} entries")
        if not np.isfinite(rows).all():
            raise DataError(field="transition", found="NaN or infinity", allowed="finite numbers")
        rows = rows[-self.capacity :]
        until_end = min(len(rows), self.capacity - self._next)
        self._write_to(self._rows, self._next, rows[:until_end])
        self._write_to(self._rows, 0, rows[until_end:])
        self._next = (self._next + len(rows)) % self.capacity
        self._num_rows = min(self._num_rows + len(rows), self.capacity)
        self._num_rows_on_device.fill_(self._num_rows)

    def _write_to(self, memory: Tensor, start: int, rows: Array) -> None:
        place = memory[start : start + len(rows)]
        if self.device.type == "cpu":
            place.numpy()[:] = rows  # torch's own copy waits for threads that a neighbour may hold up
        else:
            place.copy_(torch.from_numpy(rows).pin_memory(), non_blocking=True)


class SymmetricSampler:
    """Minibatches with a fixed number of offline and of online transitions each (half and half in the paper).

    Args:
        offline: Prior data in one or several buffers; none when `offline_fraction` rounds to no row.
        online: Data collected in this session; may grow between calls.
        offline_fraction: Share of offline data in each minibatch, 0..1.
        weights: Shares of the offline buffers among the offline rows, each > 0 and in any unit; needed for several.
    """

    def __init__(
        self,
        offline: Sequence[ReplayBuffer],
        online: ReplayBuffer,
        offline_fraction: float,
        weights: Sequence[float] = (1.0,),
    ) -> None:
        if not 0.0 <= offline_fraction <= 1.0:
            raise ConfigError(field="offline_fraction", found=offline_fraction, allowed="0..1")
        if not offline and offline_fraction > 0.0:
            hint = "give offline data, or set the fraction to 0"
            raise ConfigError(field="offline_fraction", found=offline_fraction, allowed="0 without data", hint=hint)
        if offline and len(weights) != len(offline):
            raise ConfigError(field="weights", found=len(weights), allowed=f"one each for {len(offline)} buffers")
        self.offline = tuple(offline)
        self.online = online
        self.offline_fraction = offline_fraction
        self.weights = tuple(weights)

    def num_offline(self, batch_size: int) -> int:
        """Offline rows of each minibatch: the share rounded half up."""
        return math.floor(self.offline_fraction * batch_size + 0.5)

    def shares(self, batch_size: int) -> list[tuple[ReplayBuffer, int]]:
        """The buffers that contribute to a minibatch of `batch_size`, offline ones first, and their rows each.

        Raises:
            ConfigError: A buffer's weight is worth no row.
        """
        num_offline = self.num_offline(batch_size)
        counts = apportioned(num_offline, self.weights) if num_offline else [0] * len(self.offline)
        found = [*zip(self.offline, counts, strict=True)] if self.offline else []
        if num_offline and 0 in counts:
            least = sum(self.weights) / num_offline
            raise ConfigError(
                "is worth no transition of a minibatch",
                field="prior_weights",
                found=min(self.weights),
                allowed=f"about {least:.3g} or more of {sum(self.weights):.3g}",
            )
        return [(buffer, count) for buffer, count in [*found, (self.online, batch_size - num_offline)] if count]

    def sample(self, num_minibatches: int, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw minibatches, one after the other along the first axis; in each the offline rows come first.

        Raises:
            ConfigError: A buffer's weight is worth no row.
            DataError: A buffer that has to contribute is empty.
        """
        shares = self.shares(batch_size)
        for buffer, count in shares:
            if len(buffer) == 0:
                field = "online data" if buffer is self.online else "offline data"
                needed = f"{count} of {batch_size} transitions of each minibatch come from here"
                raise DataError(field=field, found="0 transitions", allowed=">= 1", hint=needed)
        parts = [buffer.sample_rows((num_minibatches, count), generator) for buffer, count in shares]
        return self.online.unpack(torch.cat(parts, dim=1).flatten(0, 1))

    def sample_on_device(self, num_minibatches: int, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """`sample` by kernels alone, see `ReplayBuffer.sample_rows_on_device`; an empty buffer gives zeros."""
        shares = self.shares(batch_size)
        parts = [buffer.sample_rows_on_device((num_minibatches, count), generator) for buffer, count in shares]
        return self.online.unpack(torch.cat(parts, dim=1).flatten(0, 1))


def apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """Divide `total` by weights into whole numbers, the largest remainders rounded up."""
    quotas = [total * weight / sum(weights) for weight in weights]
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(weights)), key=lambda i: (counts[i] - quotas[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts
