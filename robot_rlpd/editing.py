"""Trim, relabel and delete recorded episodes, and undo each of it; the data stay until the store is compacted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robot_rlpd.errors import ConfigError
from robot_rlpd.store_edits import check_changes, in_force, undone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.store_edits import Edit
    from robot_rlpd.store_index import StoredEpisode


def trim(store: EpisodeStore, episode: StoredEpisode, start: int, stop: int) -> Edit:
    """Keep the steps `start` to `stop` (not included) of an episode, counted as it is seen now.

    Where steps are cut from its end, it ends as truncated: its last observation is no end of the task's.

    Raises:
        ConfigError: That range does not lie in the episode, or is empty.
        StoreError: The store cannot be written.
    """
    if not 0 <= start < stop <= episode.num_steps:
        allowed = f"START:STOP with 0 <= START < STOP <= {episode.num_steps}"
        raise ConfigError(field="steps", found=f"{start}:{stop}", allowed=allowed)
    offset = episode.first_row - episode.recorded_first_row
    return store.add_edit("trim", episodes=(episode.number,), start=offset + start, stop=offset + stop)


def relabel(store: EpisodeStore, episodes: Sequence[StoredEpisode], changes: dict[str, Any]) -> Edit:
    """Change what episodes say of themselves: success, task, operator, device, notes.

    Raises:
        ConfigError: Nothing to change, or something that cannot be relabelled.
        StoreError: The store cannot be written.
    """
    check_changes(changes)
    return store.add_edit("relabel", episodes=_numbers(episodes), changes=changes)


def delete(store: EpisodeStore, episodes: Sequence[StoredEpisode]) -> Edit:
    """Take episodes out of sight.

    Raises:
        StoreError: The store cannot be written.
    """
    return store.add_edit("delete", episodes=_numbers(episodes))


def undo(store: EpisodeStore, number: int | None = None) -> Edit:
    """Undo an edit; undoing an undo does the edit again.

    Args:
        store: Opened for writing.
        number: Of the edit; default the last one that is in force.

    Returns:
        The edit that was undone.

    Raises:
        ConfigError: No such edit, or nothing to undo.
        StoreError: The store cannot be written.
    """
    edits = store.edits
    counting = in_force(edits)
    if number is None:
        if not counting:
            raise ConfigError("nothing to undo", field=store.path)
        number = counting[-1].number
    elif not 1 <= number <= len(edits):
        raise ConfigError(field="edit", found=number, allowed=f"1 to {len(edits)}" if edits else "none: no edits")
    if number in undone(edits):
        raise ConfigError("is undone already", field=f"edit {number}", hint="undo the undoing")
    store.add_edit("undo", undoes=number)
    return edits[number - 1]


@dataclass(frozen=True, kw_only=True)
class PastEdit:
    """One line of the log, for people.

    Attributes:
        number: Counted from 1.
        kind: trim, relabel, delete or undo.
        counts: Whether it was not undone.
        unix_s: When.
        uuids: The episodes that it concerns.
        what: What was done, in words.
    """

    number: int
    kind: str
    counts: bool
    unix_s: float
    uuids: tuple[str, ...]
    what: str


def history(store: EpisodeStore) -> list[PastEdit]:
    """Every edit since the store was made or compacted."""
    recorded = store.recorded()
    edits = store.edits
    gone = undone(edits)
    return [
        PastEdit(
            number=edit.number,
            kind=edit.kind,
            counts=edit.number not in gone,
            unix_s=edit.unix_s,
            uuids=tuple(recorded[number].info.uuid for number in edit.episodes),
            what=_words(edit, [recorded[number].info.uuid[:8] for number in edit.episodes]),
        )
        for edit in edits
    ]


def _words(edit: Edit, names: list[str]) -> str:
    if edit.kind == "undo":
        return f"edit {edit.undoes}"
    shown = " ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    if edit.kind == "trim":
        return f"{shown} to steps {edit.start}:{edit.stop} as recorded"
    changes = ", ".join(f"{name}: {value}" for name, value in edit.changes.items())
    return f"{shown} {changes}" if edit.kind == "relabel" else shown


def _numbers(episodes: Sequence[StoredEpisode]) -> tuple[int, ...]:
    if not episodes:
        raise ConfigError("no episode", field="episodes", allowed="at least one")
    return tuple(episode.number for episode in episodes)
