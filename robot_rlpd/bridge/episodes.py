"""Episodes on their way from an actor to the learner, exactly once: told by UUID, acknowledged when durable."""

from __future__ import annotations

import hashlib
import logging
import uuid as uuids
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from robot_rlpd.bridge import actor_wire
from robot_rlpd.bridge.actor_wire import MAX_EPISODE_BYTES, PART_BYTES, Offer, Part, Wanted
from robot_rlpd.bridge.episode_codec import decode_episode
from robot_rlpd.bridge.refusal import Refusal, error_of
from robot_rlpd.bridge.wire import Refused, printable
from robot_rlpd.episode import Episode
from robot_rlpd.errors import DataError, ProtocolError, RobotRlpdError, SpecError, StoreError
from robot_rlpd.specs import PolicyContract, check_contract

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.bridge.arrays import Buffer
    from robot_rlpd.bridge.connection import Connection
    from robot_rlpd.bridge.outbox import Outbox

logger = logging.getLogger(__name__)
STORING_S = 1.0
"""How long the learner may take to bring an episode to its disk before the last part is sent again."""
MAX_UNFINISHED = 16
"""Episodes of which the learner holds parts in memory at a time."""
MAX_COMPLETE, MAX_COMPLETE_BYTES = 64, 64 * 2**20
"""So many complete episodes, or so many bytes of them, are brought to the disk together at most."""


def deliver(connection: Connection, outbox: Outbox, uuid: str, *, actor: str, timeout_s: float) -> None:
    """Bring one episode to the learner's disk, then forget it here.

    An episode that the learner refuses for what it holds is set aside in the outbox, with a warning.

    Raises:
        DeadlineError: The learner does not answer; the episode stays.
        RefusedError: The learner takes nothing from this actor (key, version), or was restarted meanwhile.
        StoreError: The learner's disk is full; the episode stays.
    """
    data = outbox.read(uuid)
    size, digest = len(data), hashlib.sha256(data).hexdigest()
    offer = Offer(uuids.uuid4().hex, actor_wire.PROTOCOL_VERSION, actor, uuid, size, digest)
    try:
        wanted = _ask(connection, offer, None, timeout_s)
        while not wanted.stored:
            part = memoryview(data)[wanted.offset : wanted.offset + PART_BYTES]
            if not part:
                raise ProtocolError("the learner wants more than there is", field=uuid, found=str(wanted.offset))
            wanted = _ask(connection, Part(uuids.uuid4().hex, actor, uuid, wanted.offset), part, timeout_s)
    except StoreError:  # nothing is wrong with the episode: the learner's disk may be full
        raise
    except (SpecError, DataError, ProtocolError) as error:
        logger.warning("the learner refuses an episode, it stays in %s: %s", outbox.set_aside(uuid), error)
        return
    outbox.forget(uuid)


def _ask(connection: Connection, message: Offer | Part, data: Buffer | None, timeout_s: float) -> Wanted:
    read = actor_wire.reader(message.request)
    answer, _ = connection.exchange(actor_wire.encode(message, data), read, timeout_s, period_s=STORING_S)
    if isinstance(answer, Refused):
        raise error_of(answer)
    if not isinstance(answer, Wanted):
        raise ProtocolError("not the answer to an episode", found=type(answer).__name__.lower())
    return answer


@dataclass
class _Unfinished:
    size: int
    digest: str
    data: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True)
class _Complete:
    episode: Episode
    size: int
    actor: str


@dataclass(frozen=True)
class Stored:
    """What became of a complete episode.

    Attributes:
        size: Its bytes on the wire.
        actor: Name of the actor that it came from.
        error: Why it is not on the disk now; None if it is.
    """

    size: int
    actor: str
    error: RobotRlpdError | None = None


class Inbox:
    """The learner's side: puts parts together, checks and stores each episode once.

    Complete episodes wait for `commit`, because to bring many to the disk costs hardly more than to bring one.

    Args:
        contract: What an episode has to fit.
        is_stored: Whether an episode is on the disk already.
        store: Brings episodes to the disk; leaves out those that are there already.
        received: Told of each new episode after it is durable.
    """

    def __init__(
        self,
        contract: PolicyContract,
        *,
        is_stored: Callable[[str], bool],
        store: Callable[[list[Episode]], int],
        received: Callable[[Episode], None],
    ) -> None:
        self._contract = contract
        self._is_stored, self._store, self._received = is_stored, store, received
        self._unfinished: dict[str, _Unfinished] = {}
        self._complete: dict[str, _Complete] = {}
        self.num_episodes = self.num_steps = self.num_repeated = 0

    @property
    def is_full(self) -> bool:
        """Whether so much waits for a commit that no more should be taken before it."""
        size = sum(each.size for each in self._complete.values())
        return len(self._complete) >= MAX_COMPLETE or size >= MAX_COMPLETE_BYTES

    def offer(self, message: Offer) -> Wanted | None:
        """How much of an episode is here; None of one that waits for a commit.

        Raises:
            Refusal: Another protocol version.
            ProtocolError: An impossible size.
        """
        if message.version != actor_wire.PROTOCOL_VERSION:
            raise Refusal(
                "version",
                "another protocol version",
                found=str(message.version),
                allowed=str(actor_wire.PROTOCOL_VERSION),
                hint="install the same version of robot-rlpd on both sides",
            )
        if self._is_stored(message.uuid):
            self.num_repeated += 1
            return Wanted(message.request, message.uuid, message.size, stored=True)
        if message.uuid in self._complete:
            return None
        if not 0 < message.size <= MAX_EPISODE_BYTES:
            raise ProtocolError(field="size", found=str(message.size), allowed=f"1 to {MAX_EPISODE_BYTES} B")
        known = self._unfinished.get(message.uuid)
        if known is None or (known.size, known.digest) != (message.size, message.digest):
            while len(self._unfinished) >= MAX_UNFINISHED:
                del self._unfinished[next(iter(self._unfinished))]
            known = self._unfinished[message.uuid] = _Unfinished(message.size, message.digest)
        return Wanted(message.request, message.uuid, len(known.data))

    def part(self, message: Part, data: Buffer) -> Wanted | None:
        """Take a part; None after the last one: the episode waits for a commit.

        Raises:
            Refusal: The episode was not offered: offer it again.
            ProtocolError: The bytes are not those that were offered, or no episode.
            MismatchError: The episode was recorded with another contract; names the field.
            DataError: The episode does not follow its own spec.
        """
        if message.uuid in self._complete:
            return None
        if self._is_stored(message.uuid):
            self.num_repeated += 1
            return Wanted(message.request, message.uuid, message.offset + len(data), stored=True)
        known = self._unfinished.get(message.uuid)
        if known is None:
            raise Refusal("session", "no such episode was offered", hint="offer it again: the learner was restarted")
        if message.offset != len(known.data):  # a repetition
            return Wanted(message.request, message.uuid, len(known.data))
        known.data += data
        if len(known.data) < known.size:
            return Wanted(message.request, message.uuid, len(known.data))
        del self._unfinished[message.uuid]
        if len(known.data) != known.size or hashlib.sha256(known.data).hexdigest() != known.digest:
            raise ProtocolError("the bytes are not those that were offered", field=printable(message.uuid))
        episode = decode_episode(known.data)
        if episode.info.uuid != message.uuid:
            raise ProtocolError(field="uuid", found=printable(episode.info.uuid), allowed=printable(message.uuid))
        check_contract(self._contract, episode.spec, who=f"the robot of actor '{printable(message.actor)}'")
        self._complete[message.uuid] = _Complete(episode, known.size, message.actor)
        return None

    def commit(self) -> dict[str, Stored]:
        """Bring all complete episodes to the disk; what became of each, by UUID.

        Where they cannot be stored together each is tried for itself, so that one does not hold up the others.
        """
        waiting, self._complete = self._complete, {}
        if not waiting:
            return {}
        errors: dict[str, RobotRlpdError] = {}
        try:
            self._store([each.episode for each in waiting.values()])
        except RobotRlpdError as error:
            for uuid, each in waiting.items():
                errors |= {uuid: error} if len(waiting) == 1 else self._store_alone(uuid, each.episode)
        for uuid, each in waiting.items():
            if uuid not in errors:
                self.num_episodes += 1
                self.num_steps += len(each.episode)
                self._received(each.episode)
        return {uuid: Stored(each.size, each.actor, errors.get(uuid)) for uuid, each in waiting.items()}

    def _store_alone(self, uuid: str, episode: Episode) -> dict[str, RobotRlpdError]:
        try:
            self._store([episode])
        except RobotRlpdError as error:
            return {uuid: error}
        return {}
