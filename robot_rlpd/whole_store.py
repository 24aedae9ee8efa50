"""A new store that is there once all of it is written, and not at all before."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import uuid
from typing import TYPE_CHECKING

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import StoreError
from robot_rlpd.store_lock import lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from robot_rlpd.images import ImageCodec
    from robot_rlpd.specs import RobotSpec


@contextlib.contextmanager
def whole_store(out: Path, spec: RobotSpec, codec: ImageCodec) -> Iterator[EpisodeStore]:
    """A store to be filled; it takes its place at the end, and nothing is left of it after an error.

    What a killed process left of the same store is removed first.

    Args:
        out: Must not exist.
        spec: Of the robot.
        codec: How images are kept.

    Raises:
        StoreError: It exists, or cannot be written; names `out`.
    """
    if out.exists():
        raise StoreError("exists already", field=str(out), hint="choose another name")
    for left in out.parent.glob(f".{glob.escape(out.name)}.*.unfinished"):
        _remove_if_left(left)
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}.unfinished")
    try:
        lossless = codec.name == "zstd"
        with EpisodeStore.create(temporary, spec, lossless=lossless, jpeg_quality=codec.quality) as store:
            yield store
        temporary.rename(out)
    except StoreError as error:
        where = error.field.replace(str(temporary), str(out))
        raise StoreError(
            error.message, field=where, found=error.found, allowed=error.allowed, hint=error.hint
        ) from None
    except OSError as error:
        raise StoreError(f"cannot create: {error.strerror}", field=str(out)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_if_left(path: Path) -> None:
    with contextlib.suppress(StoreError):  # somebody is filling it
        os.close(lock(str(path)))
        shutil.rmtree(path, ignore_errors=True)
