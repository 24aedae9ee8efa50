"""Who may connect to a server: asks the list of clients for every connection, and notes who was turned away and why."""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import zmq
from zmq.utils import z85

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from robot_rlpd.bridge.security import ServerKeys

ZAP = "inproc://zeromq.zap.01"
DOMAIN = b"robot-rlpd"
TICK_MS = 100
PAUSE_S = 0.02
"""Between two looks at failed handshakes. ZeroMQ keeps more of them meanwhile than it can bring about."""
EVENT = struct.Struct("=HI")
"""Number and value, as a monitor of ZeroMQ packs them."""
QUIET_S = 10.0
"""The same kind of refusal is logged once in this time; all are counted."""
FAILURES: dict[int, str] = {
    zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: "a client that expects another server key",
    zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: "a client without keys where they are needed, or with keys in vain",
}
GARBLED = "something that does not speak the protocol of ZeroMQ"
BROKEN_OFF = "a connection that ended before the handshake did: no keys, or not of robot-rlpd"
EVENTS = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

logger = logging.getLogger(__name__)


class Gatekeeper:
    """Guards one socket from a thread of its own, so that nobody waits for a robot that resets.

    Without it no handshake is completed: whatever fails here, nobody gets in.

    Args:
        socket: The server's, not bound yet.
        keys: None lets everybody in and only watches.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], keys: ServerKeys | None
    ) -> None:
        self.refused = Counter[str]()
        self._keys = keys
        self._logged_s: dict[str, float] = {}
        self._socket = socket
        self._zap: zmq.Socket[bytes] | None = None
        if keys is not None:
            self._zap = context.socket(zmq.REP)
            self._zap.bind(ZAP)
            socket.curve_server = True
            socket.curve_secretkey = keys.own.secret
            socket.zap_domain = DOMAIN
        self._events = socket.get_monitor_socket(EVENTS)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gatekeeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; the guarded socket is to be closed next."""
        self._over.set()
        self._thread.join()
        self._socket.disable_monitor()
        self._events.close(linger=0)
        if self._zap is not None:
            self._zap.close(linger=0)

    def _watch(self) -> None:
        poller = zmq.Poller()
        for each in (self._zap, self._events):
            if each is not None:
                poller.register(each, zmq.POLLIN)
        while not self._over.is_set():
            for ready, _ in poller.poll(TICK_MS):
                if ready == self._zap:
                    ready.send_multipart(self._decide(ready.recv_multipart()))
                else:
                    self._drain()

    def _drain(self) -> None:
        """All events at once, then none for a while: who hammers at the port must not slow the robot down."""
        failed = Counter[str]()
        with contextlib.suppress(zmq.Again):
            while True:
                event, _ = self._events.recv_multipart(zmq.NOBLOCK)
                failed[_reason(*EVENT.unpack(event))] += 1
        for who, times in failed.items():
            self._turn_away(who, times=times)
        self._over.wait(PAUSE_S)

    def _decide(self, request: list[bytes]) -> list[bytes]:
        version, number, _, address, _, mechanism, *credentials = request
        key = z85.encode(credentials[0]) if mechanism == b"CURVE" and credentials else b""
        name = self._clients().get(key, "")
        if not name:
            self._turn_away("a client that is not listed", f"key {key.decode()} from {address.decode()}")
        return [version, number, b"200" if name else b"400", b"" if name else b"not listed", name.encode(), b""]

    def _clients(self) -> dict[bytes, str]:
        try:
            return {} if self._keys is None else self._keys.keyring.clients()
        except (ConfigError, OSError) as error:
            logger.warning("nobody is let in: %s", error)
            return {}

    def _turn_away(self, who: str, details: str = "", *, times: int = 1) -> None:
        self.refused[who] += times
        now_s = time.monotonic()
        if now_s - self._logged_s.get(who, -QUIET_S) >= QUIET_S:
            self._logged_s[who] = now_s
            logger.warning("turned away: %s%s (%d so far)", who, f", {details}" if details else "", self.refused[who])


def _reason(event: int, value: int) -> str:
    return BROKEN_OFF if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL else FAILURES.get(value, GARBLED)
