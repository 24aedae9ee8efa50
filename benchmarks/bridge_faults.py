"""Drive a served robot through a network that misbehaves, and through kills of both sides.

    python -m benchmarks.bridge_faults [--steps 100000] [--kill-s 60] [--json]

Every step carries its own number as its action, and the robot writes down each number that it executes. Three ways:
messages lost, delayed, doubled and reordered (5 % each); encrypted connections cut and stalled; server and commander
killed with SIGKILL at random instants and started again. In the end no number may have been executed twice or out of
order, and each step whose answer never came has to have been reported: as not executed, or as of unknown outcome.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.faulty_network import FaultyConnections, FaultyMessages, told
from benchmarks.machine import machine
from robot_rlpd.bridge import connection
from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.keys import Keyring
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.errors import BridgeError, OutcomeUnknownError, RobotError
from robot_rlpd.progress import ProgressLine
from robot_rlpd.robot import Action, ClosingRobot, StepResult
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

if TYPE_CHECKING:
    from collections.abc import Callable

EPISODE_STEPS = 100
PER_LIFE = 100_000
"""Numbers that one life of the commander may use."""
HALVES, LARGEST = ("life", "number"), (2.0**24, PER_LIFE - 1.0)
"""A number travels as two: whole numbers of float32 are exact up to 2^24 only, too few for many lives."""
STEP_TIMEOUT_S = 0.03
"""Patience of the commander through a network: short, so that many steps end with an unknown outcome."""
LIFE_S = (0.3, 1.5)
"""Shortest and longest time between a process's start, when it has loaded everything, and its kill, in seconds."""


class CountingRobot(ClosingRobot):
    """Hands each number that it executes to `note`."""

    def __init__(self, note: Callable[[int], None]) -> None:
        components = [ActionComponent(name=name, low=0.0, high=top) for name, top in zip(HALVES, LARGEST, strict=True)]
        self.spec = RobotSpec(
            name="counting",
            observation=(ArraySpec(name="number", shape=(2,)),),
            action=ActionSpec(components=tuple(components)),
            control_rate_hz=1000.0,
        )
        self._note = note

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Nothing to do."""
        del seed, options
        return StepResult({"number": np.zeros(2, np.float32)})

    def step(self, action: Action) -> StepResult:
        """Note the number."""
        self._note(int(action[0]) * PER_LIFE + int(action[1]))
        return StepResult({"number": np.array(action, np.float32)})

    def stop(self, reason: str) -> None:
        """Stands already."""


def drive(robot: RemoteRobot, first: int, steps: int, note: Callable[[str, int], None]) -> None:
    """Take numbered steps in episodes; `note` is told "sent", then "done", "unknown" or "refused"."""
    ready = False
    for number in range(first, first + steps):
        while not ready or number % EPISODE_STEPS == 0:
            try:
                robot.reset()
                ready = True
                break
            except (BridgeError, RobotError):
                ready = False
        note("sent", number)
        try:
            halves = np.array(divmod(number, PER_LIFE), np.float32)
            result = robot.step(halves)
            assert np.array_equal(result.observation["number"], halves), "an answer to another step"
            note("done", number)
        except OutcomeUnknownError:
            note("unknown", number)
            ready = False
        except (BridgeError, RobotError):
            note("refused", number)
            ready = False


def judge(executed: list[int], told_by_client: list[tuple[str, int]]) -> dict[str, int]:
    """What must be zero, and how often what happened."""
    by_kind: dict[str, set[int]] = {kind: set() for kind in ("sent", "done", "unknown", "refused")}
    for kind, number in told_by_client:
        by_kind[kind].add(number)
    ran = set(executed)
    silent = by_kind["sent"] - by_kind["done"] - by_kind["unknown"] - by_kind["refused"]
    return {
        "steps": len(by_kind["sent"]),
        "executed_twice": len(executed) - len(ran),
        "out_of_order": sum(later < earlier for earlier, later in itertools.pairwise(executed)),
        "done_but_not_executed": len(by_kind["done"] - ran),
        "refused_but_executed": len(by_kind["refused"] & ran),
        "executed_but_not_reported": len(ran - by_kind["done"] - by_kind["unknown"] - silent),
        "unknown": len(by_kind["unknown"]),
        "refused": len(by_kind["refused"]),
        "cut_off_by_a_kill": len(silent),
    }


BAD = ("executed_twice", "out_of_order", "done_but_not_executed", "refused_but_executed", "executed_but_not_reported")


def through_network(steps: int, seed: int, *, encrypted: bool) -> dict[str, Any]:
    """All in this process, with a network between."""
    executed: list[int] = []
    events: list[tuple[str, int]] = []
    connection.FIRST_RETRY_S, connection.TICK_MS = 0.004, 2  # so that thousands of lost messages cost little time
    with tempfile.TemporaryDirectory() as folder:
        robots, clients = Keyring(Path(folder) / "robot"), Keyring(Path(folder) / "client")
        ring = _known(robots, clients)
        server = RobotServer(
            CountingRobot(executed.append),
            "tcp://127.0.0.1:0",
            pace="fast",
            encrypt=encrypted,
            keyring=ring,
        )
        over = threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(over.is_set,))
        thread.start()
        network = (FaultyConnections if encrypted else FaultyMessages)(server.address, seed=seed)
        started_s = time.monotonic()
        progress = ProgressLine(steps, unit="steps")

        def note(kind: str, number: int) -> None:
            events.append((kind, number))
            progress.update(number, "encrypted connections" if encrypted else "messages")

        try:
            with network:
                if encrypted:
                    clients.pin(network.address, robots.own().public.decode())
                with RemoteRobot(
                    network.address, keyring=clients, step_timeout_s=STEP_TIMEOUT_S, connect_timeout_s=2.0
                ) as robot:
                    drive(robot, 1, steps, note)
        finally:
            progress.close()
            over.set()
            thread.join()
    wall_s = round(time.monotonic() - started_s, 1)
    repeated = server.service.statistics.repeated
    return {**judge(executed, events), "repeated": repeated, "faults": told(network), "wall_s": wall_s}


def _known(robots: Keyring, clients: Keyring) -> Keyring:
    robots.make()
    robots.allow("client", clients.make().public.decode())
    return robots


def through_kills(seconds: float, seed: int) -> dict[str, Any]:
    """Server and commander in processes of their own, each killed and started again at random."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        address = f"ipc://{folder}/robot"
        end_s = time.monotonic() + seconds
        kills = {"serve": 0, "drive": 0}
        processes = {role: _start(role, address, folder, 0) for role in kills}
        due_s = {role: time.monotonic() + _life_s(rng) for role in kills}
        while time.monotonic() < end_s:
            role = min(due_s, key=lambda each: due_s[each])
            time.sleep(max(0.0, due_s[role] - time.monotonic()))
            processes[role].kill()
            processes[role].wait()
            kills[role] += 1
            processes[role] = _start(role, address, folder, kills[role])
            due_s[role] = time.monotonic() + _life_s(rng)
        for process in processes.values():
            process.kill()
            process.wait()
        executed = [int(line) for line in (folder / "serve").read_text().split()]
        words = (folder / "drive").read_text().split()
    result = judge(executed, [(kind, int(number)) for kind, number in zip(words[::2], words[1::2], strict=True)])
    return {**result, "server_kills": kills["serve"], "commander_kills": kills["drive"]}


def _life_s(rng: np.random.Generator) -> float:
    return float(rng.uniform(*LIFE_S))


def _start(role: str, address: str, folder: Path, life: int) -> subprocess.Popen[bytes]:
    """A process that has loaded all it needs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bridge_faults", "--role", role, address, str(folder / role), str(life)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _play(role: str, address: str, log: Path, life: int) -> int:
    """What the processes do; a line is in the operating system's hands before anything else happens."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(text: str) -> None:
        os.write(descriptor, f"{text}\n".encode())

    sys.stdout.write("loaded\n")
    sys.stdout.flush()

    if role == "serve":
        robot = CountingRobot(lambda number: write(str(number)))
        RobotServer(robot, address, pace="fast", command_timeout_s=0.5).serve_forever()
    while True:
        try:
            commander = RemoteRobot(address, step_timeout_s=1.0, connect_timeout_s=1.0)
            break
        except BridgeError:
            pass
    drive(commander, (life + 1) * PER_LIFE, PER_LIFE, lambda kind, number: write(f"{kind} {number}"))
    return 0


def main() -> int:
    """Run the three, judge each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="steps through each network (default 10000)")
    parser.add_argument("--kill-s", type=float, default=30.0, help="seconds of kills (default 30)")
    parser.add_argument("--seed", type=int, default=0, help="decides the faults")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--role", nargs=4, metavar=("ROLE", "ADDRESS", "LOG", "LIFE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        role, address, log, life = arguments.role
        return _play(role, address, Path(log), int(life))
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "messages": lambda: through_network(arguments.steps, arguments.seed, encrypted=False),
        "connections": lambda: through_network(arguments.steps, arguments.seed, encrypted=True),
        "kills": lambda: through_kills(arguments.kill_s, arguments.seed),
    }
    results: dict[str, dict[str, Any]] = {}
    for name, run in ways.items():
        results[name] = run()
        if not arguments.json:
            sys.stdout.write(f"{name}: {results[name]}\n")
            sys.stdout.flush()
    if arguments.json:
        sys.stdout.write(json.dumps({**results, "machine": machine()}) + "\n")
    return int(any(result[name] for result in results.values() for name in BAD))


if __name__ == "__main__":
    sys.exit(main())
