"""The actor's connection to its learner, in a thread of its own: the robot never waits for the network."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from typing import TYPE_CHECKING

from robot_rlpd.bridge import actor_wire
from robot_rlpd.bridge.connection import Connection
from robot_rlpd.bridge.episodes import deliver
from robot_rlpd.bridge.keys import Keyring
from robot_rlpd.bridge.policies import PublishedPolicy, fetch_policy
from robot_rlpd.bridge.refusal import Refusal
from robot_rlpd.bridge.security import client_keys
from robot_rlpd.errors import MismatchError, RobotRlpdError
from robot_rlpd.specs import to_builtins

if TYPE_CHECKING:
    from robot_rlpd.bridge.outbox import Outbox
    from robot_rlpd.specs import RobotSpec

logger = logging.getLogger(__name__)
PERIOD_S = 1.0
"""The learner is asked for a new policy this often, and after every episode; also the wait before it is tried again."""
TIMEOUT_S = 10.0
"""Longest wait for one answer."""


class Courier:
    """Delivers what is in the outbox and fetches policies until it is closed; keeps trying while nobody answers.

    Args:
        address: Where the learner listens.
        outbox: Episodes to deliver; others may be added while it runs.
        actor: Name of this actor.
        spec: Of its robot.
        keyring: Holds the learner's key and this machine's own; default the one of this user.

    Raises:
        ConfigError: Not an address, or a key is missing in the keyring.
    """

    def __init__(
        self, address: str, outbox: Outbox, *, actor: str, spec: RobotSpec, keyring: Keyring | None = None
    ) -> None:
        self._address, self._keys = address, client_keys(address, keyring or Keyring())
        self._outbox, self._actor, self._spec = outbox, actor, to_builtins(spec)
        self._fetched: PublishedPolicy | None = None
        self._acting = self._rejected = self._reason = ""
        self._refused: RobotRlpdError | None = None
        self._away = False
        self.delivered = 0
        self._wake, self._over = threading.Event(), threading.Event()
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    def take(self) -> PublishedPolicy | None:
        """A policy that came since the last call; say next whether it acts or was rejected.

        Raises:
            RobotRlpdError: The learner refuses this actor for good: another robot, key or version.
        """
        if self._refused is not None:
            raise self._refused
        policy, self._fetched = self._fetched, None
        return policy

    def acts(self, policy: PublishedPolicy) -> None:
        """This one acts from now on."""
        self._acting = policy.digest

    def reject(self, policy: PublishedPolicy, reason: str) -> None:
        """This one is not fit to act; the learner is told."""
        self._rejected, self._reason = policy.digest, reason

    def hurry(self) -> None:
        """There is a new episode."""
        self._idle.clear()
        self._wake.set()

    def wait_until_delivered(self, timeout_s: float) -> bool:
        """Whether everything in the outbox was delivered within this time."""
        self.hurry()
        return self._idle.wait(timeout_s) and not self._outbox.pending()

    def close(self) -> None:
        """End the thread; what was not delivered stays in the outbox."""
        self._over.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        connection: Connection | None = None
        while not self._over.is_set():
            self._wake.clear()
            try:
                connection = connection or Connection(self._address, self._keys, peer="learner")
                self._round(connection)
                if self._away:
                    logger.warning("the learner at %s is back", self._address)
                self._away = False
            except Exception as error:
                if connection is not None:
                    connection.close()
                    connection = None
                self._failed(error)
            self._wake.wait(PERIOD_S)
        if connection is not None:
            connection.close()

    def _round(self, connection: Connection) -> None:
        pending = self._outbox.pending()
        ask = actor_wire.Ask(
            uuid.uuid4().hex,
            actor_wire.PROTOCOL_VERSION,
            self._actor,
            self._spec,
            self._acting,
            self._rejected,
            self._reason,
            len(pending),
        )
        if self._fetched is None:
            self._fetched = fetch_policy(connection, ask, timeout_s=TIMEOUT_S)
        until_s = time.monotonic() + PERIOD_S
        for each in pending:
            if self._over.is_set() or time.monotonic() > until_s:
                self._wake.set()  # there may be a newer policy; then go on
                return
            deliver(connection, self._outbox, each, actor=self._actor, timeout_s=TIMEOUT_S)
            self.delivered += 1
        if not self._wake.is_set():
            self._idle.set()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, MismatchError) or (isinstance(error, Refusal) and error.code in ("key", "version")):
            self._refused = error
        if not self._away:
            expected = isinstance(error, RobotRlpdError)
            logger.warning("episodes wait in %s: %s", self._outbox.directory, error, exc_info=not expected)
        self._away = True
