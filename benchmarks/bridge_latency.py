"""Round trip of a step over the bridge beside a bare pyzmq exchange of the same payload.

    python -m benchmarks.bridge_latency [--exchanges 5000] [--grpc-python VENV/bin/python] [--json]

Payload: an action of 28 and an observation of 39 float32 numbers; then an observation with a picture of 480x640 beside
a bare TCP socket; and, with an interpreter that has grpcio, LeRobot's two calls over gRPC. All servers are processes of
their own on TCP loopback, and all are asked in turn, so that whatever else the machine does slows all alike. The bare
exchange is DEALER/ROUTER with a msgpack map that holds the bytes and a sequence number; the bridge adds the session,
exactly-once, limits and checks. The medians need an idle machine; the fastest exchanges (p5) and the processor time of
one, of the server's process and of the client's thread, say more on a busy one.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import zmq

from benchmarks.machine import show_result
from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.keys import Keyring
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.robot import Action, ClosingRobot, StepResult
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from robot_rlpd.robot import Observation

ACTION_SIZE, OBSERVATION_SIZE = 28, 39
PICTURE = (480, 640, 3)
ACTION_BYTES, ANSWER_BYTES = 4 * ACTION_SIZE, 4 * OBSERVATION_SIZE + math.prod(PICTURE)
BESIDE = {"bridge": "raw", "curve": "raw", "bridge picture": "tcp picture"}
"""What each way is compared with."""
WARM_UP = 200


class StillRobot(ClosingRobot):
    """Returns the same observation, with a picture where one is wanted; takes no time."""

    def __init__(self, *, picture: bool = False) -> None:
        state = ArraySpec(name="state", shape=(OBSERVATION_SIZE,))
        camera = ArraySpec(name="camera", shape=PICTURE, dtype="uint8", is_image=True)
        self.spec = RobotSpec(
            name="still",
            observation=(state, camera) if picture else (state,),
            action=ActionSpec(components=tuple(ActionComponent(name=f"a{i}") for i in range(ACTION_SIZE))),
            control_rate_hz=100.0,
        )
        self._observation: Observation = {"state": np.linspace(0.0, 1.0, OBSERVATION_SIZE, dtype=np.float32)}
        if picture:
            self._observation["camera"] = np.random.default_rng(0).integers(0, 256, PICTURE, np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Nothing to do."""
        del seed, options
        return StepResult(dict(self._observation))

    def step(self, action: Action) -> StepResult:
        """Nothing to do."""
        return StepResult(dict(self._observation), action)

    def stop(self, reason: str) -> None:
        """Stands already."""


def serve(kind: str, folder: Path) -> int:
    """Answer until killed; prints the address."""
    if kind == "raw":
        return _serve_raw()
    if kind == "tcp picture":
        return _serve_tcp()
    server = RobotServer(
        StillRobot(picture="picture" in kind),
        "tcp://127.0.0.1:0",
        pace="fast",
        command_timeout_s=600.0,
        encrypt=kind == "curve",
        keyring=Keyring(folder / "robot"),
    )
    _tell(server.address)
    server.serve_forever()
    return 0


def _serve_raw() -> int:
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    router.bind("tcp://127.0.0.1:0")
    _tell(router.getsockopt_string(zmq.LAST_ENDPOINT))
    state = np.linspace(0.0, 1.0, OBSERVATION_SIZE, dtype=np.float32)
    while True:
        identity, frame = router.recv_multipart()
        asked = msgspec.msgpack.decode(frame)
        np.frombuffer(asked["action"], np.float32)
        answer = {"sequence": asked["sequence"], "state": state.tobytes(), "executed": asked["action"]}
        router.send_multipart([identity, msgspec.msgpack.encode(answer)])


def _serve_tcp() -> int:
    answer = np.random.default_rng(0).bytes(ANSWER_BYTES)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _tell(f"{listener.getsockname()[1]}")
        peer, _ = listener.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while peer.recv(ACTION_BYTES, socket.MSG_WAITALL):
            peer.sendall(answer)
    return 0


def _tell(address: str) -> None:
    sys.stdout.write(address + "\n")
    sys.stdout.flush()


def tcp_exchange(port: str) -> Callable[[Action], None]:
    """One exchange over a bare socket."""
    peer = socket.create_connection(("127.0.0.1", int(port)))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.settimeout(None)

    def exchange(action: Action) -> None:
        peer.sendall(action.tobytes())
        answer = bytearray(ANSWER_BYTES)
        assert peer.recv_into(answer, ANSWER_BYTES, socket.MSG_WAITALL) == ANSWER_BYTES
        np.frombuffer(answer, np.uint8)

    return exchange


def raw_exchange(address: str) -> Callable[[Action], None]:
    """One bare exchange."""
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.connect(address)
    sequence = 0

    def exchange(action: Action) -> None:
        nonlocal sequence
        sequence += 1
        dealer.send(msgspec.msgpack.encode({"sequence": sequence, "action": action.tobytes()}))
        answer = msgspec.msgpack.decode(dealer.recv())
        assert answer["sequence"] == sequence
        np.frombuffer(answer["state"], np.float32)

    return exchange


def measure(exchanges: int, grpc_python: str) -> dict[str, Any]:
    """Microseconds of each way, and ratios of medians."""
    kinds = ("raw", "bridge", "curve", "tcp picture", "bridge picture")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        ring, own = Keyring(folder / "robot"), Keyring(folder / "client")
        key = ring.make().public.decode()
        ring.allow("client", own.make().public.decode())
        servers = {kind: _started(kind, folder) for kind in kinds}
        for server in servers.values():
            stack.enter_context(server)
            stack.callback(server.kill)
        addresses = {kind: _address(server) for kind, server in servers.items()}
        own.pin(addresses["curve"], key)
        ways: dict[str, Callable[[Action], Any]] = {
            "raw": raw_exchange(addresses["raw"]),
            "tcp picture": tcp_exchange(addresses["tcp picture"]),
        }
        for kind in BESIDE:
            robot = stack.enter_context(RemoteRobot(addresses[kind], keyring=own))
            robot.reset()
            ways[kind] = robot.step
        grpc = stack.enter_context(_grpc(grpc_python)) if grpc_python else None
        times, busy = _times(ways, grpc, exchanges, {kind: server.pid for kind, server in servers.items()})
    result: dict[str, Any] = {}
    for kind, taken in times.items():
        p5, p50, p99 = (round(float(us), 1) for us in np.percentile(taken, [5, 50, 99]))
        result[kind] = {"p5_us": p5, "p50_us": p50, "p99_us": p99, **busy.get(kind, {})}
    for kind, beside in BESIDE.items():
        result[kind][f"times_{beside.split()[0]}"] = round(result[kind]["p50_us"] / result[beside]["p50_us"], 2)
        if grpc_python and beside == "raw":
            result[kind]["times_grpc"] = round(result[kind]["p50_us"] / result["grpc"]["p50_us"], 3)
    return result


@contextlib.contextmanager
def _grpc(python: str) -> Iterator[Callable[[], float]]:
    """An exchange over gRPC by another interpreter, which takes the time itself [us]."""
    command = [python, str(Path(__file__).with_name("grpc_peer.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:

        def exchange() -> float:
            assert peer.stdin is not None
            assert peer.stdout is not None
            peer.stdin.write("\n")
            peer.stdin.flush()
            return float(peer.stdout.readline())

        yield exchange


def _times(
    ways: dict[str, Callable[[Action], Any]],
    grpc: Callable[[], float] | None,
    exchanges: int,
    servers: dict[str, int],
) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """Microseconds of each exchange, and mean processor time by kind."""
    action = np.linspace(-1.0, 1.0, ACTION_SIZE, dtype=np.float32)
    times: dict[str, list[float]] = {kind: [] for kind in ways}
    client_s = dict.fromkeys(ways, 0.0)
    for _ in range(WARM_UP):
        for exchange in ways.values():
            exchange(action)
    server_s = {kind: processor_s(servers[kind]) for kind in ways}
    for _ in range(exchanges):
        for kind, exchange in ways.items():
            busy_s, began_s = time.thread_time(), time.perf_counter()
            exchange(action)
            times[kind].append((time.perf_counter() - began_s) * 1e6)
            client_s[kind] += time.thread_time() - busy_s
        if grpc is not None:
            times.setdefault("grpc", []).append(grpc())
    busy = {
        kind: {
            "server_busy_us": round((processor_s(servers[kind]) - server_s[kind]) / exchanges * 1e6, 1),
            "client_busy_us": round(client_s[kind] / exchanges * 1e6, 1),
        }
        for kind in ways
    }
    return times, busy


def processor_s(pid: int) -> float:
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
    parser.add_argument("--grpc-python", default="", help="interpreter that has grpcio; default: without gRPC")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--role", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        return serve(arguments.role[0], Path(arguments.role[1]))
    result = measure(arguments.exchanges, arguments.grpc_python)
    show_result(result, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
