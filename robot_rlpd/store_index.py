"""Which rows of a store belong to which episode, and what each episode says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from robot_rlpd.episode import EpisodeInfo
from robot_rlpd.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class StoredEpisode:
    """What the index of a store says about one episode.

    Attributes:
        info: Everything that is not an array.
        num_steps: Number of steps T.
        first_row: First of its rows in the packed arrays.
        end_row: Row after its last.
    """

    info: EpisodeInfo
    num_steps: int
    first_row: int
    end_row: int

    @property
    def has_final_observation(self) -> bool:
        """Whether the observation after the last action exists."""
        return self.end_row - self.first_row == self.num_steps + 1


@dataclass(frozen=True, kw_only=True)
class StoredColumns:
    """Fields of all episodes, one behind the other.

    Attributes:
        values: One contiguous array `(N, *shape)` per column. Row t of an episode holds observation t and what
            belongs to step t; the row of its final observation holds zeros in `action`, `executed_action`, `source`
            and signals.
        first_rows: First row of each episode, int64 `(E,)`.
        num_steps: Its number of steps, likewise.
        end_rows: The row after its last, likewise: `first_rows + num_steps + 1`, or one less where the observation
            after the last action is missing.
    """

    values: dict[str, NDArray[Any]]
    first_rows: NDArray[np.int64]
    num_steps: NDArray[np.int64]
    end_rows: NDArray[np.int64]


class EpisodeIndex:
    """The episodes of a store in the order of writing.

    What an episode says of itself is decoded when it is first asked for: a learner never asks.

    Attributes:
        first_rows: First row of each episode, int64 `(E,)`.
        num_steps: Its number of steps, likewise.
        end_rows: The row after its last, likewise.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._info_ends = np.zeros(0, np.int64)
        self._data = b""
        self._stored: list[StoredEpisode] = []
        self._uuids: set[str] = set()
        self.first_rows = np.zeros(0, np.int64)
        self.num_steps = np.zeros(0, np.int64)
        self.end_rows = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.end_rows)

    @property
    def info_end(self) -> int:
        """How many bytes of the array of infos have been taken over."""
        return int(self._info_ends[-1]) if len(self) else 0

    def extend(self, entries: NDArray[np.int64], infos: bytes) -> None:
        """Take over new rows of `episodes/index` `(n, 3)` and the bytes that belong to them."""
        row_ends = entries[:, 0]
        last = self.end_rows[-1:] if len(self) else np.zeros(1, np.int64)
        self.first_rows = np.concatenate([self.first_rows, last, row_ends[:-1]])[: len(self) + len(entries)]
        self.end_rows = np.concatenate([self.end_rows, row_ends])
        self.num_steps = np.concatenate([self.num_steps, entries[:, 1]])
        self._info_ends = np.concatenate([self._info_ends, entries[:, 2]])
        self._data += infos

    def episodes(self) -> list[StoredEpisode]:
        """All of them.

        Raises:
            StoreError: What one says of itself cannot be read.
        """
        first = len(self._stored)
        if first == len(self):
            return self._stored
        at = base = self.info_end - len(self._data)
        decoder = msgspec.json.Decoder(EpisodeInfo)
        bounds = zip(*(a[first:].tolist() for a in (self.first_rows, self.num_steps, self.end_rows)), strict=True)
        for (first_row, num_steps, end_row), end in zip(bounds, self._info_ends[first:].tolist(), strict=True):
            try:
                info = decoder.decode(self._data[at - base : end - base])
            except msgspec.MsgspecError as error:
                where = f"{self._path}, episode {len(self._stored)}"
                raise StoreError(f"damaged index: {error}", field=where) from None
            self._stored.append(StoredEpisode(info=info, num_steps=num_steps, first_row=first_row, end_row=end_row))
            self._uuids.add(info.uuid)
            at = end
        self._data = b""
        return self._stored

    def __contains__(self, episode_uuid: str) -> bool:
        self.episodes()
        return episode_uuid in self._uuids
