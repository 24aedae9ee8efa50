"""The protocol between an actor and its learner: episodes one way, policies the other, in parts of bounded size.

Every request stands for itself and may be repeated: the answer says how far its episode or policy has come. A header
frame like those of `wire.py`, then at most one frame of data. Written down in docs/protocol.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from robot_rlpd.bridge.wire import Look, Message, Refused, Seen
from robot_rlpd.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from robot_rlpd.bridge.arrays import Buffer

PROTOCOL_VERSION = 1
PART_BYTES = 512 * 1024
"""Largest part of an episode or a policy in one message."""
MAX_EPISODE_BYTES = 2 * 1024**3
MAX_POLICY_BYTES = 256 * 1024**2


class Offer(Message):
    """An actor has an episode; answered by `Wanted`.

    Attributes:
        request: Random; returned with the answer.
        version: Protocol version of the actor.
        actor: Its name.
        uuid: Of the episode.
        size: Bytes of the encoded episode.
        digest: SHA-256 (hex) of them.
    """

    request: str
    version: int
    actor: str
    uuid: str
    size: int
    digest: str


class Part(Message):
    """Bytes of an offered episode from `offset` on, in the data frame; answered by `Wanted`."""

    request: str
    actor: str
    uuid: str
    offset: int


class Ask(Message):
    """Which policy to act with; answered by `Current`.

    Attributes:
        request: Random; returned with the answer.
        version: Protocol version of the actor.
        actor: Its name.
        spec: What its robot observes and accepts, as builtins.
        acting: Digest of the policy that acts now, empty for random actions.
        rejected: Digest of a policy that the actor did not take, empty if none.
        reason: Why not.
        pending: Episodes that wait to be delivered.
    """

    request: str
    version: int
    actor: str
    spec: dict[str, Any]
    acting: str = ""
    rejected: str = ""
    reason: str = ""
    pending: int = 0


class Fetch(Message):
    """Bytes of the policy with this digest from `offset` on; answered by `Piece`."""

    request: str
    digest: str
    offset: int


class Wanted(Message):
    """The learner has `offset` bytes of the episode; `stored`: all of it is on its disk and may be forgotten."""

    request: str
    uuid: str
    offset: int
    stored: bool = False


class Current(Message):
    """The newest policy; an empty digest if there is none yet."""

    request: str
    number: int = 0
    digest: str = ""
    size: int = 0


class Piece(Message):
    """A part of a policy, in the data frame; an empty one if there is a newer policy by now."""

    request: str
    digest: str
    offset: int


AnyMessage = Offer | Part | Ask | Fetch | Wanted | Current | Piece | Look | Seen | Refused
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage, data: Buffer | None = None) -> list[Buffer]:
    """The frames of a message."""
    return [_encoder.encode(message)] if data is None else [_encoder.encode(message), data]


def decode(frames: Sequence[Buffer]) -> tuple[AnyMessage, Buffer]:
    """The message and its data.

    Raises:
        ProtocolError: Anything that is not a message of this protocol, whatever the bytes.
    """
    if not 1 <= len(frames) <= 2:
        raise ProtocolError(field="frames", found=str(len(frames)), allowed="1 or 2")
    try:
        message: AnyMessage = _decoder.decode(frames[0])
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"not a message of version {PROTOCOL_VERSION}: {error}") from None
    return message, frames[1] if len(frames) == 2 else b""


def reader(request: str) -> Callable[[Sequence[Buffer]], tuple[AnyMessage, Buffer] | None]:
    """Decodes frames, and lets the answer to one request pass."""

    def read(frames: Sequence[Buffer]) -> tuple[AnyMessage, Buffer] | None:
        message, data = decode(frames)
        if isinstance(message, Refused):
            return (message, data) if message.nonce == request else None
        answers = isinstance(message, (Wanted, Current, Piece)) and message.request == request
        return (message, data) if answers else None

    return read
