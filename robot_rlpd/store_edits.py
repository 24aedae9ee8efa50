"""Edits of recorded episodes: a log beside the data, so that each can be undone and the data stay as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from robot_rlpd.episode import Ended, EpisodeInfo
from robot_rlpd.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

EDITABLE = ("success", "task", "operator", "device", "notes")
"""What `relabel` may change in an episode's info."""


class Edit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the log.

    Attributes:
        number: Counted from 1.
        kind: What was done.
        unix_s: When.
        episodes: Positions in `episodes/index` of the episodes that it concerns.
        start: Of a trim: first step that stays, counted as recorded.
        stop: Of a trim: the step after the last that stays.
        changes: Of a relabel: new values of fields of the info.
        undoes: Of an undo: the number of the edit that no longer counts; may be an undo itself.
    """

    number: int
    kind: Literal["trim", "relabel", "delete", "undo"]
    unix_s: float
    episodes: tuple[int, ...] = ()
    start: int = 0
    stop: int = 0
    changes: dict[str, Any] = {}
    undoes: int = 0


def encode_edits(edits: Iterable[Edit]) -> bytes:
    """As lines of JSON."""
    return b"".join(msgspec.json.encode(edit) + b"\n" for edit in edits)


def decode_edits(data: bytes, *, where: str) -> list[Edit]:
    """The inverse.

    Raises:
        StoreError: A line is damaged.
    """
    try:
        return msgspec.json.Decoder(Edit).decode_lines(data)
    except msgspec.MsgspecError as error:
        raise StoreError(f"damaged: {error}", field=f"{where}/edits/log") from None


def undone(edits: list[Edit]) -> set[int]:
    """Numbers of the edits that no longer count; an undoing that was undone itself undoes nothing."""
    numbers: set[int] = set()
    for edit in reversed(edits):
        if edit.kind == "undo" and edit.number not in numbers:
            numbers.add(edit.undoes)
    return numbers


def in_force(edits: list[Edit]) -> list[Edit]:
    """Those that were not undone, in order, without the undoings."""
    gone = undone(edits)
    return [edit for edit in edits if edit.kind != "undo" and edit.number not in gone]


def check_changes(changes: dict[str, Any]) -> None:
    """Refuse to relabel what cannot be relabelled.

    Raises:
        ConfigError: Names the field.
    """
    if not changes:
        raise ConfigError("nothing to change", field="relabel", allowed=", ".join(EDITABLE))
    for name, value in changes.items():
        if name not in EDITABLE:
            raise ConfigError("cannot be relabelled", field=name, allowed=", ".join(EDITABLE))
        fits = value is None or isinstance(value, bool) if name == "success" else isinstance(value, str)
        if not fits:
            raise ConfigError(field=name, found=value, allowed="true, false, unknown" if name == "success" else "text")


def edited_info(info: EpisodeInfo, changes: dict[str, Any], *, is_cut: bool) -> EpisodeInfo:
    """What an episode says of itself after its edits; one that lost its end was truncated, not terminated."""
    info = replace(info, **{name: value for name, value in changes.items() if name in EDITABLE})
    return replace(info, ended=Ended.TRUNCATED, outcome_unknown=False) if is_cut else info
