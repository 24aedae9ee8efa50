"""Where an actor keeps its episodes until the learner has them on its own disk.

One file per finished episode, written under another name, synced and renamed; episodes that run are spooled step by
step like everywhere else (`spool.py`), and what a killed process was recording is recovered at the next start.
"""

from __future__ import annotations

import fcntl
import os
import re
from typing import TYPE_CHECKING, Self

from robot_rlpd import spool
from robot_rlpd.bridge.episode_codec import encode_episode
from robot_rlpd.config import replacing
from robot_rlpd.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.episode import Episode

SUFFIX = ".episode"
_UUID = re.compile(r"[0-9a-fA-F-]{1,64}")


class Outbox:
    """The episodes of one actor that were not delivered yet; satisfies `spool.Store`.

    Args:
        directory: Made if it does not exist. Used by one process at a time.

    Attributes:
        recovered: Episodes that an earlier process did not finish.

    Raises:
        StoreError: Another process uses it, or it cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StoreError("another actor uses it", field=str(directory), hint="give each actor its own") from None
        except OSError as error:
            raise StoreError(f"cannot be used: {error.strerror}", field=str(directory)) from None
        try:
            self.recovered = spool.recover(self)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process use it; further calls do nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def spool_directory(self) -> Path:
        """Where episodes lie while they run."""
        return self.directory / "running"

    def append(self, episode: Episode) -> bool:
        """Keep an episode; it survives a crash when this returns. False if it is there already.

        Raises:
            StoreError: The disk is full or gone.
        """
        path = self._path(episode.info.uuid)
        if path.exists():
            return False
        try:
            with replacing(path) as file:
                file.write(encode_episode(episode))
            os.fsync(self._lock)  # the lock is the directory: its new entry has to be on the disk too
        except OSError as error:
            raise StoreError(f"cannot write: {error.strerror}", field=str(path)) from None
        return True

    def pending(self) -> list[str]:
        """UUIDs of the episodes that wait, the oldest first."""
        paths = self.directory.glob(f"*{SUFFIX}")
        return [path.stem for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))]

    def read(self, uuid: str) -> bytes:
        """An encoded episode."""
        return self._path(uuid).read_bytes()

    def forget(self, uuid: str) -> None:
        """The learner has it."""
        self._path(uuid).unlink(missing_ok=True)

    def set_aside(self, uuid: str) -> Path:
        """Keep an episode that the learner will never take out of the way of the others."""
        path = self._path(uuid)
        return path.rename(path.with_suffix(".refused"))

    def _path(self, uuid: str) -> Path:
        if not _UUID.fullmatch(uuid):
            raise StoreError("not the identity of an episode", field="uuid", found=uuid[:80])
        return self.directory / f"{uuid}{SUFFIX}"
