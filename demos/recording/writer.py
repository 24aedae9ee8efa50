"""The writer's process: takes steps out of shared memory, spools them, encodes and stores finished episodes.

    python -m demos.recording.writer SOCKET MEMORY

with the numbers of two inherited file descriptors. It ends when it is told to, or when the recorder is gone: then it
stores the running episode as interrupted.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from demos.recording import handover
from demos.recording.handover import Slots, send
from demos.recording.keeper import StoreKeeper
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import MismatchError, RobotRlpdError
from robot_rlpd.images import ImageCodec
from robot_rlpd.robot import Source
from robot_rlpd.specs import RobotSpec, from_builtins

if TYPE_CHECKING:
    from collections.abc import Iterator

NICENESS = 5
"""The loop goes first where there are too few cores."""


def main(arguments: list[str]) -> int:
    """Write until the recorder says so or is gone."""
    level = os.environ.get("ROBOT_RLPD_LOG", "WARNING")
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    os.nice(NICENESS)
    with socket.socket(fileno=int(arguments[0])) as connection:
        messages = _messages(connection)
        try:
            first = next(messages, None)
            if isinstance(first, handover.Open):
                _serve(connection, messages, first, int(arguments[1]))
        except (RobotRlpdError, OSError) as error:
            _tell(connection, error)
            return 1
    return 0


def _serve(connection: socket.socket, messages: Iterator[Any], first: handover.Open, memory: int) -> None:
    spec = from_builtins(first.spec, RobotSpec)
    with _open(first, spec) as store:
        seeds = [stored.info.seed for stored in store.infos() if stored.info.seed is not None]
        send(connection, handover.Opened(len(store), max(seeds, default=-1)))
        keeper = StoreKeeper(store)
        slots = Slots(memory, spec)
        asked_to_close = False
        for message in messages:
            match message:
                case handover.Start(slot, info, times):
                    _, result = slots.read(slot, times)
                    keeper.start(spec, info, result, times.wall_time_s)
                    _acknowledge(connection, slot)
                case handover.Step(slot, source, times):
                    action, result = slots.read(slot, times)
                    keeper.step(action, Source(source), result, times.wall_time_s)
                    _acknowledge(connection, slot)
                case handover.End(info, keep):
                    keeper.end(info, keep=keep)
                case handover.Commit():
                    keeper.commit()
                case handover.Undo():
                    keeper.undo()
                case handover.Close():
                    asked_to_close = True
                    break
        keeper.close()
        if asked_to_close:
            send(connection, handover.Done(len(store)))


def _open(asked: handover.Open, spec: RobotSpec) -> EpisodeStore:
    codec = asked.codec or ImageCodec()
    lossless = codec.name == "zstd"
    store = EpisodeStore.create(
        asked.path, spec, exist_ok=asked.exist_ok, lossless=lossless, jpeg_quality=codec.quality
    )
    if asked.codec is not None and str(store.codec) != str(codec):
        store.close()
        raise MismatchError(
            "the store keeps images otherwise",
            field="lossless" if lossless else "jpeg_quality",
            found=str(codec),
            allowed=str(store.codec),
            hint="leave the option out, or record into a new store",
        )
    return store


def _acknowledge(connection: socket.socket, slot: int) -> None:
    try:
        send(connection, handover.Spooled(slot))
    except OSError:  # the recorder is gone; what it sent before is still to be read
        logging.getLogger(__name__).debug("nobody hears the acknowledgement")


def _messages(connection: socket.socket) -> Iterator[handover.ToWriter]:
    decoder = msgspec.msgpack.Decoder(handover.ToWriter)
    while data := handover.receive(connection):
        yield decoder.decode(data)


def _tell(connection: socket.socket, error: RobotRlpdError | OSError) -> None:
    if isinstance(error, RobotRlpdError):
        found = None if error.found is None else str(error.found)
        failed = handover.Failed(type(error).__name__, error.message, error.field, found, error.allowed, error.hint)
    else:
        failed = handover.Failed("StoreError", f"cannot write: {error.strerror or error}", str(error.filename or ""))
    try:
        send(connection, failed)
    except OSError:
        logging.getLogger(__name__).error("%s", error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
