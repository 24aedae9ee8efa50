"""A served robot as a `Robot`: requests with deadlines, repeated when lost, executed exactly once."""

from __future__ import annotations

import atexit
import logging
import os
import platform
import time
import uuid
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.connection import Connection
from robot_rlpd.bridge.keys import Keyring
from robot_rlpd.bridge.refusal import Refusal, error_of
from robot_rlpd.bridge.results import Results
from robot_rlpd.bridge.security import client_keys
from robot_rlpd.bridge.statistics import Statistics
from robot_rlpd.bridge.templates import step_template
from robot_rlpd.bridge.wire import Refused, Reply, Seen, Stopped, Welcome
from robot_rlpd.errors import (
    ConfigError,
    DeadlineError,
    OutcomeUnknownError,
    ProtocolError,
    RefusedError,
    RobotError,
)
from robot_rlpd.robot import ClosingRobot, StepResult
from robot_rlpd.specs import PolicyContract, RobotSpec, from_builtins, to_builtins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robot_rlpd.bridge.arrays import Buffer
    from robot_rlpd.robot import Action

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 1.0
"""How long `stop` waits for the confirmation."""
LOOK_TIMEOUT_S = 1.0
"""How long `look` waits for an answer."""
GOODBYE_MS = 500
"""How long the goodbye may take to leave after `close`."""
_left: dict[str, str] = {}
"""The last session of this process with each address: the next one replaces it where its goodbye was lost."""


class RemoteRobot(ClosingRobot):
    """Drives a served robot in lock step.

    A lost request is repeated with the same sequence number, which the server executes once. When the answer to a step
    does not come in time the robot is asked to stop and the episode is over; the next `reset` connects anew, also to
    a server that was restarted, provided that it still serves the same contract.

    Args:
        address: `tcp://HOST:PORT` or `ipc://PATH` of the server.
        contract: What the robot has to fit; None takes any robot.
        step_timeout_s: Longest wait for the answer to a step, in seconds beyond one control period.
        reset_timeout_s: Longest wait for a reset, in seconds; it may wait for a person.
        connect_timeout_s: Longest wait for the server when connecting, in seconds.
        client_name: Shown to others that are refused while this one commands; default host and process.
        keyring: Holds the server's key and this machine's own; default the one of this user.
        images: How camera images travel: "raw", or "jpeg", which is lossy and takes about a tenth of the network.

    Attributes:
        statistics: Of the steps as they are seen from here, with the way there and back.

    Raises:
        ConfigError: Not an address, or a key is missing in the keyring.
        DeadlineError: No server answered.
        MismatchError: The robot does not fit `contract`; names the field.
        RefusedError: Another client commands the robot, another protocol version, or a key is refused.
    """

    def __init__(
        self,
        address: str,
        *,
        contract: PolicyContract | None = None,
        step_timeout_s: float = 5.0,
        reset_timeout_s: float = 120.0,
        connect_timeout_s: float = 10.0,
        client_name: str = "",
        keyring: Keyring | None = None,
        images: Literal["raw", "jpeg"] = "raw",
    ) -> None:
        if images not in (wire.RAW, wire.JPEG):
            raise ConfigError(field="images", found=images, allowed="raw, jpeg")
        self._images: str = images
        self._keys = client_keys(address, keyring or Keyring())
        self.address = address
        self._contract = contract
        self._step_timeout_s = step_timeout_s
        self._reset_timeout_s = reset_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._name = client_name or f"{platform.node()}, process {os.getpid()}"
        self._connection: Connection | None = None
        self._session, self._sequence = _left.get(address, ""), 0
        self._stale = False
        self._closed = False
        try:
            self.spec, self.server = self._connect()
            self.statistics = Statistics(self.spec.control_period_s, paced=self._pace == "real")
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)  # who forgets to close must not keep the robot from others until it times out
        # A restarted server has to serve the same again, whatever was asked for at first.
        self._contract = self.spec.contract([s.name for s in self.spec.observation])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Reset the robot, in a new session if the old one is over.

        Raises:
            RobotError: The reset failed, or this robot is closed.
            DeadlineError: No answer within `reset_timeout_s`, or no server to connect to.
            MismatchError: A restarted server serves a robot with another contract.
            RefusedError: Another client commands the robot now.
        """
        try:
            return self._reset(seed, options)
        except Refusal as refusal:
            if refusal.code not in ("session", "sequence"):
                raise
        return self._reset(seed, options)

    def step(self, action: Action) -> StepResult:
        """Step the robot once.

        Raises:
            SpecError: The action was refused by the robot's side; the robot is stopped.
            RobotError: The robot failed or is stopped.
            OutcomeUnknownError: No answer in time, or the server was restarted while it was awaited; the step may or
                may not have been executed.
            RefusedError: The session is over and the step was not executed (the server was restarted before); the next
                reset begins another.
        """
        if self._stale:
            raise RobotError("the session is over", field=self._who, hint="reset it first")
        began_s = time.monotonic()
        if type(action) is not np.ndarray or action.dtype != wire.ACTION_DTYPE:
            action = np.asarray(action, np.float32)
        if action.shape == self._action_shape:
            frames = self._steps.frames(self._sequence + 1, {"action": action})
        else:
            frames = wire.encode_step(self._session, self._sequence + 1, action)  # the robot's side says what is wrong
        self._sequence += 1
        try:
            result = self._result(frames, self._step_timeout_s)
            self.statistics.step(began_s, time.monotonic())
            return result
        except DeadlineError as error:
            raise OutcomeUnknownError(error.message, field=error.field, hint=error.hint) from None
        except Refusal as refusal:
            if refusal.code == "session" and self._connection is not None and self._connection.sendings > 1:
                raise OutcomeUnknownError(refusal.message, field=self._who, hint=refusal.hint) from None
            raise

    def look(self) -> StepResult | None:
        """What the robot sees; while it stands, now. None when no answer comes in time."""
        if self._connection is None:
            return None
        nonce = uuid.uuid4().hex
        request = wire.encode(wire.Look(nonce, observation=True))

        def is_answer(message: wire.AnyMessage) -> bool:
            return isinstance(message, Seen) and message.nonce == nonce

        try:
            seen, _, arrays = self._connection.exchange([request], wire.reader(is_answer), LOOK_TIMEOUT_S)
        except (DeadlineError, RefusedError):  # the next reset tells
            return None
        assert isinstance(seen, Seen)
        observation = {name.removeprefix("observation."): array for name, array in arrays.items()}
        if not all(s.name in observation and observation[s.name].shape == s.shape for s in self.spec.observation):
            return None
        return StepResult(
            observation,
            robot_time_s=seen.robot_time_s,
            frame_times_s=seen.frame_times_s,
            dropped_frames=seen.dropped_frames,
        )

    def stop(self, reason: str) -> None:
        """Stop the robot; a warning is logged when the server does not confirm it."""
        if self._connection is None or not self._session:
            return
        try:
            stop = wire.encode(wire.Stop(self._session, reason))
            self._connection.exchange([stop], wire.reader(_is_stop_answer), STOP_TIMEOUT_S)
        except Exception as error:
            logger.warning("%s: stop was not confirmed: %s", self._who, error)

    def close(self) -> None:
        """Leave the robot to others; the server stops it."""
        atexit.unregister(self.close)
        self._closed = self._stale = True
        if self._connection is not None:
            if self._session:
                self._connection.send([wire.encode(wire.Bye(self._session))])
                _left[self.address] = self._session
            self._connection.close(GOODBYE_MS)
            self._connection = None

    @property
    def _who(self) -> str:
        return f"robot at {self.address}"

    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> StepResult:
        if self._closed:
            raise RobotError("closed", field=self._who)
        if self._stale:
            _, self.server = self._connect()
        header = wire.encode(wire.Reset(self._session, self._sequence + 1, seed, options))
        if len(header) > wire.MAX_REQUEST_BYTES:
            raise ProtocolError(field="options", found=f"{len(header)} B", allowed=f"{wire.MAX_REQUEST_BYTES} B")
        self._sequence += 1
        result = self._result([header], self._reset_timeout_s)
        self.statistics.reset()
        return result

    def _connect(self) -> tuple[RobotSpec, str]:
        """A new socket, so that nothing of the session before can arrive, and a new session."""
        if self._connection is not None:
            self._connection.close()
        self._connection = Connection(self.address, self._keys)
        self._stale = True
        nonce = uuid.uuid4().hex
        contract = None if self._contract is None else to_builtins(self._contract)
        hello = wire.encode(wire.Hello(wire.PROTOCOL_VERSION, self._name, nonce, contract, self._session, self._images))

        def is_answer(message: wire.AnyMessage) -> bool:
            return (isinstance(message, Welcome) and message.nonce == nonce) or (
                isinstance(message, Refused) and message.sequence == 0 and message.nonce in ("", nonce)
            )

        message, _, _ = self._connection.exchange([hello], wire.reader(is_answer), self._connect_timeout_s)
        if isinstance(message, Refused):
            raise error_of(message)
        assert isinstance(message, Welcome)
        spec = from_builtins(message.spec, RobotSpec)
        self._session, self._sequence, self._stale = message.session, 0, False
        self._pace = message.pace
        self._period_s = spec.control_period_s
        self._action_shape = spec.action.low.shape
        self._steps = step_template(message.session, spec.action.size)
        self._results = Results(spec, jpeg=message.images == wire.JPEG)
        return spec, wire.printable(message.server)

    def _result(self, frames: list[Buffer], timeout_s: float) -> StepResult:
        """Exchange a request of the present sequence number for its result."""
        if self._connection is None:
            raise RobotError("closed", field=self._who)
        period_s = self._period_s
        try:
            result, decoded = self._connection.exchange(frames, self._read, timeout_s + period_s, period_s=period_s)
        except BaseException as error:
            # Whether the request was executed is not known: only a new session is sure to be in step.
            self._stale = True
            if isinstance(error, DeadlineError):
                self._connection.send([wire.encode(wire.Stop(self._session, "an answer did not reach the commander"))])
            raise
        self.statistics.repeated += self._connection.sendings - 1
        if result is not None:
            return result
        assert decoded is not None
        message, layout, arrays = decoded
        if isinstance(message, Refused):
            refusal = error_of(message)
            if isinstance(refusal, Refusal):
                self._stale = True
                self._session = "" if refusal.code == "session" else self._session
            raise refusal
        assert isinstance(message, Reply)
        assert layout is not None
        return self._results.result(message, layout, arrays)

    def _read(self, frames: Sequence[Buffer]) -> tuple[StepResult | None, wire.Decoded | None] | None:
        """The awaited answer: a result where it looks like the one before, else decoded."""
        result = self._results.read(frames, self._sequence)
        if result is not None:
            return result, None
        decoded = wire.decode(frames)
        message = decoded[0]
        is_answer = isinstance(message, (Reply, Refused)) and message.sequence == self._sequence
        return (None, decoded) if is_answer else None


def _is_stop_answer(message: wire.AnyMessage) -> bool:
    return isinstance(message, Stopped) or (isinstance(message, Refused) and message.code == "session")
