"""Round trip of a step over the bridge beside a bare pyzmq exchange of the same payload.

    python -m benchmarks.bridge_latency [--exchanges 5000] [--json]

Payload: an action of 28 and an observation of 39 float32 numbers. Both servers are processes of their own on TCP
loopback, and both are asked in turn, so that whatever else the machine does slows both alike. The bare exchange is
DEALER/ROUTER with a msgpack map that holds the bytes and a sequence number; the bridge adds the session, exactly-once,
limits and checks. Beside the times, which need an idle machine, stands the processor time of an exchange: of the
server's process and of the client's thread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import zmq

from benchmarks.machine import machine
from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.keys import Keyring
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.robot import Action, ClosingRobot, StepResult
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

if TYPE_CHECKING:
    from collections.abc import Callable

ACTION_SIZE, OBSERVATION_SIZE = 28, 39
WARM_UP = 200


class StillRobot(ClosingRobot):
    """Returns the same observation; takes no time."""

    def __init__(self) -> None:
        self.spec = RobotSpec(
            name="still",
            observation=(ArraySpec(name="state", shape=(OBSERVATION_SIZE,)),),
            action=ActionSpec(components=tuple(ActionComponent(name=f"a{i}") for i in range(ACTION_SIZE))),
            control_rate_hz=100.0,
        )
        self._state = np.linspace(0.0, 1.0, OBSERVATION_SIZE, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Nothing to do."""
        del seed, options
        return StepResult({"state": self._state})

    def step(self, action: Action) -> StepResult:
        """Nothing to do."""
        return StepResult({"state": self._state}, action)

    def stop(self, reason: str) -> None:
        """Stands already."""


def serve(kind: str, folder: Path) -> int:
    """Answer until killed; prints the address."""
    if kind == "raw":
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        socket.bind("tcp://127.0.0.1:0")
        sys.stdout.write(socket.getsockopt_string(zmq.LAST_ENDPOINT) + "\n")
        sys.stdout.flush()
        state = np.linspace(0.0, 1.0, OBSERVATION_SIZE, dtype=np.float32)
        while True:
            identity, frame = socket.recv_multipart()
            asked = msgspec.msgpack.decode(frame)
            np.frombuffer(asked["action"], np.float32)
            answer = {"sequence": asked["sequence"], "state": state.tobytes(), "executed": asked["action"]}
            socket.send_multipart([identity, msgspec.msgpack.encode(answer)])
    server = RobotServer(
        StillRobot(), "tcp://127.0.0.1:0", pace="fast", encrypt=kind == "curve", keyring=Keyring(folder / "robot")
    )
    sys.stdout.write(server.address + "\n")
    sys.stdout.flush()
    server.serve_forever()
    return 0


def raw_exchange(address: str) -> Callable[[Action], None]:
    """One bare exchange."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(address)
    sequence = 0

    def exchange(action: Action) -> None:
        nonlocal sequence
        sequence += 1
        socket.send(msgspec.msgpack.encode({"sequence": sequence, "action": action.tobytes()}))
        answer = msgspec.msgpack.decode(socket.recv())
        assert answer["sequence"] == sequence
        np.frombuffer(answer["state"], np.float32)

    return exchange


def measure(exchanges: int) -> dict[str, Any]:
    """Microseconds of each way, and ratios of medians."""
    kinds = ("raw", "bridge", "curve")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ring, own = Keyring(folder / "robot"), Keyring(folder / "client")
        key = ring.make().public.decode()
        ring.allow("client", own.make().public.decode())
        servers = {kind: _started(kind, folder) for kind in kinds}
        try:
            addresses = {kind: _address(server) for kind, server in servers.items()}
            own.pin(addresses["curve"], key)
            robots = {kind: RemoteRobot(addresses[kind], keyring=own) for kind in kinds[1:]}
            ways: dict[str, Callable[[Action], Any]] = {"raw": raw_exchange(addresses["raw"])}
            for kind, robot in robots.items():
                robot.reset()
                ways[kind] = robot.step
            times, busy = _times(ways, exchanges, {kind: server.pid for kind, server in servers.items()})
            for robot in robots.values():
                robot.close()
        finally:
            for server in servers.values():
                with server:
                    server.kill()
    result: dict[str, Any] = {}
    for kind, taken in times.items():
        p50, p99 = np.percentile(taken, [50, 99])
        result[kind] = {"p50_us": round(float(p50), 1), "p99_us": round(float(p99), 1), **busy[kind]}
    for kind in kinds[1:]:
        result[kind]["times_raw"] = round(result[kind]["p50_us"] / result["raw"]["p50_us"], 2)
    return result


def _times(
    ways: dict[str, Callable[[Action], Any]], exchanges: int, servers: dict[str, int]
) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """Microseconds of each exchange, and mean processor time by kind."""
    action = np.linspace(-1.0, 1.0, ACTION_SIZE, dtype=np.float32)
    times: dict[str, list[float]] = {kind: [] for kind in ways}
    client_s = dict.fromkeys(ways, 0.0)
    for _ in range(WARM_UP):
        for exchange in ways.values():
            exchange(action)
    server_s = {kind: _processor_s(servers[kind]) for kind in ways}
    for _ in range(exchanges):
        for kind, exchange in ways.items():
            busy_s, began_s = time.thread_time(), time.perf_counter()
            exchange(action)
            times[kind].append((time.perf_counter() - began_s) * 1e6)
            client_s[kind] += time.thread_time() - busy_s
    busy = {
        kind: {
            "server_busy_us": round((_processor_s(servers[kind]) - server_s[kind]) / exchanges * 1e6, 1),
            "client_busy_us": round(client_s[kind] / exchanges * 1e6, 1),
        }
        for kind in ways
    }
    return times, busy


def _processor_s(pid: int) -> float:
    """Processor time of all threads of a process, seconds."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _started(kind: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.bridge_latency", "--role", kind, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _address(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline().strip()


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exchanges", type=int, default=5000, help="exchanges each way (default 5000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--role", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        return serve(arguments.role[0], Path(arguments.role[1]))
    result = measure(arguments.exchanges)
    if arguments.json:
        sys.stdout.write(json.dumps({**result, "machine": machine()}) + "\n")
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in result.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
