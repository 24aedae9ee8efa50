"""What became of a client's connection: a server that refuses is told apart from one that is not there."""

from __future__ import annotations

import socket as sockets
import time
from typing import TYPE_CHECKING

import zmq
from zmq.utils.monitor import recv_monitor_message

from robot_rlpd.bridge.refusal import Refusal

if TYPE_CHECKING:
    from robot_rlpd.bridge.security import ClientKeys

EVENTS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
CUTS = 2
"""Handshakes cut off in a row that are no accident."""
PROBE_TIMEOUT_S = 1.0


class Link:
    """Follows the events of one socket.

    Attributes:
        up: Whether the handshake succeeded and the connection stands.
        reached: Whether it ever stood.
        heard: Whether anything accepted a connection.
        down_since_s: Monotonic time at which it last broke, in seconds.
    """

    def __init__(self, socket: zmq.Socket[bytes], address: str, keys: ClientKeys | None) -> None:
        self.up = self.reached = self.heard = False
        self.down_since_s = time.monotonic()
        self._address, self._keys = address, keys
        self._socket = socket
        self._cuts = 0
        self._events = socket.get_monitor_socket(EVENTS)

    def look(self) -> None:
        """Take note of what happened.

        Raises:
            Refusal: Code "key": the server is there, but one side refuses the other's key.
        """
        while self._events.poll(0):
            self._note(zmq.Event(recv_monitor_message(self._events)["event"]))

    def close(self) -> None:
        """Let go of the socket, which is to be closed next."""
        self._socket.disable_monitor()
        self._events.close(linger=0)

    def _note(self, event: zmq.Event) -> None:
        if event == zmq.Event.CONNECTED:
            self.heard = True
        elif event == zmq.Event.HANDSHAKE_SUCCEEDED:
            self.up = self.reached = True
        elif event == zmq.Event.DISCONNECTED:
            if self.up:
                self.down_since_s = time.monotonic()
            self.up = False
        elif event == zmq.Event.HANDSHAKE_FAILED_AUTH:
            own = self._keys.own.public.decode() if self._keys else ""
            raise self._refusal(
                "the server does not know this client's key",
                hint=f"on the robot's computer: robot-rlpd keys allow NAME '{own}'",
            )
        elif not self.reached:  # a restarting server cuts connections too
            self._explain()

    def _explain(self) -> None:
        """A handshake that was cut off: why, is seen from what the server says of itself."""
        self._cuts += 1
        mechanism = probe(self._address, "CURVE") or probe(self._address, "NULL")
        if mechanism == "CURVE" and self._keys is None:
            raise self._refusal(
                "the server asks for keys, and this client came without",
                hint=f"run robot-rlpd keys list on the robot's computer, then here: "
                f"robot-rlpd keys pin {self._address} KEY",
            )
        if mechanism == "CURVE" and self._cuts >= CUTS:
            pinned = self._keys.server.decode() if self._keys else ""
            raise self._refusal(
                "the server has another key than the one pinned here",
                found="not " + pinned,
                hint="if it was really given a new one: robot-rlpd keys pin " + self._address + " KEY",
            )
        if mechanism == "NULL" and self._keys is not None:
            raise self._refusal(
                "the server does not encrypt, and a key is pinned for it",
                hint="serve without --insecure, or forget the key: robot-rlpd keys remove " + self._address,
            )

    def _refusal(self, message: str, *, found: str = "", hint: str) -> Refusal:
        return Refusal("key", message, field=f"robot at {self._address}", found=found, hint=hint)


def probe(address: str, own_mechanism: str) -> str:
    """The mechanism, "CURVE" or "NULL", that a server greets with; empty where it says nothing, as to another one."""
    kind, _, rest = address.partition("://")
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + own_mechanism.encode().ljust(20, b"\0") + bytes(32)
    try:
        if kind == "ipc":
            peer = sockets.socket(sockets.AF_UNIX)
            peer.settimeout(PROBE_TIMEOUT_S)
            peer.connect(rest)
        else:
            host, _, port = rest.rpartition(":")
            peer = sockets.create_connection((host.strip("[]"), int(port)), PROBE_TIMEOUT_S)
        with peer:
            peer.sendall(greeting)
            told = b""
            while len(told) < 32 and (more := peer.recv(64)):
                told += more
    except OSError:
        return ""
    return told[12:32].rstrip(b"\0").decode("ascii", "replace") if told[:1] == b"\xff" else ""
