"""The writer's lock on a store, and the exchange of one store for another."""

from __future__ import annotations

import ctypes
import fcntl
import os
from pathlib import Path

from robot_rlpd.errors import StoreError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def lock(path: str) -> int:
    """Take the writer's lock on the directory itself; it goes with the process, however that ends.

    Returns:
        Descriptor of the directory; closing it unlocks.

    Raises:
        StoreError: No such store, or another process writes to it.
    """
    if "://" in path:
        raise StoreError("a URL can only be read", field=path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        what = "no such store" if isinstance(error, FileNotFoundError) else f"cannot open: {error.strerror}"
        raise StoreError(what, field=path) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino != Path(path).stat().st_ino:  # exchanged between the two calls
            raise BlockingIOError
    except OSError as error:
        os.close(descriptor)
        busy = isinstance(error, BlockingIOError)
        what = "another process is writing to it" if busy else f"cannot be locked: {error.strerror}"
        raise StoreError(what, field=path, hint="wait for it, or open the store for reading" if busy else "") from None
    return descriptor


def exchange(new: Path, old: Path) -> None:
    """Put the directory `new` in the place of `old`, and `old` in the place of `new`, in one instant where possible.

    Where the file system cannot, there is a moment without `old`.

    Raises:
        StoreError: It cannot be done; both are where they were.
    """
    library = ctypes.CDLL(None, use_errno=True)
    names = (_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE)
    if hasattr(library, "renameat2") and library.renameat2(*names) == 0:
        _sync_directory(old.parent)
        return
    aside = new.with_name(f"{new.name}.aside")
    try:
        old.rename(aside)
        try:
            new.rename(old)
        except OSError:
            aside.rename(old)
            raise
        aside.rename(new)
        _sync_directory(old.parent)
    except OSError as error:
        raise StoreError(f"cannot be replaced: {error.strerror}", field=str(old)) from None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
