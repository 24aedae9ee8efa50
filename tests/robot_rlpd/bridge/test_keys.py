"""Keys: who gets in, and what is said to those who do not."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zmq

from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.keys import Keyring
from robot_rlpd.bridge.refusal import Refusal
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.cli import main
from robot_rlpd.errors import ConfigError, DeadlineError
from robot_rlpd.testing import FakeRobot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACTION = np.array([0.25, -0.25], np.float32)
ANYWHERE = "tcp://127.0.0.1:0"


@pytest.fixture
def robots_ring(tmp_path: Path) -> Keyring:
    ring = Keyring(tmp_path / "robot")
    ring.make()
    return ring


@pytest.fixture
def laptop(tmp_path: Path, robots_ring: Keyring) -> Keyring:
    ring = Keyring(tmp_path / "laptop")
    robots_ring.allow("laptop", ring.make().public.decode())
    return ring


class Log(logging.Handler):
    """What the server says; its gatekeeper speaks from another thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self._said.put(record.getMessage())

    def wait_for(self, text: str) -> None:
        heard = ""
        while text not in heard:
            heard = self._said.get(timeout=10.0)


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    logger = logging.getLogger("robot_rlpd.bridge.gatekeeper")
    logger.addHandler(log)
    yield log
    logger.removeHandler(log)


@contextlib.contextmanager
def served(robot: FakeRobot, **options: Any) -> Iterator[RobotServer]:
    server = RobotServer(robot, ANYWHERE, pace="fast", **options)
    over = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(over.is_set,))
    thread.start()
    try:
        yield server
    finally:
        over.set()
        thread.join()


@pytest.fixture
def server(robots_ring: Keyring) -> Iterator[RobotServer]:
    with served(FakeRobot(), encrypt=True, keyring=robots_ring) as server:
        yield server


def public(ring: Keyring) -> str:
    return ring.own().public.decode()


def test_a_listed_client_steps_over_an_encrypted_connection(
    server: RobotServer, laptop: Keyring, robots_ring: Keyring
) -> None:
    laptop.pin(server.address, public(robots_ring))
    with RemoteRobot(server.address, keyring=laptop) as robot:
        robot.reset(seed=0)
        np.testing.assert_array_equal(robot.step(ACTION).executed_action, ACTION)


def test_an_unlisted_client_is_told_so_and_let_in_as_soon_as_it_is_listed(
    server: RobotServer, robots_ring: Keyring, tmp_path: Path, log: Log
) -> None:
    stranger = Keyring(tmp_path / "stranger")
    key = stranger.make().public.decode()
    stranger.pin(server.address, public(robots_ring))
    with pytest.raises(Refusal, match=r"does not know this client's key; .*keys allow") as refusal:
        RemoteRobot(server.address, keyring=stranger)
    assert refusal.value.code == "key"
    log.wait_for(f"not listed, key {key}")
    robots_ring.allow("stranger", key)
    RemoteRobot(server.address, keyring=stranger).close()


def test_another_server_key_than_the_pinned_one_is_refused_and_told_on_both_sides(
    server: RobotServer, laptop: Keyring, log: Log
) -> None:
    laptop.pin(server.address, public(laptop))
    with pytest.raises(Refusal, match="has another key than the one pinned here"):
        RemoteRobot(server.address, keyring=laptop)
    log.wait_for("expects another server key")


def test_a_client_without_keys_is_told_to_pin_the_servers(server: RobotServer, tmp_path: Path, log: Log) -> None:
    with pytest.raises(Refusal, match="asks for keys, and this client came without"):
        RemoteRobot(server.address, keyring=Keyring(tmp_path / "none"))
    log.wait_for(" keys")


def test_a_client_with_keys_does_not_talk_to_a_server_in_the_clear(laptop: Keyring) -> None:
    with served(FakeRobot()) as plain:
        laptop.pin(plain.address, public(laptop))
        with pytest.raises(Refusal, match="does not encrypt, and a key is pinned"):
            RemoteRobot(plain.address, keyring=laptop)


def test_a_dead_host_is_not_mistaken_for_a_refused_key(laptop: Keyring) -> None:
    address = "tcp://127.0.0.1:1"
    laptop.pin(address, public(laptop))
    with pytest.raises(DeadlineError, match="nobody listens there"):
        RemoteRobot(address, keyring=laptop, connect_timeout_s=0.2)


def test_a_host_that_accepts_but_never_speaks_is_told_apart_from_a_dead_one() -> None:
    mute: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.STREAM)
    mute.bind(ANYWHERE)
    try:
        address = mute.getsockopt_string(zmq.LAST_ENDPOINT)
        with pytest.raises(DeadlineError, match="something listens there, but does not speak"):
            RemoteRobot(address, connect_timeout_s=0.3)
    finally:
        mute.close(linger=0)


def test_without_an_own_key_a_pinned_server_is_not_even_asked(tmp_path: Path, robots_ring: Keyring) -> None:
    ring = Keyring(tmp_path / "keyless")
    ring.pin("tcp://robot:5555", public(robots_ring))
    with pytest.raises(ConfigError, match="no key of its own; make one with"):
        RemoteRobot("tcp://robot:5555", keyring=ring)


def test_an_unknown_server_on_the_network_is_not_asked_unless_it_is_said_to_be_in_the_clear(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "ring")
    with pytest.raises(ConfigError, match="key of this server is not known"):
        RemoteRobot("tcp://192.0.2.1:5555", keyring=ring)
    ring.pin("tcp://192.0.2.1:5555", "none")
    with pytest.raises(DeadlineError):
        RemoteRobot("tcp://192.0.2.1:5555", keyring=ring, connect_timeout_s=0.05)


def test_a_removed_client_does_not_get_in_again(server: RobotServer, laptop: Keyring, robots_ring: Keyring) -> None:
    laptop.pin(server.address, public(robots_ring))
    RemoteRobot(server.address, keyring=laptop).close()
    robots_ring.remove("laptop")
    with pytest.raises(Refusal, match="does not know this client's key"):
        RemoteRobot(server.address, keyring=laptop)


def test_a_damaged_list_lets_nobody_in(server: RobotServer, laptop: Keyring, robots_ring: Keyring, log: Log) -> None:
    laptop.pin(server.address, public(robots_ring))
    (robots_ring.directory / "clients").write_text("laptop\n")
    with pytest.raises(Refusal, match="does not know this client's key"):
        RemoteRobot(server.address, keyring=laptop)
    log.wait_for("nobody is let in")


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://*:0"])
def test_the_network_is_served_encrypted_by_default(address: str, robots_ring: Keyring, tmp_path: Path) -> None:
    server = RobotServer(FakeRobot(), address, keyring=robots_ring)
    server.close()
    assert server.public_key == public(robots_ring)
    robot = FakeRobot()
    with pytest.raises(ConfigError, match="no key of its own"):
        RobotServer(robot, address, keyring=Keyring(tmp_path / "empty"))
    assert robot.closed


def test_secrets_are_for_their_owner_only(robots_ring: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = robots_ring.directory / "own.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert robots_ring.directory.stat().st_mode & 0o777 == 0o700
    assert robots_ring.own().secret.decode() not in repr(robots_ring.own()) + caplog.text
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read the secret key"):
        robots_ring.own()


def test_a_pair_is_not_replaced_by_accident(robots_ring: Keyring) -> None:
    before = robots_ring.own()
    with pytest.raises(ConfigError, match="already"):
        robots_ring.make()
    assert robots_ring.own() == before
    assert robots_ring.make(force=True) != before


@pytest.mark.parametrize("key", ["", "short", "~" * 40, "a" * 45, "none"])
def test_what_is_not_a_key_is_not_listed(robots_ring: Keyring, key: str) -> None:
    with pytest.raises(ConfigError, match="key"):
        robots_ring.allow("name", key)
    assert robots_ring.clients() == {}


def test_the_commands_say_what_to_type_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ["--directory", str(tmp_path / "ring")]
    assert main(["keys", "make", *here]) == 0
    key = public(Keyring(tmp_path / "ring"))
    told = capsys.readouterr().out
    assert "robot-rlpd keys allow" in told
    assert f"'{key}'" in told
    assert main(["keys", "allow", "laptop", key, *here]) == 0
    assert main(["keys", "pin", "tcp://robot:5555", key, *here]) == 0
    assert main(["keys", "list", *here]) == 0
    told = capsys.readouterr().out
    assert f"client laptop: {key}" in told
    assert f"server tcp://robot:5555: {key}" in told
    assert main(["keys", "remove", "laptop", *here]) == 0
    assert Keyring(tmp_path / "ring").clients() == {}
    assert main(["keys", "remove", "laptop", *here]) == 1
    assert "tcp://robot:5555" in capsys.readouterr().err
