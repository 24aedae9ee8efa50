"""The learner's side of the bridge: takes episodes, gives policies, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from robot_rlpd.bridge import actor_wire, wire
from robot_rlpd.bridge.actor_wire import PART_BYTES, Ask, Fetch, Offer, Part, Wanted
from robot_rlpd.bridge.guarded_socket import GuardedSocket
from robot_rlpd.bridge.refusal import Refusal, refused
from robot_rlpd.bridge.wire import Look, Seen, printable
from robot_rlpd.errors import ProtocolError, RobotRlpdError
from robot_rlpd.specs import PolicyContract, RobotSpec, check_contract, from_builtins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from robot_rlpd.bridge.arrays import Buffer
    from robot_rlpd.bridge.episodes import Inbox
    from robot_rlpd.bridge.keys import Keyring
    from robot_rlpd.bridge.policies import Shelf

logger = logging.getLogger(__name__)
TICK_MS = 100
AWAY_S = 5.0
"""An actor that was not heard of for this long is away."""
MAX_ACTORS = 1000
MOST_AT_ONCE = 256
"""Messages that are read, where they wait already, before complete episodes are brought to the disk."""


@dataclass
class Actor:
    """What is known of one actor.

    Attributes:
        heard_s: Monotonic time of its last message, in seconds.
        acting: Digest of its policy, empty for random actions.
        rejected: Why it did not take the policy it rejected last.
        pending: Episodes that wait on its side.
        episodes: Whole episodes that came from it since this learner started.
    """

    heard_s: float
    acting: str = ""
    rejected: str = ""
    pending: int = 0
    episodes: int = 0


class LearnerServer:
    """Answers actors until closed.

    Args:
        address: `tcp://HOST:PORT` (port 0 takes a free one) or `ipc://PATH`.
        contract: What policies read and command.
        inbox: Where episodes go.
        shelf: Where policies come from.
        describe: More figures for `bridge status`.
        insecure: Do not encrypt wherever it is.
        encrypt: Encrypt also what cannot leave this machine.
        keyring: Holds the own key and the actors that may connect; default the one of this user.

    Attributes:
        actors: By name.
        malformed: Messages that could not be read.

    Raises:
        ConfigError: An address that is wrong or in use, or no key of its own.
    """

    def __init__(
        self,
        address: str,
        *,
        contract: PolicyContract,
        inbox: Inbox,
        shelf: Shelf,
        describe: Callable[[], dict[str, Any]] = dict,
        insecure: bool = False,
        encrypt: bool = False,
        keyring: Keyring | None = None,
    ) -> None:
        self._contract, self._inbox, self._shelf, self._describe = contract, inbox, shelf, describe
        self.actors: dict[str, Actor] = {}
        self._refused = Counter[str]()
        self.malformed = 0
        self._asked: list[tuple[bytes, Offer | Part]] = []
        self._started_s = time.monotonic()
        self._socket = GuardedSocket(
            address,
            tick_ms=TICK_MS,
            insecure=insecure,
            encrypt=encrypt,
            keyring=keyring,
            max_frame_bytes=PART_BYTES + wire.MAX_REQUEST_BYTES,
        )
        self.address, self.public_key = self._socket.address, self._socket.public_key
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="actors", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; further calls do nothing."""
        self._over.set()
        self._thread.join()

    def status(self) -> dict[str, Any]:
        """What `bridge status --json` prints, see docs/json.md."""
        now_s = time.monotonic()
        newest = self._shelf.newest
        return {
            "learner": True,
            "version": metadata.version("robot-rlpd"),
            "protocol": actor_wire.PROTOCOL_VERSION,
            "fingerprint": self._contract.fingerprint,
            "up_s": round(now_s - self._started_s, 3),
            "policy_number": newest.number,
            "policy_digest": newest.digest,
            "episodes": self._inbox.num_episodes,
            "env_steps": self._inbox.num_steps,
            "repeated": self._inbox.num_repeated,
            "actors": {
                name: {
                    **{key: value for key, value in asdict(actor).items() if key != "heard_s"},
                    "heard_s": round(now_s - actor.heard_s, 3),
                    "away": now_s - actor.heard_s > AWAY_S,
                }
                for name, actor in list(self.actors.items())
            },
            "refused": dict(self._refused),
            "turned_away": dict(self._socket.turned_away.copy()),
            **self._describe(),
        }

    def answer(self, frames: Sequence[Buffer], identity: bytes = b"") -> list[Buffer] | None:
        """The frames to send back to whoever sent these; None until `commit`. Never raises for what an actor sent."""
        request = ""
        try:
            message, data = actor_wire.decode(frames)
        except ProtocolError as error:
            self.malformed += 1
            return self._refuse(error, request)
        try:
            if isinstance(message, Look):
                request = message.nonce
                return actor_wire.encode(Seen(message.nonce, self.status()))
            if not isinstance(message, (Offer, Part, Ask, Fetch)):
                raise ProtocolError("not a request", found=type(message).__name__.lower())
            request = message.request
            if not isinstance(message, (Offer, Part)):
                return self._answer(message)
            self._heard(message.actor)
            wanted = self._inbox.offer(message) if isinstance(message, Offer) else self._inbox.part(message, data)
            if wanted is None:
                self._asked.append((identity, message))
                return None
            return actor_wire.encode(wanted)
        except RobotRlpdError as error:
            return self._refuse(error, request)

    def commit(self) -> list[tuple[bytes, list[Buffer]]]:
        """Bring to the disk what is complete; who gets which answer."""
        outcomes, asked = self._inbox.commit(), self._asked
        self._asked = []
        for stored in outcomes.values():
            self._heard(stored.actor).episodes += stored.error is None
        answers = []
        for identity, message in asked:
            stored = outcomes[message.uuid]
            if stored.error is not None:
                answers.append((identity, self._refuse(stored.error, message.request)))
            else:
                wanted = Wanted(message.request, message.uuid, stored.size, stored=True)
                answers.append((identity, actor_wire.encode(wanted)))
        return answers

    def _refuse(self, error: RobotRlpdError, request: str) -> list[Buffer]:
        refusal = refused(error, nonce=request)
        self._refused[refusal.code] += 1
        logger.warning("refused: %s", error)
        return actor_wire.encode(refusal)

    def _answer(self, message: Ask | Fetch) -> list[Buffer]:
        if isinstance(message, Fetch):
            return actor_wire.encode(*self._shelf.fetch(message))
        if message.version != actor_wire.PROTOCOL_VERSION:
            raise Refusal("version", found=str(message.version), allowed=str(actor_wire.PROTOCOL_VERSION))
        spec = from_builtins(message.spec, RobotSpec)
        check_contract(self._contract, spec, who=f"the robot of actor '{printable(message.actor)}'")
        actor = self._heard(message.actor)
        if message.reason and message.reason != actor.rejected:
            logger.warning("actor %s rejects a policy: %s", printable(message.actor), printable(message.reason))
        actor.acting, actor.rejected, actor.pending = message.acting, message.reason, message.pending
        return actor_wire.encode(self._shelf.current(message))

    def _heard(self, name: str) -> Actor:
        name = printable(name)
        now_s = time.monotonic()
        actor = self.actors.get(name)
        if actor is None:
            if len(self.actors) >= MAX_ACTORS:
                raise ProtocolError("too many actors", found=name, allowed=str(MAX_ACTORS))
            logger.info("actor %s joins", name)
            actor = self.actors[name] = Actor(now_s)
        actor.heard_s = now_s
        return actor

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                for _ in range(MOST_AT_ONCE):
                    if not self._serve_one() or self._inbox.is_full or not self._socket.has_message():
                        break
                for identity, answer in self.commit():
                    self._socket.send(identity, answer)
        finally:
            self._socket.close()

    def _serve_one(self) -> bool:
        if (received := self._socket.receive()) is None:
            return False
        identity, frames = received
        malformed = self.malformed
        if (answer := self.answer(frames, identity)) is not None:
            self._socket.send(identity, answer)
        if self.malformed > malformed:
            self._socket.malformed(identity)
        return True
