"""Policies on their way from the learner to its actors: the newest one only, whole or not at all."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robot_rlpd.bridge import actor_wire
from robot_rlpd.bridge.actor_wire import MAX_POLICY_BYTES, PART_BYTES, Ask, Current, Fetch, Piece
from robot_rlpd.bridge.refusal import error_of
from robot_rlpd.bridge.wire import Refused
from robot_rlpd.errors import ProtocolError

if TYPE_CHECKING:
    from robot_rlpd.bridge.actor_wire import AnyMessage
    from robot_rlpd.bridge.arrays import Buffer
    from robot_rlpd.bridge.connection import Connection


@dataclass(frozen=True)
class PublishedPolicy:
    """A policy file.

    Attributes:
        number: Counts up with training; 0 if there is none yet.
        content: The bytes of the file.
    """

    number: int = 0
    content: bytes = b""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the file; empty if there is none."""
        return hashlib.sha256(self.content).hexdigest() if self.content else ""


class Shelf:
    """The learner's side: holds the newest policy. Replaced from one thread, asked from another."""

    def __init__(self) -> None:
        self._newest = PublishedPolicy(), ""

    @property
    def newest(self) -> PublishedPolicy:
        """What actors get now."""
        return self._newest[0]

    def publish(self, policy: PublishedPolicy) -> None:
        """Give actors this one from now on."""
        self._newest = policy, policy.digest

    def current(self, message: Ask) -> Current:
        """What there is."""
        policy, digest = self._newest
        return Current(message.request, policy.number, digest, len(policy.content))

    def fetch(self, message: Fetch) -> tuple[Piece, bytes]:
        """A part of it; none of a policy that is not the newest any more."""
        policy, digest = self._newest
        start = max(0, message.offset)
        data = policy.content[start : start + PART_BYTES] if message.digest == digest else b""
        return Piece(message.request, message.digest, message.offset), data


def fetch_policy(connection: Connection, ask: Ask, *, timeout_s: float) -> PublishedPolicy | None:
    """The newest policy if it is another than the one that acts or was rejected; None if not.

    Raises:
        DeadlineError: The learner does not answer.
        RefusedError: The learner refuses this actor.
        MismatchError: The robot does not fit what is trained; names the field.
    """
    current, _ = _exchange(connection, ask, timeout_s)
    if not isinstance(current, Current):
        raise ProtocolError("not the answer to a question about policies", found=type(current).__name__.lower())
    if current.digest in ("", ask.acting, ask.rejected):
        return None
    if not 0 < current.size <= MAX_POLICY_BYTES:
        raise ProtocolError(field="size", found=str(current.size), allowed=f"1 to {MAX_POLICY_BYTES} B")
    content = bytearray()
    while len(content) < current.size:
        piece, data = _exchange(connection, Fetch(uuid.uuid4().hex, current.digest, len(content)), timeout_s)
        if not isinstance(piece, Piece) or not data:
            return None  # there is a newer one by now
        content += data
    policy = PublishedPolicy(current.number, bytes(content))
    if policy.digest != current.digest:
        raise ProtocolError("the policy is not the one that was announced", field="digest", found=policy.digest)
    return policy


def _exchange(connection: Connection, message: Ask | Fetch, timeout_s: float) -> tuple[AnyMessage, Buffer]:
    answer, data = connection.exchange(actor_wire.encode(message), actor_wire.reader(message.request), timeout_s)
    if isinstance(answer, Refused):
        raise error_of(answer)
    return answer, data
