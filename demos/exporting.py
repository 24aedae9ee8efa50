"""Writes a store in another format: all of it, or nothing."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from demos.converters.export import Export, Exporter
from robot_rlpd.errors import DataError, RobotRlpdError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from demos.converters.kept import ActionKind
    from robot_rlpd.episode import Episode
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.task import Task


def make_export(
    store: EpisodeStore,
    name: str,
    *,
    task: Task | None = None,
    actions: ActionKind = "executed",
    on_episode: Callable[[Episode], None] = lambda episode: None,
) -> Export:
    """The episodes of an opened store on their way out.

    Args:
        store: Read one episode at a time.
        name: Name of what will be written.
        task: Recomputes reward, end and success.
        actions: Which actions become the format's own; the others are kept beside them where there is room.
        on_episode: Told each before it is written.

    Raises:
        DataError: The store is empty, or the task cannot judge it.
    """
    stored = store.infos()
    if not any(episode.num_steps for episode in stored):
        raise DataError("holds no steps", field=store.path)
    if task is not None:
        task.check_recomputable(store.spec, where=f"store {store.path}")

    def read() -> Iterator[Episode]:
        for index in range(len(stored)):
            episode = store.read(index)
            on_episode(episode)
            yield episode

    return Export(
        path=f"store {store.path}",
        name=name,
        spec=store.spec,
        num_episodes=len(stored),
        all_have_final_observation=all(e.has_final_observation for e in stored if e.num_steps),
        read=read,
        task=task,
        actions=actions,
    )


def export_episodes(export: Export, write: Exporter, out: Path) -> None:
    """Write to a temporary name beside `out`, then rename.

    A killed export leaves nothing under the name `out`; what it had written is removed by the next to the same name.

    Raises:
        StoreError: `out` exists, or cannot be written.
        DataError: The format cannot hold the episodes.
    """
    if out.exists():
        raise StoreError("exists already", field=str(out), hint="choose another name")
    if not out.parent.is_dir():
        raise StoreError("no such directory", field=str(out.parent))
    temporary = out.with_name(f".{out.name}.exporting")
    remove(temporary)
    try:
        write(export, temporary)
        temporary.rename(out)
    except RobotRlpdError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StoreError(f"cannot write: {reason}", field=str(out)) from None
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a file or a directory that may not exist."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
