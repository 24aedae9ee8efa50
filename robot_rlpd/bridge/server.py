"""Serves a robot on the bridge: the socket around `RobotService`."""

from __future__ import annotations

import errno
import logging
import math
from typing import TYPE_CHECKING, Literal

import zmq

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.gatekeeper import Gatekeeper
from robot_rlpd.bridge.keys import Keyring
from robot_rlpd.bridge.security import is_local, server_keys
from robot_rlpd.bridge.service import RobotService
from robot_rlpd.clock import Clock, MonotonicClock
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.robot import Robot

logger = logging.getLogger(__name__)

TICK_MS = 50
"""Longest wait for a request before the watchdog looks and `should_stop` is asked."""
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 1000, 3000
"""Frees connections of peers that vanished; says nothing about whether they still work."""
HANDSHAKE_MS = 5000
"""A connection that has not introduced itself by then is closed."""
QUEUE_SIZE = 64
"""Messages of one peer that may wait in either direction; more are not read, or dropped on the way out."""


class RobotServer:
    """Serves `robot` at `address` to one commander at a time, until told to stop.

    The caller hands the robot over: it is stopped and closed on every way out of `serve_forever`, and on errors here.
    Everything runs in the thread that calls `serve_forever`; while the robot resets, nobody else is answered.

    Args:
        robot: Already opened; pacing is its own business (`PacedRobot`).
        address: `tcp://HOST:PORT` (port 0 takes a free one) or `ipc://PATH`.
        pace: "real" or "fast"; told to clients.
        command_timeout_s: Age of the last command in seconds after which the robot is stopped, and after which
            another commander may take the seat.
        insecure: Serve without encryption wherever it is.
        encrypt: Encrypt also what cannot leave this machine.
        keyring: Holds the own key and the clients that may connect; default the one of this user.
        clock: Measures the age of commands.

    Raises:
        ConfigError: An address that is wrong or in use, a timeout that is not positive, or no key of its own.
    """

    def __init__(
        self,
        robot: Robot,
        address: str,
        *,
        pace: Literal["real", "fast"] = "real",
        command_timeout_s: float = 5.0,
        insecure: bool = False,
        encrypt: bool = False,
        keyring: Keyring | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or MonotonicClock()
        self._service = RobotService(robot, self._clock, pace=pace, command_timeout_s=command_timeout_s)
        try:
            if not (math.isfinite(command_timeout_s) and command_timeout_s > 0):
                raise ConfigError(field="command_timeout_s", found=command_timeout_s, allowed="above 0 s, finite")
            keys = server_keys(address, keyring or Keyring(), insecure=insecure, encrypt=encrypt)
            if keys is None and not is_local(address):
                logger.warning("serving at %s without encryption: anybody who reaches it moves the robot", address)
            self.public_key = "" if keys is None else keys.own.public.decode()
            # A context of its own: when it is terminated, the address is free for the next server.
            self._context = zmq.Context()
            self._socket = self._context.socket(zmq.ROUTER)
            self.gatekeeper = Gatekeeper(self._context, self._socket, keys)
            self._service.turned_away = self.gatekeeper.refused
            try:
                _bind(self._socket, address)
            except BaseException:
                self._close_socket()
                raise
        except BaseException:
            self._service.close()
            raise
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def service(self) -> RobotService:
        """What answers the requests."""
        return self._service

    def serve_forever(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Answer requests until `should_stop()` or an exception; then stop and close the robot and the socket."""
        try:
            while not should_stop():
                self.serve_once()
        finally:
            self.close()

    def serve_once(self) -> None:
        """Wait for one request for at most `TICK_MS`, answer it, and let the watchdog look."""
        began_s = self._clock.now_s()
        try:
            identity, *frames = self._socket.recv_multipart()
            self._service.thawed(self._clock.now_s() - began_s)
            answer = self._service.answer(frames)
            if answer is not None:
                self._socket.send_multipart([identity, *answer], zmq.NOBLOCK)
        except zmq.Again:
            pass
        self._service.watch()

    def close(self) -> None:
        """Stop and close the robot, then the socket; further calls do nothing."""
        if not self._socket.closed:
            try:
                self._service.close()
            finally:
                self._close_socket()

    def _close_socket(self) -> None:
        self.gatekeeper.close()
        self._socket.close(linger=0)
        self._context.term()


def _bind(unbound: zmq.Socket[bytes], address: str) -> None:
    try:
        unbound.setsockopt(zmq.LINGER, 0)
        unbound.setsockopt(zmq.MAXMSGSIZE, wire.MAX_REQUEST_BYTES)
        unbound.setsockopt(zmq.SNDHWM, QUEUE_SIZE)
        unbound.setsockopt(zmq.RCVHWM, QUEUE_SIZE)
        unbound.setsockopt(zmq.RCVTIMEO, TICK_MS)
        unbound.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        unbound.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        unbound.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        unbound.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)
        unbound.setsockopt(zmq.IPV6, "[" in address)
        unbound.bind(address)
    except zmq.ZMQError as error:
        text = "in use: another server is listening there" if error.errno == errno.EADDRINUSE else str(error)
        raise ConfigError(text, field="address", found=address, hint="choose another with --address") from None
