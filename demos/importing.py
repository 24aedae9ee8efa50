"""Brings converted episodes into a store: all of a file, or nothing; what was interrupted goes on where it stopped."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from typing import TYPE_CHECKING

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DataError, StoreError
from robot_rlpd.images import JPEG_QUALITY
from robot_rlpd.specs import canonical_json, to_builtins
from robot_rlpd.store_layout import check_episode, check_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from demos.converters.conversion import Conversion
    from robot_rlpd.episode import Episode


def import_episodes(
    conversion: Conversion,
    out: Path,
    *,
    append: bool = False,
    jpeg_quality: int = JPEG_QUALITY,
    settings: str = "",
    on_episode: Callable[[str], None] = lambda doing: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Write every episode of a file to a store.

    A new store is written under the name `partial_path(out)` and put in place when it is whole. A killed or stopped
    import leaves that: the same import goes on from there, another one to the same store removes it. What is added to a
    store is read through first, so that a damaged file adds nothing; a killed or stopped import leaves whole episodes,
    and the same import adds the others. Either way one episode at a time is in memory, and a batch of them.

    Args:
        conversion: The opened file.
        out: The store; must not exist unless `append`.
        append: Add to it if it exists.
        jpeg_quality: Of the images of a new store, 1 to 100.
        settings: What else decides on the result, such as how success is labelled: only the same import goes on.
        on_episode: Told after each what is being done; the conversion's report says how many.
        should_stop: Asked after each episode.

    Returns:
        How many episodes are new in the store.

    Raises:
        StoreError: `out` exists, or cannot be written.
        MismatchError: `out` holds data of another robot.
        DataError: The file is damaged; nothing was written then.
        KeyboardInterrupt: It was asked to stop; the same call goes on.
    """
    if conversion.num_steps == 0:
        raise DataError("holds no steps", field=str(conversion.path))
    if out.exists() and not append:
        raise StoreError("exists already", field=str(out), hint="choose another name, or add to it with --append")

    def told(doing: str) -> Iterator[Episode]:
        for episode in conversion:
            yield episode
            on_episode(doing)
            if should_stop():
                raise KeyboardInterrupt

    if not out.exists():
        return _new_store(conversion, out, told("importing"), jpeg_quality, settings)
    with EpisodeStore.open(out, "a") as store:
        check_spec(store.spec, conversion.spec, who=conversion.path.name)
        for episode in told("checking"):
            check_episode(episode)
        return _added(store, told("importing"))


def partial_path(out: Path) -> Path:
    """Where a store lies while it is imported, and what is left of it when that is interrupted."""
    return out.with_name(f".{out.name}.importing")


def _new_store(conversion: Conversion, out: Path, episodes: Iterator[Episode], jpeg_quality: int, settings: str) -> int:
    partial = partial_path(out)
    digest = _digest(conversion, jpeg_quality, settings)
    try:
        if partial.exists() and not _is_of(partial, digest):
            _remove_unused(partial)
        with EpisodeStore.create(partial, conversion.spec, exist_ok=True, jpeg_quality=jpeg_quality) as store:
            partial.joinpath("import").write_text(digest)
            _added(store, episodes)
            num_episodes = len(store)
            partial.joinpath("import").unlink()
        partial.rename(out)
    except StoreError as error:
        where = error.field.replace(str(partial), str(out))
        raise StoreError(
            error.message, field=where, found=error.found, allowed=error.allowed, hint=error.hint
        ) from None
    except DataError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return num_episodes


def _added(store: EpisodeStore, episodes: Iterator[Episode]) -> int:
    """Store the episodes; on Ctrl-C those that were read so far too."""
    before = len(store)
    interrupted = False

    def until_interrupted() -> Iterator[Episode]:
        nonlocal interrupted
        try:
            yield from episodes
        except KeyboardInterrupt:
            interrupted = True

    store.extend(until_interrupted())
    if interrupted:
        raise KeyboardInterrupt
    return len(store) - before


def _remove_unused(partial: Path) -> None:
    """Remove what another import left, unless that is still running."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(partial)
        except BlockingIOError:
            raise StoreError("another import is writing to it", field=str(partial), hint="wait for it") from None
        finally:
            os.close(descriptor)


def _is_of(partial: Path, digest: str) -> bool:
    with contextlib.suppress(OSError):
        return partial.joinpath("import").read_text() == digest
    return False


def _digest(conversion: Conversion, jpeg_quality: int, settings: str) -> str:
    """Of the file and of everything that was asked for."""
    path, target = conversion.path, conversion.target
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    asked = {
        "files": [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files],
        "spec": to_builtins(conversion.spec),
        "fields": {name: str(source) for name, source in target.fields.items()},
        "task": target.task.name if target.task is not None else "",
        "source": int(target.source),
        "jpeg_quality": jpeg_quality,
        "settings": settings,
    }
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()
