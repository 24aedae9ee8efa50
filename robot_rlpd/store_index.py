"""Which rows of a store belong to which episode, and what each episode says of itself; edits included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from robot_rlpd.episode import EpisodeInfo
from robot_rlpd.errors import StoreError
from robot_rlpd.store_edits import edited_info, in_force

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robot_rlpd.store_edits import Edit


@dataclass(frozen=True, kw_only=True)
class StoredEpisode:
    """What the index of a store says about one episode.

    Attributes:
        info: Everything that is not an array.
        num_steps: Number of steps T.
        first_row: First of its rows in the packed arrays.
        end_row: Row after its last.
        number: Its position among all episodes ever written; does not change when others are deleted.
        recorded_first_row: Its first row when it was recorded, before anything was trimmed.
        recorded_steps: Its steps then.
        is_relabelled: Whether something that it says of itself was changed afterwards.
    """

    info: EpisodeInfo
    num_steps: int
    first_row: int
    end_row: int
    number: int
    recorded_first_row: int
    recorded_steps: int
    is_relabelled: bool

    @property
    def has_final_observation(self) -> bool:
        """Whether the observation after the last action exists."""
        return self.end_row - self.first_row == self.num_steps + 1

    @property
    def is_trimmed(self) -> bool:
        """Whether steps were cut off."""
        return self.num_steps != self.recorded_steps


@dataclass(frozen=True, kw_only=True)
class StoredColumns:
    """Fields of all episodes, one behind the other.

    Attributes:
        values: One contiguous array `(N, *shape)` per column. Row t of an episode holds observation t and what
            belongs to step t; the row of its final observation holds zeros in `action`, `executed_action`, `source`
            and signals, unless the episode was trimmed. Rows of no episode were trimmed off or deleted.
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
    """The episodes of a store in the order of writing, as its edits left them.

    What an episode says of itself is decoded when it is first asked for: a learner never asks.

    Attributes:
        edits: The log, in order.
        numbers: Position of each visible episode among all that were written, int64 `(E,)`.
        first_rows: First row of each, likewise.
        num_steps: Its number of steps, likewise.
        end_rows: The row after its last, likewise.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._entries = np.zeros((0, 3), np.int64)
        self._undecoded = b""
        self._infos: list[EpisodeInfo] = []
        self._uuids: set[str] = set()
        self._visible: list[StoredEpisode] | None = None
        self._changes: dict[int, dict[str, Any]] = {}
        self.edits: list[Edit] = []
        self.numbers = self.first_rows = self.num_steps = self.end_rows = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def __contains__(self, episode_uuid: str) -> bool:
        self._decode()
        return episode_uuid in self._uuids

    @property
    def num_recorded(self) -> int:
        """Episodes that were written, deleted ones too."""
        return len(self._entries)

    @property
    def info_end(self) -> int:
        """How many bytes of the array of infos have been taken over."""
        return int(self._entries[-1, 2]) if len(self._entries) else 0

    def extend(self, entries: NDArray[np.int64], infos: bytes, edits: Sequence[Edit]) -> None:
        """Take over new rows of `episodes/index` `(n, 3)`, the bytes that belong to them, and new edits."""
        self._entries = np.concatenate([self._entries, entries])
        self._undecoded += infos
        self.edits += edits
        self._apply_edits()

    def require_rows(self, num_rows: int) -> None:
        """Refuse an index that cannot be true, before columns are cut into episodes by it.

        Args:
            num_rows: How many rows the packed arrays hold.

        Raises:
            StoreError: An episode has other rows than steps, or rows that are not there; names the first.
        """
        firsts, steps, ends = self._recorded()
        rows = ends - firsts
        possible = (rows >= 0) & ((rows == steps) | (rows == steps + 1)) & (ends <= num_rows)
        if not possible.all():
            number = int(np.argmin(possible))
            raise StoreError(
                "damaged index",
                field=f"{self._path}, episode {number}",
                found=f"{steps[number]} steps in rows {firsts[number]} to {ends[number]}",
                allowed=f"as many rows or one more, up to {num_rows}",
                hint="mend it: robot-rlpd demos repair",
            )

    def episodes(self) -> list[StoredEpisode]:
        """All visible ones.

        Raises:
            StoreError: What one says of itself cannot be read.
        """
        if self._visible is None:
            self._decode()
            recorded = self._recorded()
            self._visible = [self._stored(place, *recorded) for place in range(len(self))]
        return self._visible

    def recorded(self) -> list[StoredEpisode]:
        """All that were written, as they were recorded."""
        self._decode()
        firsts, steps, ends = (a.tolist() for a in self._recorded())
        return [
            StoredEpisode(
                info=info,
                num_steps=steps[number],
                first_row=firsts[number],
                end_row=ends[number],
                number=number,
                recorded_first_row=firsts[number],
                recorded_steps=steps[number],
                is_relabelled=False,
            )
            for number, info in enumerate(self._infos)
        ]

    def _recorded(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        ends = self._entries[:, 0]
        return np.concatenate([np.zeros(1, np.int64), ends])[: len(ends)], self._entries[:, 1], ends

    def _apply_edits(self) -> None:
        recorded_firsts, recorded_steps, recorded_ends = self._recorded()
        firsts, steps, ends = recorded_firsts.copy(), recorded_steps.copy(), recorded_ends.copy()
        stays = np.ones(len(ends), np.bool_)
        self._changes = {}
        for edit in in_force(self.edits):
            numbers = list(edit.episodes)
            if edit.kind == "delete":
                stays[numbers] = False
            elif edit.kind == "trim":
                cut = edit.stop < recorded_steps[numbers]
                firsts[numbers] = recorded_firsts[numbers] + edit.start
                steps[numbers] = edit.stop - edit.start
                ends[numbers] = np.where(cut, recorded_firsts[numbers] + edit.stop + 1, recorded_ends[numbers])
            else:
                for number in numbers:
                    self._changes[number] = self._changes.get(number, {}) | edit.changes
        self.numbers = np.flatnonzero(stays)
        self.first_rows, self.num_steps, self.end_rows = firsts[stays], steps[stays], ends[stays]
        self._visible = None

    def _stored(
        self, place: int, firsts: NDArray[np.int64], steps: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> StoredEpisode:
        number, end_row = int(self.numbers[place]), int(self.end_rows[place])
        changes = self._changes.get(number, {})
        info = self._infos[number]
        if changes or end_row != ends[number]:
            info = edited_info(info, changes, is_cut=end_row != ends[number])
        return StoredEpisode(
            info=info,
            num_steps=int(self.num_steps[place]),
            first_row=int(self.first_rows[place]),
            end_row=end_row,
            number=number,
            recorded_first_row=int(firsts[number]),
            recorded_steps=int(steps[number]),
            is_relabelled=bool(changes),
        )

    def _decode(self) -> None:
        first = len(self._infos)
        if first == len(self._entries):
            return
        at = base = self.info_end - len(self._undecoded)
        decoder = msgspec.json.Decoder(EpisodeInfo)
        for end in self._entries[first:, 2].tolist():
            try:
                info = decoder.decode(self._undecoded[at - base : end - base])
            except msgspec.MsgspecError as error:
                where = f"{self._path}, episode {len(self._infos)}"
                raise StoreError(f"damaged index: {error}", field=where) from None
            self._infos.append(info)
            self._uuids.add(info.uuid)
            at = end
        self._undecoded = b""
