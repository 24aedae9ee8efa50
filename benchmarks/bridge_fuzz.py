"""Attack the socket of a served robot while its rightful commander goes on stepping.

    python -m benchmarks.bridge_fuzz [--seconds 60] [--attacks random_bytes] [--encrypt] [--json]

One attack after the other, each for so long: random bytes over TCP, random frames, hellos of another version and
another contract, frames that are too large, handshakes that never end. The attacker is a process of its own, as are the
server and the commander. Told of each: steps per second of the commander during the attack, and in a quarter of the
time just before and after it (other work on the machine slows them alike); the longest step; how much memory the server
took; and what its threads worked, in percent of a core: the one that steps the robot, that of ZeroMQ, and the one that
turns connections away. A step that fails ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from benchmarks.machine import show_result
from robot_rlpd.bridge import wire
from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.keys import Keyring

if TYPE_CHECKING:
    from collections.abc import Callable

OPEN_HANDSHAKES = 100
OTHER_CONTRACT = {"observation": [], "action": {"components": [{"name": "a"}]}, "control_rate_hz": 1.0}


def random_bytes(host: str, port: int, rng: np.random.Generator, over: threading.Event) -> None:
    """Connections that send noise; every other one starts like ZeroMQ."""
    while not over.is_set():
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1.0) as peer:
            peer.settimeout(0.1)
            start = b"\xff" + bytes(8) + b"\x7f\x03" if rng.random() < 0.5 else b""
            peer.sendall(start + rng.bytes(int(rng.integers(1, 5000))))
            peer.recv(1000)


def endless_handshakes(host: str, port: int, rng: np.random.Generator, over: threading.Event) -> None:
    """Many connections that begin to introduce themselves and never end."""
    del rng
    peers: list[socket.socket] = []
    while not over.is_set():
        with contextlib.suppress(OSError):
            peers.append(socket.create_connection((host, port), 1.0))
            peers[-1].sendall(b"\xff" + bytes(8))
        if len(peers) > OPEN_HANDSHAKES:
            peers.pop(0).close()
        over.wait(0.005)
    for peer in peers:
        peer.close()


def _frames(host: str, port: int, over: threading.Event, make: Callable[[], list[bytes]]) -> None:
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.SNDTIMEO, 100)
    dealer.connect(f"tcp://{host}:{port}")
    while not over.is_set():
        with contextlib.suppress(zmq.Again):
            dealer.send_multipart(make())
            while dealer.poll(0):
                dealer.recv_multipart()
        over.wait(0.0005)
    dealer.close()


def random_frames(host: str, port: int, rng: np.random.Generator, over: threading.Event) -> None:
    """Messages of random frames."""
    _frames(host, port, over, lambda: [rng.bytes(int(rng.integers(0, 300))) for _ in range(rng.integers(1, 5))])


def wrong_version(host: str, port: int, rng: np.random.Generator, over: threading.Event) -> None:
    """Hellos of the future."""
    _frames(host, port, over, lambda: [wire.encode(wire.Hello(99, "future", rng.bytes(8).hex()))])


def wrong_contract(host: str, port: int, rng: np.random.Generator, over: threading.Event) -> None:
    """Hellos for another robot."""
    _frames(
        host,
        port,
        over,
        lambda: [wire.encode(wire.Hello(wire.PROTOCOL_VERSION, "other", rng.bytes(8).hex(), OTHER_CONTRACT))],
    )


def oversize(host: str, port: int, rng: np.random.Generator, over: threading.Event) -> None:
    """Frames larger than allowed."""
    too_large = rng.bytes(wire.MAX_REQUEST_BYTES + 1)
    _frames(host, port, over, lambda: [too_large])


ATTACKS = {
    each.__name__: each
    for each in (random_bytes, random_frames, wrong_version, wrong_contract, oversize, endless_handshakes)
}


def measure(seconds: float, attacks: list[str], *, encrypt: bool) -> dict[str, Any]:
    """Each attack in turn."""
    with tempfile.TemporaryDirectory() as name:
        robots, clients = Keyring(Path(name) / "robot"), Keyring(Path(name) / "client")
        key = robots.make().public.decode()
        robots.allow("client", clients.make().public.decode())
        command = [sys.executable, "-m", "benchmarks.bridge_fuzz", "--serve", str(robots.directory)]
        with subprocess.Popen(
            [*command, *(["--encrypt"] if encrypt else [])], stdout=subprocess.PIPE, text=True
        ) as server:
            try:
                assert server.stdout is not None
                address = server.stdout.readline().strip()
                if encrypt:
                    clients.pin(address, key)
                with RemoteRobot(address, keyring=clients) as robot:
                    robot.reset()
                    return _attacked(robot, server.pid, address, seconds, attacks)
            finally:
                server.kill()


def _attacked(robot: RemoteRobot, pid: int, address: str, seconds: float, attacks: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    calm = _stepping(robot, pid, seconds / 4)
    for number, attack in enumerate(attacks):
        command = [sys.executable, "-m", "benchmarks.bridge_fuzz", "--attack", attack, address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attacker:
            assert attacker.stdout is not None
            attacker.stdout.readline()
            before = _thread_seconds(pid)
            attacked = _stepping(robot, pid, seconds)
            worked = _thread_seconds(pid)
            attacker.kill()
        before_hz, calm = calm["rate_hz"], _stepping(robot, pid, seconds / 4)
        result[attack if attacks.count(attack) == 1 else f"{attack} {number + 1}"] = {
            **attacked,
            "calm_hz": [before_hz, calm["rate_hz"]],
            "busy_percent": {
                name: round(100 * (worked[name] - before.get(name, 0.0)) / seconds, 1) for name in sorted(worked)
            },
        }
    return result


def attack(name: str, address: str) -> int:
    """Attack until killed."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    sys.stdout.write("begins\n")
    sys.stdout.flush()
    ATTACKS[name](host, int(port), np.random.default_rng(0), threading.Event())
    return 0


def _thread_seconds(pid: int) -> dict[str, float]:
    """Processor time of the threads of a process by what they do."""
    ticks = os.sysconf("SC_CLK_TCK")
    spent: dict[str, float] = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        head, _, rest = (thread / "stat").read_text().rpartition(")")
        name = "robot" if int(thread.name) == pid else ("zeromq" if "ZMQ" in head else "gatekeeper")
        spent[name] = spent.get(name, 0.0) + sum(map(int, rest.split()[11:13])) / ticks
    return spent


def _stepping(robot: RemoteRobot, pid: int, seconds: float) -> dict[str, Any]:
    action = np.zeros(robot.spec.action.size, np.float32)
    before = _resident_kib(pid)
    began_s = time.monotonic()
    longest_s, steps = 0.0, 0
    while time.monotonic() - began_s < seconds:
        step_s = time.monotonic()
        robot.step(action)
        longest_s = max(longest_s, time.monotonic() - step_s)
        steps += 1
    rate_hz = steps / (time.monotonic() - began_s)
    return {
        "rate_hz": round(rate_hz, 1),
        "longest_ms": round(longest_s * 1e3, 1),
        "grown_kib": _resident_kib(pid) - before,
    }


def _resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def serve(keys: Path, *, encrypt: bool) -> int:
    """A robot at its pace; prints the address."""
    from benchmarks.bridge_latency import StillRobot
    from robot_rlpd.bridge.server import RobotServer
    from robot_rlpd.pacing import PacedRobot

    robot = PacedRobot(StillRobot())
    server = RobotServer(robot, "tcp://127.0.0.1:0", encrypt=encrypt, keyring=Keyring(keys))
    sys.stdout.write(server.address + "\n")
    sys.stdout.flush()
    server.serve_forever()
    return 0


def main() -> int:
    """Attack and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each attack (default 10)")
    parser.add_argument(
        "--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS), help="which (default all)"
    )
    parser.add_argument("--encrypt", action="store_true", help="the commander and the server use keys")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--attack", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve, encrypt=arguments.encrypt)
    if arguments.attack:
        return attack(*arguments.attack)
    result = measure(arguments.seconds, arguments.attacks, encrypt=arguments.encrypt)
    show_result(result, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
