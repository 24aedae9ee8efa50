"""Writes a store anew as its edits left it, and gives back the space of what they took out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import StoreError
from robot_rlpd.store_lock import exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from robot_rlpd.store_codec import EncodedEpisode


@dataclass(frozen=True, kw_only=True)
class CompactReport:
    """What compacting changed.

    Attributes:
        episodes: In the store afterwards.
        removed_episodes: Deleted ones that are gone for good.
        removed_steps: Steps that are gone with them, or were trimmed off.
        edits: Lines of the log that were carried out and cannot be undone any more.
        bytes_before: Size of the files before.
        bytes_after: Size afterwards.
    """

    episodes: int
    removed_episodes: int
    removed_steps: int
    edits: int
    bytes_before: int
    bytes_after: int


def compact(path: Path, *, on_episode: Callable[[int], None] = lambda done: None) -> CompactReport:
    """Write the store anew and put it in the place of the old one, which is then deleted.

    Images are copied as they are, never encoded again. A reader that has the store open is told to open it again.
    Interrupted at any moment, the store is the old or the new one.

    Args:
        path: Local store; nobody may be writing to it.
        on_episode: Told the number of copied episodes.

    Raises:
        StoreError: It cannot be read, written or replaced; then it is as it was.
    """
    temporary = beside(path, "compacting")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed run left
    try:
        with EpisodeStore.open(path, "a") as store:
            before = size_of(path)
            quality = store.codec.quality
            with EpisodeStore.create(
                temporary, store.spec, lossless=store.codec.name == "zstd", jpeg_quality=quality
            ) as fresh:
                fresh.extend_encoded(copied(store, on_episode))
                report = CompactReport(
                    episodes=len(store),
                    removed_episodes=len(store.recorded()) - len(store),
                    removed_steps=sum(episode.num_steps for episode in store.recorded()) - store.num_steps,
                    edits=len(store.edits),
                    bytes_before=before,
                    bytes_after=size_of(temporary),
                )
            exchange(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return report


def copied(store: EpisodeStore, on_episode: Callable[[int], None] = lambda done: None) -> Iterator[EncodedEpisode]:
    """Every episode of a store as it lies on the disk."""
    for done, stored in enumerate(store.infos(), 1):
        yield store.read_encoded(stored)
        on_episode(done)


def beside(path: Path, purpose: str) -> Path:
    """Name of a directory for `purpose` that lies beside a store, on the same file system."""
    path = Path(path)
    if not path.name:
        raise StoreError("has no name of its own", field=str(path))
    return path.with_name(f".{path.name}.{purpose}")


def size_of(directory: Path) -> int:
    """Bytes of all files in it."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
