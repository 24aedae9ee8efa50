"""A server whose socket is attacked: it costs the attacker his connection, and nobody else anything."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
import zmq

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.guarded_socket import MOST_MALFORMED
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.testing import FakeRobot

if TYPE_CHECKING:
    from collections.abc import Iterator

NOISE = [b"\xc1noise", b"more"]
LOOK = [wire.encode(wire.Look("n"))]


@pytest.fixture
def server() -> Iterator[RobotServer]:
    server = RobotServer(FakeRobot(), "tcp://127.0.0.1:0", pace="fast")
    yield server
    server.close()


@contextlib.contextmanager
def peer_of(server: RobotServer) -> Iterator[zmq.Socket[bytes]]:
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(server.address)
    yield dealer
    dealer.close()


def ask(server: RobotServer, peer: zmq.Socket[bytes], frames: list[bytes]) -> wire.AnyMessage | None:
    """The answer; None if there is none although the server looked many times."""
    peer.send_multipart(frames)
    for _ in range(20):
        server.serve_once()
        if peer.poll(5):
            return wire.decode(peer.recv_multipart())[0]
    return None


def test_who_sends_nothing_but_noise_is_soon_not_listened_to_and_others_are(server: RobotServer) -> None:
    with peer_of(server) as noisy, peer_of(server) as good:
        for _ in range(MOST_MALFORMED):
            answer = ask(server, noisy, NOISE)
            assert isinstance(answer, wire.Refused)
            assert answer.code == "protocol"
        assert isinstance(ask(server, good, LOOK), wire.Seen)
        for _ in range(10):
            noisy.send_multipart(NOISE)
        assert isinstance(ask(server, good, LOOK), wire.Seen)
        assert ask(server, noisy, LOOK) is None
        assert server.service.statistics.refused["protocol"] == MOST_MALFORMED
    with peer_of(server) as again:
        assert isinstance(ask(server, again, LOOK), wire.Seen)


def test_requests_that_are_refused_for_what_they_say_are_answered_for_ever(server: RobotServer) -> None:
    with peer_of(server) as peer:
        for _ in range(2 * MOST_MALFORMED):
            answer = ask(server, peer, [wire.encode(wire.Hello(99, "future", "n"))])
            assert isinstance(answer, wire.Refused)
            assert answer.code == "version"


def test_every_connection_that_asks_for_another_protocol_is_counted(server: RobotServer) -> None:
    host, port = server.address.removeprefix("tcp://").split(":")
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
    for _ in range(30):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5.0) as peer:
            peer.sendall(greeting)
            while peer.recv(1000):
                pass
    for _ in range(200):
        server.serve_once()
        if server.service.turned_away.total() >= 30:
            break
    assert server.service.turned_away == {"a client without keys where they are needed, or with keys in vain": 30}
    with peer_of(server) as good:
        assert isinstance(ask(server, good, LOOK), wire.Seen)
