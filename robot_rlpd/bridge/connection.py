"""The client's socket: one request at a time, repeated until its answer comes or its deadline passes."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Literal, TypeVar

import zmq

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.frames import receive, send
from robot_rlpd.bridge.link import Link
from robot_rlpd.errors import DeadlineError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.bridge.arrays import Buffer
    from robot_rlpd.bridge.security import ClientKeys

TICK_MS = 50
"""Granularity of deadlines."""
FIRST_RETRY_S = 0.25
"""A request without answer is repeated after this time beyond the control period, then after twice that, and so on."""
RECONNECT_MS, RECONNECT_MAX_MS = 50, 1000
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 500, 1500
LOST_S = 3.0
"""A connection that stood and has been broken for this long is given up."""
QUEUE_SIZE = 16
"""Messages that may wait in either direction."""
Peer = Literal["robot", "learner"]
STARTED_BY: dict[Peer, str] = {"robot": "serve --address", "learner": "train --listen"}
BUSY: dict[Peer, str] = {
    "robot": "with a reset, or with a robot that does not return",
    "learner": "with a disk or an update that does not return",
}
"""What to tell of a peer that does not answer."""

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Connection:
    """A DEALER socket to one server. Made anew for every session, so that nothing of the one before can arrive.

    Attributes:
        sendings: How often the present request was sent.
    """

    def __init__(self, address: str, keys: ClientKeys | None = None, *, peer: Peer = "robot") -> None:
        self.address, self._peer = address, peer
        self.sendings = 0
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Nothing is queued for a server that is not there: it would all run when the server comes back.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_REPLY_BYTES)
        self._socket.setsockopt(zmq.SNDHWM, QUEUE_SIZE)
        self._socket.setsockopt(zmq.RCVHWM, QUEUE_SIZE)
        self._socket.setsockopt(zmq.RCVTIMEO, TICK_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        self._socket.setsockopt(zmq.IPV6, "[" in address)
        if keys is not None:
            self._socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
            self._socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.own.public)
            self._socket.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
        self._link = Link(self._socket, address, keys)
        self._socket.connect(address)

    def send(self, frames: list[Buffer]) -> bool:
        """Whether the connection took the message; never waits."""
        try:
            send(self._socket, frames)
        except zmq.Again:
            return False
        self.sendings += 1
        return True

    def exchange(
        self,
        frames: list[Buffer],
        read: Callable[[list[Buffer]], T | None],
        timeout_s: float,
        *,
        period_s: float = 0.0,
    ) -> T:
        """Send until the answer comes; whatever else arrives answers an earlier repetition and is dropped.

        Args:
            frames: The request.
            read: Reads the frames of a message; None if it is not the awaited answer.
            timeout_s: Longest wait in seconds.
            period_s: How long the server needs at least.

        Raises:
            DeadlineError: No answer in time, or the connection broke and did not come back within `LOST_S`.
            RefusedError: The server is there, but one side refuses the other's key.
        """
        started_s = time.monotonic()
        retry_s = FIRST_RETRY_S + period_s
        retry_at_s = started_s + retry_s
        self.sendings = 0
        sent = self.send(frames)
        while True:
            if not sent:
                self._socket.poll(TICK_MS, zmq.POLLOUT)
                sent = self.send(frames)
            try:
                answer = read(receive(self._socket))
                if answer is not None:
                    return answer
            except zmq.Again:
                pass
            except ProtocolError as error:
                logger.warning("%s sent something unreadable: %s", self.address, error)
            self._link.look()
            now_s = time.monotonic()
            if now_s - started_s >= timeout_s:
                raise self._late(f"no answer within {timeout_s:g} s")
            if self._link.reached and not self._link.up and now_s - self._link.down_since_s >= LOST_S:
                raise self._late(f"the connection broke and did not come back for {LOST_S:g} s")
            if now_s >= retry_at_s:
                sent = self.send(frames)
                retry_s *= 2
                retry_at_s = now_s + retry_s

    def _late(self, what: str) -> DeadlineError:
        link = self._link
        if link.up:
            hint = f"the server is there, but busy: {BUSY[self._peer]}"
        elif link.heard:
            hint = "something listens there, but does not speak: a server that hangs, or no robot-rlpd"
        else:
            hint = (
                f"nobody listens there; is the host up, and robot-rlpd {STARTED_BY[self._peer]} {self.address} running?"
            )
        return DeadlineError(what, field=f"{self._peer} at {self.address}", hint=hint)

    def close(self, linger_ms: int = 0) -> None:
        """Close; what was sent has `linger_ms` to leave. Further calls do nothing."""
        if not self._socket.closed:
            self._link.close()
            self._socket.close(linger=linger_ms)
