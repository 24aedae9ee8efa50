"""Messages of one frame or more through a ZeroMQ socket, at the least cost for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robot_rlpd.bridge.arrays import Buffer

MORE, LAST, IS_MORE = zmq.NOBLOCK | zmq.SNDMORE, zmq.NOBLOCK, zmq.RCVMORE


def send(socket: zmq.Socket[bytes], frames: Sequence[Buffer]) -> None:
    """Send without waiting.

    Raises:
        zmq.Again: The socket takes nothing now; nothing was sent.
    """
    if len(frames) > 1:
        for frame in frames[:-1]:
            socket.send(frame, MORE)
    socket.send(frames[-1], LAST)


def receive(socket: zmq.Socket[bytes]) -> list[Buffer]:
    """The next message; frames after the first stay where ZeroMQ put them, which saves two copies of every image.

    Raises:
        zmq.Again: There was none within the socket's time.
    """
    frames: list[Buffer] = [socket.recv()]
    while socket.getsockopt(IS_MORE):
        frames.append(socket.recv(copy=False).buffer)
    return frames
