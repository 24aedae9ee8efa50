"""Looking at a served robot without commanding it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Self

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.connection import Connection
from robot_rlpd.bridge.keys import Keyring
from robot_rlpd.bridge.refusal import error_of
from robot_rlpd.bridge.security import client_keys
from robot_rlpd.bridge.wire import Refused, Seen
from robot_rlpd.specs import RobotSpec, from_builtins

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Observer:
    """Asks a server who commands, how it goes, and what the robot observed last; any number may look at once.

    Args:
        address: `tcp://HOST:PORT` or `ipc://PATH` of the server.
        timeout_s: Longest wait for an answer in seconds; a robot that resets does not answer.
        keyring: Holds the server's key and this machine's own; default the one of this user.

    Raises:
        ConfigError: Not an address, or a key is missing in the keyring.
    """

    def __init__(self, address: str, *, timeout_s: float = 5.0, keyring: Keyring | None = None) -> None:
        self._timeout_s = timeout_s
        self._connection = Connection(address, client_keys(address, keyring or Keyring()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self) -> dict[str, Any]:
        """What `bridge status --json` prints.

        Raises:
            DeadlineError: No answer in time.
            RefusedError: A key is refused.
        """
        return self._look()[0].status

    def observation(self) -> dict[str, NDArray[Any]]:
        """The newest observation by field name; empty before the first reset.

        Raises:
            DeadlineError: No answer in time.
            RefusedError: A key is refused.
        """
        arrays = self._look(observation=True)[1]
        return {name.removeprefix("observation."): array for name, array in arrays.items()}

    def spec(self) -> RobotSpec:
        """What the robot observes and accepts.

        Raises:
            DeadlineError: No answer in time.
            RefusedError: A key is refused.
        """
        return from_builtins(self._look(spec=True)[0].spec, RobotSpec)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _look(self, *, observation: bool = False, spec: bool = False) -> tuple[Seen, dict[str, NDArray[Any]]]:
        nonce = uuid.uuid4().hex

        def is_answer(message: wire.AnyMessage) -> bool:
            return isinstance(message, (Seen, Refused)) and message.nonce in ("", nonce)

        request = wire.encode(wire.Look(nonce, observation, spec))
        message, _, arrays = self._connection.exchange([request], wire.reader(is_answer), self._timeout_s)
        if isinstance(message, Refused):
            raise error_of(message)
        assert isinstance(message, Seen)
        return message, arrays
