"""The writer as the recorder sees it: a keeper in a process of its own, so that encoding never disturbs the loop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, TypeVar

import msgspec

from demos.recording import handover
from demos.recording.handover import Slots, Times, receive, send
from robot_rlpd import errors
from robot_rlpd.errors import RobotRlpdError, StoreError
from robot_rlpd.specs import to_builtins

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.episode import EpisodeInfo
    from robot_rlpd.images import ImageCodec
    from robot_rlpd.robot import Action, Source, StepResult
    from robot_rlpd.specs import RobotSpec

M = TypeVar("M", handover.Opened, handover.Done)
OPEN_TIMEOUT_S = 60.0
STALL_TIMEOUT_S = 5.0
"""Longest wait for a free slot [s]; the disk does not take what the robot gives."""
CLOSE_TIMEOUT_S = 600.0


class WriterProcess:
    """A `Keeper` whose work is done elsewhere.

    Steps are handed over in well under a millisecond and acknowledged later: `acknowledged_steps` lags behind. An
    error of the writer is raised by the next call. The death of this process loses nothing that was handed over.

    Args:
        path: Directory of the store.
        spec: Spec of the robot.
        exist_ok: Add to a store of the same spec.
        codec: How images are kept; None for the default in a new store, and for what it is in an existing one.

    Attributes:
        episodes_before: In the store when it was opened.
        last_seed: Largest reset seed in it, -1 without one.
        episodes_stored: In the store after `close`.
        pid: Of the writer.

    Raises:
        StoreError: The store cannot be made or opened.
        MismatchError: It is one of another robot, or keeps images otherwise.
    """

    def __init__(self, path: Path, spec: RobotSpec, *, exist_ok: bool = False, codec: ImageCodec | None = None) -> None:
        self._path = path
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        memory = os.memfd_create("robot-rlpd-steps")
        try:
            os.ftruncate(memory, handover.size_bytes(spec))
            self._slots = Slots(memory, spec)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "demos.recording.writer", str(theirs.fileno()), str(memory)],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal is for the recorder alone
            )
        finally:
            os.close(memory)
            theirs.close()
        self.pid = self._process.pid
        self._decoder = msgspec.msgpack.Decoder(handover.FromWriter)
        self._free = list(range(self._slots.count))
        self._running_slots: set[int] = set()
        self._can_undo = False
        self._failed = False
        self.acknowledged_steps = 0
        try:
            self._send(handover.Open(str(path), to_builtins(spec), exist_ok, codec))
            opened = self._wait(handover.Opened, OPEN_TIMEOUT_S)
        except BaseException:
            self._failed = True
            self.close()
            raise
        self.episodes_before = self.episodes_stored = opened.episodes
        self.last_seed = opened.last_seed

    def start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """Hand the first observation over."""
        del spec
        self._can_undo = False
        slot = self._take_slot()
        self._slots.write(slot, first)
        self._running_slots.clear()
        self.acknowledged_steps = 0
        self._send(handover.Start(slot, info, Times.of(first, wall_time_s)))

    def step(self, action: Action, source: Source, result: StepResult, wall_time_s: float) -> None:
        """Hand a step over."""
        slot = self._take_slot()
        self._slots.write(slot, result, action)
        self._running_slots.add(slot)
        self._send(handover.Step(slot, int(source), Times.of(result, wall_time_s)))

    def end(self, info: EpisodeInfo, *, keep: bool) -> None:
        """Hand the end over."""
        self._can_undo = keep
        self._send(handover.End(info, keep))

    def commit(self) -> None:
        """Have the kept episode stored, meanwhile."""
        self._can_undo = False
        self._send(handover.Commit())

    def undo(self) -> bool:
        """Have the kept episode dropped."""
        if not self._can_undo:
            return False
        self._can_undo = False
        self._send(handover.Undo())
        return True

    def check(self) -> None:
        """See what was acknowledged meanwhile, and whether the writer is well."""
        while data := receive(self._socket, blocking=False):
            self._take(data)
        if data == b"":
            raise self._died()

    def close(self) -> None:
        """Have everything stored, and wait for it; further calls do nothing."""
        if self._socket.fileno() < 0:
            return
        try:
            if not self._failed:
                self._send(handover.Close())
                self.episodes_stored = self._wait(handover.Done, CLOSE_TIMEOUT_S).episodes
        finally:
            self._socket.close()
            self._process.wait()

    def _send(self, message: handover.ToWriter) -> None:
        try:
            send(self._socket, message)
        except OSError:
            self.check()
            raise self._died() from None

    def _take_slot(self) -> int:
        self.check()
        self._socket.settimeout(STALL_TIMEOUT_S)
        try:
            while not self._free:
                self._take(receive(self._socket) or b"")
        except TimeoutError:
            raise StoreError(
                f"the disk has not taken a step for {STALL_TIMEOUT_S:g} s",
                field=str(self._path),
                hint="record fewer or smaller images, or on a faster disk",
            ) from None
        finally:
            self._socket.settimeout(None)
        return self._free.pop()

    def _wait(self, kind: type[M], timeout_s: float) -> M:
        self._socket.settimeout(timeout_s)
        try:
            while True:
                message = self._take(receive(self._socket) or b"")
                if isinstance(message, kind):
                    return message
        except TimeoutError:
            self._process.kill()
            raise StoreError(f"the writer has not answered for {timeout_s:g} s", field=str(self._path)) from None
        finally:
            self._socket.settimeout(None)

    def _take(self, data: bytes) -> handover.FromWriter:
        if not data:
            raise self._died()
        message: handover.FromWriter = self._decoder.decode(data)
        if isinstance(message, handover.Failed):
            self._failed = True
            self._process.wait()
            raise _error_of(message)
        if isinstance(message, handover.Spooled):
            self._free.append(message.slot)
            self.acknowledged_steps += int(message.slot in self._running_slots)
            self._running_slots.discard(message.slot)
        return message

    def _died(self) -> StoreError:
        self._failed = True
        status = self._process.wait()
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        return StoreError(
            f"the process that writes has ended {how}",
            field=str(self._path),
            hint="what it acknowledged is added to the store when that is next opened for writing",
        )


def _error_of(failed: handover.Failed) -> RobotRlpdError:
    kind = getattr(errors, failed.kind, StoreError)
    error: RobotRlpdError = kind(
        failed.message, field=failed.field, found=failed.found, allowed=failed.allowed, hint=failed.hint
    )
    return error
