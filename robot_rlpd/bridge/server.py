"""Serves a robot on the bridge: the socket around `RobotService`."""

from __future__ import annotations

import errno
import logging
import math
from typing import TYPE_CHECKING, Literal

import zmq

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.security import check_serving_address, is_local
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
        insecure: Allow addresses that other machines can reach.
        clock: Measures the age of commands.

    Raises:
        ConfigError: An address that is not allowed or in use, or a timeout that is not positive.
    """

    def __init__(
        self,
        robot: Robot,
        address: str,
        *,
        pace: Literal["real", "fast"] = "real",
        command_timeout_s: float = 5.0,
        insecure: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._service = RobotService(robot, clock or MonotonicClock(), pace=pace, command_timeout_s=command_timeout_s)
        try:
            if not (math.isfinite(command_timeout_s) and command_timeout_s > 0):
                raise ConfigError(field="command_timeout_s", found=command_timeout_s, allowed="above 0 s, finite")
            check_serving_address(address, insecure=insecure)
            if not is_local(address):
                logger.warning("serving at %s without encryption: anybody who reaches it moves the robot", address)
            # A context of its own: when it is terminated, the address is free for the next server.
            self._context = zmq.Context()
            self._socket = _bound(self._context, address)
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
        try:
            identity, *frames = self._socket.recv_multipart()
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
                self._socket.close(linger=0)
                self._context.term()


def _bound(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    bound = context.socket(zmq.ROUTER)
    try:
        bound.setsockopt(zmq.LINGER, 0)
        bound.setsockopt(zmq.MAXMSGSIZE, wire.MAX_REQUEST_BYTES)
        bound.setsockopt(zmq.RCVTIMEO, TICK_MS)
        bound.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        bound.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        bound.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)
        bound.setsockopt(zmq.IPV6, "[" in address)
        bound.bind(address)
    except zmq.ZMQError as error:
        bound.close(linger=0)
        context.term()
        text = "in use: another server is listening there" if error.errno == errno.EADDRINUSE else str(error)
        raise ConfigError(text, field="address", found=address, hint="choose another with --address") from None
    return bound
