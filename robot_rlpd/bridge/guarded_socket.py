"""The socket of a server: bound, guarded, and with limits."""

from __future__ import annotations

import errno
import logging
from collections import Counter
from typing import TYPE_CHECKING

import zmq

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.frames import MORE, receive, send
from robot_rlpd.bridge.gatekeeper import Gatekeeper
from robot_rlpd.bridge.keys import Keyring
from robot_rlpd.bridge.security import is_local, server_keys
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from robot_rlpd.bridge.arrays import Buffer

logger = logging.getLogger(__name__)

HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 1000, 3000
"""Frees connections of peers that vanished; says nothing about whether they still work."""
HANDSHAKE_MS = 5000
"""A connection that has not introduced itself by then is closed."""
QUEUE_SIZE = 64
"""Messages of one peer that may wait in either direction; more are not read, or dropped on the way out."""
IO_THREADS = 2
"""A new connection goes to the less busy one: a commander need not share his with whoever hammers at the port."""
MOST_MALFORMED = 20
"""Malformed messages after which a connection is not listened to any more."""
MOST_REMEMBERED = 1000
"""Connections of which malformed messages are counted."""


class GuardedSocket:
    """A ROUTER socket in a context of its own: when it is closed, the address is free for the next server.

    Args:
        address: `tcp://HOST:PORT` (port 0 takes a free one) or `ipc://PATH`.
        tick_ms: Longest wait of `receive`.
        insecure: Do not encrypt wherever it is.
        encrypt: Encrypt also what cannot leave this machine.
        keyring: Holds the own key and the clients that may connect; default the one of this user.
        max_frame_bytes: A peer that sends a larger frame loses its connection.

    Attributes:
        address: Where it listens, with the port that was taken.
        public_key: Of this server; empty where it does not encrypt.

    Raises:
        ConfigError: An address that is wrong or in use, or no key of its own.
    """

    def __init__(
        self,
        address: str,
        *,
        tick_ms: int,
        insecure: bool = False,
        encrypt: bool = False,
        keyring: Keyring | None = None,
        max_frame_bytes: int = wire.MAX_REQUEST_BYTES,
    ) -> None:
        keys = server_keys(address, keyring or Keyring(), insecure=insecure, encrypt=encrypt)
        if keys is None and not is_local(address):
            logger.warning("serving at %s without encryption: anybody who reaches it is let in", address)
        self.public_key = "" if keys is None else keys.own.public.decode()
        self._context = zmq.Context(IO_THREADS)
        self._socket = self._context.socket(zmq.ROUTER)
        self._gatekeeper = Gatekeeper(self._context, self._socket, keys)
        options = {
            zmq.LINGER: 0,
            zmq.MAXMSGSIZE: max_frame_bytes,
            zmq.SNDHWM: QUEUE_SIZE,
            zmq.RCVHWM: QUEUE_SIZE,
            zmq.RCVTIMEO: tick_ms,
            zmq.HANDSHAKE_IVL: HANDSHAKE_MS,
            zmq.HEARTBEAT_IVL: HEARTBEAT_MS,
            zmq.HEARTBEAT_TIMEOUT: HEARTBEAT_TIMEOUT_MS,
            zmq.HEARTBEAT_TTL: HEARTBEAT_TIMEOUT_MS,
            zmq.IPV6: int("[" in address),
        }
        try:
            for option, value in options.items():
                self._socket.setsockopt(option, value)
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            text = "in use: another server is listening there" if error.errno == errno.EADDRINUSE else str(error)
            hint = "choose another with --address (--listen of train)"
            raise ConfigError(text, field="address", found=address, hint=hint) from None
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._malformed = Counter[bytes]()

    @property
    def turned_away(self) -> Counter[str]:
        """Connections refused, by reason."""
        return self._gatekeeper.refused

    def receive(self) -> tuple[bytes, list[Buffer]] | None:
        """Who sent what, or None after a tick without a message that is worth reading."""
        try:
            identity, frames = self._socket.recv(), receive(self._socket)
        except zmq.Again:
            return None
        return None if self._malformed.get(identity, 0) >= MOST_MALFORMED else (identity, frames)

    def has_message(self) -> bool:
        """Whether `receive` would not have to wait."""
        return bool(self._socket.poll(0))

    def malformed(self, identity: bytes) -> None:
        """This peer sent something that cannot be read; too much of it, and nothing from it is read any more."""
        if len(self._malformed) >= MOST_REMEMBERED:
            self._malformed.clear()
        self._malformed[identity] += 1

    def send(self, identity: bytes, frames: list[Buffer]) -> None:
        """Answer, unless the one who asked is gone or does not read."""
        try:
            self._socket.send(identity, MORE)
            send(self._socket, frames)
        except zmq.Again:
            logger.debug("an answer was dropped: its receiver does not read")

    def close(self) -> None:
        """Stop listening; further calls do nothing."""
        if not self._socket.closed:
            self._gatekeeper.close()
            self._socket.close(linger=0)
            self._context.term()
