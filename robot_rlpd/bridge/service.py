"""What a robot's server answers, free of sockets: the one commander's seat, exactly-once steps, and the watchdog."""

from __future__ import annotations

import logging
import math
import platform
import uuid
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.arrays import Buffer
from robot_rlpd.bridge.refusal import Refusal, refused
from robot_rlpd.bridge.replies import Replies
from robot_rlpd.bridge.statistics import Statistics
from robot_rlpd.bridge.templates import Template, step_template
from robot_rlpd.bridge.wire import Bye, Hello, Look, Reset, Step, Stop
from robot_rlpd.errors import ProtocolError, RobotError, RobotRlpdError
from robot_rlpd.safety import SafeRobot
from robot_rlpd.specs import PolicyContract, check_contract, from_builtins, to_builtins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from robot_rlpd.clock import Clock
    from robot_rlpd.robot import Robot, StepResult

logger = logging.getLogger(__name__)
_NO_ACTION = np.empty(0, np.float32)
LOOK_PERIOD_S = 0.05
"""A robot that stands is looked at so often at most, however many ask [s]."""


@dataclass
class _Seat:
    """The commander: who it is, how far it came, and the last answer in case it is asked for again."""

    client: str
    nonce: str
    session: str
    welcome: list[Buffer]
    steps: Template
    replies: Replies
    sequence: int = 0
    reply: list[Buffer] | None = None


class RobotService:
    """Answers requests for one robot. Used from one thread; `close` leaves the robot stopped and closed.

    A request with the sequence number of the last one is a repetition: it gets the same answer again and nothing is
    executed. The only other number that is accepted is the next. Any error of the robot stops it; then only a reset
    brings it back. A robot that is not wrapped in `SafeRobot` is wrapped here.

    Attributes:
        turned_away: Connections refused, by reason; kept by the socket.
        malformed: Messages that could not be read.
    """

    def __init__(self, robot: Robot, clock: Clock, *, pace: str, command_timeout_s: float) -> None:
        self.robot = robot if isinstance(robot, SafeRobot) else SafeRobot(robot)
        self.statistics = Statistics(robot.spec.control_period_s, paced=pace == "real")
        self.turned_away = Counter[str]()
        self.malformed = 0
        self._clock = clock
        self._pace = pace
        self._command_timeout_s = command_timeout_s
        self._who = f"robot '{robot.spec.name}'"
        self._seat: _Seat | None = None
        self._halted = "not reset yet"
        self._newest: StepResult | None = None
        self._started_s = self._last_command_s = clock.now_s()
        self._looked_s = -math.inf

    @property
    def commander(self) -> str:
        """Name of the client in the seat, empty if none."""
        return self._seat.client if self._seat else ""

    def answer(self, frames: Sequence[Buffer]) -> list[Buffer] | None:
        """The frames to send back to whoever sent these; None for silence. Never raises for what a client sent."""
        seat = self._seat
        try:
            if seat is not None and (step := seat.steps.read(frames, seat.sequence + 1)) is not None:
                return self._obey(seat, seat.sequence + 1, action=step[1]["action"])
            message, _, arrays = wire.decode(frames)
        except ProtocolError as error:
            self.malformed += 1
            return self._refuse(error, sequence=0)
        sequence, nonce = 0, ""
        try:
            if isinstance(message, (Step, Reset)):
                sequence = message.sequence
                return self._command(message, arrays)
            if isinstance(message, Hello):
                nonce = message.nonce
                return self._welcome(message)
            if isinstance(message, Stop):
                self._seat_of(message.session)
                self._halt(f"{self.commander}: {wire.printable(message.reason)}")
                return [wire.encode(wire.Stopped(message.session))]
            if isinstance(message, Bye):
                self._seat_of(message.session)
                self._leave("the commander left")
                return None
            if isinstance(message, Look):
                spec = to_builtins(self.robot.spec) if message.spec else None
                seen = self._seen() if message.observation else None
                return wire.encode_seen(message.nonce, self.status(), spec, seen)
            raise ProtocolError("not a request", found=type(message).__name__.lower())
        except RobotRlpdError as error:
            return self._refuse(error, sequence=sequence, nonce=nonce)

    def status(self) -> dict[str, Any]:
        """What `bridge status --json` prints, see docs/json.md."""
        spec, seat = self.robot.spec, self._seat
        return {
            "robot": spec.name,
            "host": platform.node(),
            "version": metadata.version("robot-rlpd"),
            "protocol": wire.PROTOCOL_VERSION,
            "fingerprint": spec.fingerprint,
            "pace": self._pace,
            "control_rate_hz": spec.control_rate_hz,
            "command_timeout_s": self._command_timeout_s,
            "up_s": round(self._clock.now_s() - self._started_s, 3),
            "commander": seat.client if seat else None,
            "last_command_s": round(self._idle_s(), 3) if seat else None,
            "halted": self._halted,
            **self.statistics.to_json(),
            **self.robot.counts.to_json(),
            "turned_away": dict(self.turned_away.copy()),
        }

    def watch(self) -> None:
        """Stop the robot when the last command is too old; to be called often."""
        if self._seat and not self._halted and self._idle_s() > self._command_timeout_s:
            logger.warning("%s: no command from %s, stopping", self._who, self.commander)
            self._halt(f"no command for {self._command_timeout_s:g} s")

    def thawed(self, frozen_s: float) -> None:
        """End the session after this process was frozen for so long: what waited meanwhile is too old to obey."""
        if self._seat is not None and frozen_s > self._command_timeout_s:
            logger.warning("%s: this process did not run for %.1f s, the session is over", self._who, frozen_s)
            self._leave(f"its server was frozen for {frozen_s:.1f} s")

    def close(self) -> None:
        """Stop and close the robot."""
        self._leave("the server is closing")
        self.robot.close()

    def _welcome(self, hello: Hello) -> list[Buffer]:
        if hello.version != wire.PROTOCOL_VERSION:
            raise Refusal(
                "version",
                "another protocol version",
                field="version",
                found=str(hello.version),
                allowed=str(wire.PROTOCOL_VERSION),
                hint="install the same version of robot-rlpd on both sides",
            )
        seat = self._seat
        if seat and seat.nonce == hello.nonce:
            return seat.welcome
        if seat and seat.session != hello.replaces and self._idle_s() <= self._command_timeout_s:
            raise Refusal(
                "seat",
                f"{self._who} is commanded by '{seat.client}'",
                found=wire.printable(hello.client),
                allowed="one commander at a time",
                hint="end the other one first",
            )
        if hello.contract is not None:
            check_contract(from_builtins(hello.contract, PolicyContract), self.robot.spec, who=self._who)
        self._leave("another session begins")
        kind = wire.JPEG if hello.images == wire.JPEG else wire.RAW
        welcome = wire.Welcome(
            wire.PROTOCOL_VERSION,
            hello.nonce,
            uuid.uuid4().hex,
            platform.node(),
            to_builtins(self.robot.spec),
            self.robot.spec.fingerprint,
            self._pace,
            self._command_timeout_s,
            kind,
        )
        client = wire.printable(hello.client)
        replies = Replies(self.robot.spec, jpeg=kind == wire.JPEG)
        steps = step_template(welcome.session, self.robot.spec.action.size)
        self._seat = _Seat(client, hello.nonce, welcome.session, [wire.encode(welcome)], steps, replies)
        self._last_command_s = self._clock.now_s()
        logger.info("%s: commanded by %s", self._who, client)
        return self._seat.welcome

    def _command(self, message: Reset | Step, arrays: dict[str, NDArray[Any]]) -> list[Buffer]:
        seat = self._seat_of(message.session)
        if message.sequence != seat.sequence + 1:
            if message.sequence == seat.sequence and seat.reply is not None:
                self.statistics.repeated += 1
                return seat.reply
            raise Refusal("sequence", field="sequence", found=str(message.sequence), allowed=str(seat.sequence + 1))
        if isinstance(message, Reset):
            return self._obey(seat, message.sequence, reset=message)
        return self._obey(seat, message.sequence, action=arrays.get("action", _NO_ACTION))

    def _obey(
        self, seat: _Seat, sequence: int, *, action: NDArray[Any] = _NO_ACTION, reset: Reset | None = None
    ) -> list[Buffer]:
        """Carry out the next command of the commander: a reset, else a step."""
        self.watch()  # a command that waited longer than the limit must not be obeyed
        seat.sequence, seat.reply = sequence, None
        seat.reply = self._execute(seat, action, reset)
        self._last_command_s = self._clock.now_s()
        return seat.reply

    def _execute(self, seat: _Seat, action: NDArray[Any], reset: Reset | None) -> list[Buffer]:
        try:
            if reset is not None:
                result = self.robot.reset(seed=reset.seed, options=reset.options)
                self._halted = ""
                self.statistics.reset()
            else:
                if self._halted:
                    raise RobotError(f"stopped: {self._halted}", field=self._who, hint="reset it first")
                began_s = self._clock.now_s()
                result = self.robot.step(action)
                self.statistics.step(began_s, self._clock.now_s())
            self._newest = result
            reply = seat.replies.encode(seat.sequence, result)
        except RobotRlpdError as error:
            if not self._halted or reset is not None:
                self._halt(str(error))
            return self._refuse(error, sequence=seat.sequence)
        except Exception as error:
            # A driver's own exceptions are faults of the robot, not of the server.
            logger.exception("%s failed", self._who)
            self._halt(f"{type(error).__name__}: {error}")
            return self._refuse(RobotError(self._halted, field=self._who), sequence=seat.sequence)
        if result.fault:
            self._halt(result.fault)
        return reply

    def _seen(self) -> StepResult | None:
        """What a robot that stands sees now, if it tells; otherwise the newest observation."""
        now_s = self._clock.now_s()
        if self._halted and now_s - self._looked_s >= LOOK_PERIOD_S:
            self._looked_s = now_s
            try:
                self._newest = self.robot.look() or self._newest
            except Exception:
                logger.exception("%s could not be looked at", self._who)
        return self._newest

    def _refuse(self, error: RobotRlpdError, *, sequence: int, nonce: str = "") -> list[Buffer]:
        message = refused(error, sequence=sequence, nonce=nonce)
        self.statistics.refused[message.code] += 1
        return [wire.encode(message)]

    def _seat_of(self, session: str) -> _Seat:
        if self._seat is None or self._seat.session != session:
            raise Refusal(
                "session",
                f"this session with {self._who} is over",
                hint="the server was restarted, or another "
                f"commander came after {self._command_timeout_s:g} s of silence; a reset begins a new session",
            )
        return self._seat

    def _leave(self, reason: str) -> None:
        if self._seat is not None:
            self._halt(reason)
            self._seat = None

    def _halt(self, reason: str) -> None:
        self._halted = reason or "stopped"
        try:
            self.robot.stop(self._halted)
        except Exception:
            logger.exception("%s could not be stopped", self._who)

    def _idle_s(self) -> float:
        return self._clock.now_s() - self._last_command_s
