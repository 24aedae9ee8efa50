"""Serves a robot on the bridge: the socket around `RobotService`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from robot_rlpd.bridge.guarded_socket import GuardedSocket
from robot_rlpd.bridge.service import RobotService
from robot_rlpd.clock import Clock, MonotonicClock
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.bridge.keys import Keyring
    from robot_rlpd.robot import Robot

TICK_MS = 50
"""Longest wait for a request before the watchdog looks and `should_stop` is asked."""


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
            self._socket = GuardedSocket(address, tick_ms=TICK_MS, insecure=insecure, encrypt=encrypt, keyring=keyring)
        except BaseException:
            self._service.close()
            raise
        self._service.turned_away = self._socket.turned_away
        self.address, self.public_key = self._socket.address, self._socket.public_key
        self._closed = False

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
        if (received := self._socket.receive()) is not None:
            identity, frames = received
            self._service.thawed(self._clock.now_s() - began_s)
            malformed = self._service.malformed
            if (answer := self._service.answer(frames)) is not None:
                self._socket.send(identity, answer)
            if self._service.malformed > malformed:
                self._socket.malformed(identity)
        self._service.watch()

    def close(self) -> None:
        """Stop and close the robot, then the socket; further calls do nothing."""
        if not self._closed:
            self._closed = True
            try:
                self._service.close()
            finally:
                self._socket.close()
