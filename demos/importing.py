"""Brings converted episodes into a store: all of a file, or nothing."""

from __future__ import annotations

import shutil
import uuid
from typing import TYPE_CHECKING

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DataError, StoreError
from robot_rlpd.store_layout import check_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from demos.converters.conversion import Conversion
    from robot_rlpd.episode import Episode


def import_episodes(
    conversion: Conversion, out: Path, *, append: bool, on_episode: Callable[[], None] = lambda: None
) -> int:
    """Write every episode to a store beside `out`, then put it in place.

    Args:
        conversion: The opened file.
        out: The store; must not exist unless `append`.
        append: Add to it if it exists.
        on_episode: Told after each; the conversion's report says how many.

    Returns:
        How many episodes are new in the store.

    Raises:
        StoreError: `out` exists, or cannot be written.
        MismatchError: `out` holds data of another robot.
        DataError: The file is damaged; nothing was written then.
    """
    if conversion.num_steps == 0:
        raise DataError("holds no steps", field=str(conversion.path))
    if out.exists() and not append:
        raise StoreError("exists already", field=str(out), hint="choose another name, or add to it with --append")
    if out.exists():
        with EpisodeStore.open(out) as existing:
            check_spec(existing.spec, conversion.spec, who=conversion.path.name)

    def counted() -> Iterator[Episode]:
        for episode in conversion:
            yield episode
            on_episode()

    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}.importing")
    try:
        with EpisodeStore.create(temporary, conversion.spec) as store:
            added = store.extend(counted())
        if not out.exists():
            temporary.rename(out)
            return added
        with EpisodeStore.open(out, "a") as existing, EpisodeStore.open(temporary) as imported:
            return existing.extend(imported)
    except StoreError as error:
        where = error.field.replace(str(temporary), str(out))
        raise StoreError(
            error.message, field=where, found=error.found, allowed=error.allowed, hint=error.hint
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
