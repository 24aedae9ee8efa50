"""The protocol between a served robot and its commander: typed messages, one msgpack header frame, then large arrays.

Written down for implementers in other languages in docs/protocol.md. Nothing on the wire can name code to run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from robot_rlpd.bridge.arrays import NO_ARRAYS, Layout, layout_of, parse_layout
from robot_rlpd.errors import ProtocolError
from robot_rlpd.robot import StepResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from robot_rlpd.bridge.arrays import Buffer

PROTOCOL_VERSION = 2
MAX_REQUEST_BYTES = 1024 * 1024
"""Largest frame that a server accepts."""
MAX_REPLY_BYTES = 64 * 1024 * 1024
"""Largest frame that a client accepts."""
MAX_NAME_LENGTH = 80
ACTION_DTYPE = np.dtype(np.float32)
RAW, JPEG = "raw", "jpeg"
"""How images of 1 or 3 channels travel: as they are, or as a uint8 vector of JPEG bytes of quality 90."""


class Message(msgspec.Struct, tag_field="type", tag=str.lower, omit_defaults=True):
    """A header: a msgpack map with the lower-case class name under "type"; unknown keys are ignored."""


class Hello(Message):
    """First message of a client.

    Attributes:
        version: Protocol version of the client.
        client: Name of the client, for people.
        nonce: Random; a repeated hello with the same nonce is the same hello.
        contract: The policy contract that the robot has to fit, as builtins; None takes any robot.
        replaces: Session of the same client that this one replaces, empty if none.
        images: How camera images are to travel: "raw" or "jpeg" (lossy).
    """

    version: int
    client: str
    nonce: str
    contract: dict[str, Any] | None = None
    replaces: str = ""
    images: str = RAW


class Welcome(Message):
    """The client commands the robot from here on, under `session`; images travel as `images` says."""

    version: int
    nonce: str
    session: str
    server: str
    spec: dict[str, Any]
    fingerprint: str
    pace: str
    command_timeout_s: float
    images: str = RAW


class Reset(Message):
    """Start an episode. Sequence numbers count resets and steps of a session together, from 1, without gaps."""

    session: str
    sequence: int
    seed: int | None = None
    options: dict[str, Any] | None = None


class Step(Message):
    """Apply the array `action` for one control period."""

    session: str
    sequence: int
    arrays: msgspec.Raw = NO_ARRAYS
    packed: bytearray = msgspec.field(default_factory=bytearray)


class Stop(Message):
    """Bring the robot to a standstill; may be repeated. Answered by `Stopped`."""

    session: str
    reason: str = ""


class Bye(Message):
    """The client leaves. Not answered."""

    session: str


class Look(Message):
    """Anybody may ask at any time how it goes, for the newest observation and for the spec; answered by `Seen`."""

    nonce: str
    observation: bool = False
    spec: bool = False


class Reply(Message):
    """Outcome of a reset or a step: arrays `observation.NAME`, `signals.NAME`, and `executed_action` after a step."""

    sequence: int
    robot_time_s: float
    fault: str = ""
    arrays: msgspec.Raw = NO_ARRAYS
    packed: bytearray = msgspec.field(default_factory=bytearray)
    frame_times_s: dict[str, float] = {}
    dropped_frames: tuple[str, ...] = ()
    randomization: dict[str, float] = {}


class Stopped(Message):
    """The robot was asked to stop."""

    session: str


class Seen(Message):
    """Answer to a look: figures by name; spec and arrays `observation.NAME` where they were asked for and exist."""

    nonce: str
    status: dict[str, Any]
    spec: dict[str, Any] | None = None
    arrays: msgspec.Raw = NO_ARRAYS
    packed: bytearray = msgspec.field(default_factory=bytearray)
    robot_time_s: float = 0.0
    frame_times_s: dict[str, float] = {}
    dropped_frames: tuple[str, ...] = ()


class Refused(Message):
    """The request of this sequence number (0: hello, or unreadable) was refused; see `refusal.py` for the codes."""

    code: str
    message: str = ""
    sequence: int = 0
    nonce: str = ""
    field: str = ""
    found: str = ""
    allowed: str = ""
    hint: str = ""


AnyMessage = Hello | Welcome | Reset | Step | Stop | Bye | Look | Reply | Stopped | Seen | Refused
Decoded = tuple[AnyMessage, Layout | None, "dict[str, NDArray[Any]]"]
"""A message, and the layout and arrays that came with it."""
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage) -> bytes:
    """The header frame.

    Raises:
        ProtocolError: A value that has no place in a message.
    """
    try:
        return _encoder.encode(message)
    except (TypeError, OverflowError, ValueError, RecursionError) as error:
        raise ProtocolError(f"cannot be sent: {error}", allowed="numbers, strings, lists and dicts of them") from None


def encode_step(session: str, sequence: int, action: NDArray[np.float32]) -> list[Buffer]:
    """The frames of a step."""
    arrays = {"action": action}
    layout = layout_of(arrays)
    return [encode(Step(session, sequence, layout.table, layout.pack(arrays))), *layout.frames(arrays)]


def encode_reply(sequence: int, result: StepResult, arrays: Mapping[str, NDArray[Any]]) -> list[Buffer]:
    """The frames of a reply.

    Args:
        sequence: Of the request.
        result: What the robot returned.
        arrays: Those of the result, by their names on the wire.

    Raises:
        ProtocolError: An array that must not be sent.
    """
    layout = layout_of(arrays)
    reply = Reply(
        sequence,
        float(result.robot_time_s),
        result.fault,
        layout.table,
        layout.pack(arrays),
        result.frame_times_s,
        result.dropped_frames,
        result.randomization,
    )
    return [encode(reply), *layout.frames(arrays)]


def encode_seen(
    nonce: str, status: dict[str, Any], spec: dict[str, Any] | None, result: StepResult | None
) -> list[Buffer]:
    """The frames of an answer to a look, with the observation of a result where there is one."""
    result = result or StepResult({})
    arrays = {f"observation.{name}": array for name, array in result.observation.items()}
    layout = layout_of(arrays)
    times = float(result.robot_time_s), result.frame_times_s, result.dropped_frames
    seen = Seen(nonce, status, spec, layout.table, layout.pack(arrays), *times)
    return [encode(seen), *layout.frames(arrays)]


def decode(frames: Sequence[Buffer]) -> Decoded:
    """The message, and the layout and arrays that came with it.

    Raises:
        ProtocolError: Anything that is not a message of this protocol, whatever the bytes.
    """
    if not frames:
        raise ProtocolError("no header frame")
    try:
        message: AnyMessage = _decoder.decode(frames[0])
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"not a message of protocol version {PROTOCOL_VERSION}: {error}") from None
    if isinstance(message, (Step, Reply, Seen)):
        layout = parse_layout(message.arrays)
        return message, layout, layout.unpack(message.packed, frames[1:] if len(frames) > 1 else ())
    if len(frames) != 1:
        raise ProtocolError(field="frames", found=f"{len(frames)}", allowed="1")
    return message, None, {}


def reader(is_answer: Callable[[AnyMessage], bool]) -> Callable[[Sequence[Buffer]], Decoded | None]:
    """Decodes frames, and lets an awaited answer pass."""

    def read(frames: Sequence[Buffer]) -> Decoded | None:
        decoded = decode(frames)
        return decoded if is_answer(decoded[0]) else None

    return read


def printable(text: str) -> str:
    """A name from the other side, fit to be logged and shown."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_NAME_LENGTH])
