"""Copies episodes from stores into another one: all of them, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.store_layout import check_spec
from robot_rlpd.whole_store import whole_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.store_codec import EncodedEpisode
    from robot_rlpd.store_index import StoredEpisode

    Part = tuple[EpisodeStore, Sequence[StoredEpisode]]


def copy_episodes(parts: Sequence[Part], out: Path, *, on_episode: Callable[[], None] = lambda: None) -> int:
    """Write a new store with these episodes, as their edits left them.

    Images are copied as they are where the stores keep them in the same way, and coded anew where not. An episode that
    is in several parts is written once.

    Args:
        parts: Opened stores of one robot, and the episodes of each.
        out: The store; must not exist.
        on_episode: Told after each.

    Returns:
        How many episodes were written.

    Raises:
        StoreError: `out` exists, or cannot be written.
        MismatchError: The stores are of different robots; names the field.
    """
    first = parts[0][0]
    for store, _ in parts[1:]:
        check_spec(first.spec, store.spec, who=f"store {store.path}")
    with whole_store(out, first.spec, first.codec) as fresh:
        return sum(_copy(part, fresh, on_episode) for part in parts)


def _copy(part: Part, fresh: EpisodeStore, on_episode: Callable[[], None]) -> int:
    store, episodes = part

    def encoded() -> Iterator[EncodedEpisode]:
        for stored in episodes:
            yield store.read_encoded(stored)
            on_episode()

    if store.codec.name == fresh.codec.name:
        return fresh.extend_encoded(encoded())
    return fresh.extend(store.decode(episode) for episode in encoded())
