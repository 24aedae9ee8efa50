"""Several simulated actors deliver to one learner on one machine: steps received per second.

    python -m benchmarks.actor_scaling [--actors 1 2 4 8 16] [--seconds 20] [--pace real] [--robot sim:reach] [--json]

Actors are the command `robot-rlpd actor` as a robot's computer runs it, each in a process of its own with its own
outbox. The learner brings every episode to its disk before it acknowledges it, and does not train. With `--pace real`
each actor acts at its robot's rate: what is lost to that is what the machine lacks. With `--pace fast` they act as fast
as they can: the most that comes through. Told beside the steps: the processor time of the learner for each, and the
episodes that waited in the outboxes in the end.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bridge_latency import processor_s
from benchmarks.machine import machine
from robot_rlpd.bridge.episodes import Inbox
from robot_rlpd.bridge.learner_server import LearnerServer
from robot_rlpd.bridge.observer import Observer
from robot_rlpd.bridge.policies import Shelf
from robot_rlpd.bridge.robots import open_robot
from robot_rlpd.episode_store import EpisodeStore

COMMAND = [sys.executable, "-c", "import sys; from robot_rlpd.cli import main; sys.exit(main(sys.argv[1:]))"]
PATIENCE_S = 300.0


def learn(folder: Path, robot_name: str) -> int:
    """Take episodes until killed; prints the address."""
    with open_robot(robot_name) as robot:
        spec = robot.spec
    store, contract = EpisodeStore.create(folder / "learner.zarr", spec), spec.contract()
    inbox = Inbox(contract, is_stored=lambda uuid: uuid in store, store=store.extend, received=lambda episode: None)
    server = LearnerServer("tcp://127.0.0.1:0", contract=contract, inbox=inbox, shelf=Shelf())
    sys.stdout.write(server.address + "\n")
    sys.stdout.flush()
    while True:
        signal.pause()


def measure(actors: int, seconds: float, pace: str, robot: str) -> dict[str, Any]:
    """So many actors, after each has delivered an episode."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "benchmarks.actor_scaling", "--learn", name, "--robot", robot]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as learner:
            assert learner.stdout is not None
            address = learner.stdout.readline().strip()
            running = [_act(Path(name), address, f"actor{i}", pace, robot) for i in range(actors)]
            try:
                with Observer(address, timeout_s=60.0) as observer:
                    _wait_for_all(observer, actors)
                    return _received(observer, learner.pid, seconds)
            finally:
                for actor in running:
                    actor.kill()
                    actor.wait()
                learner.kill()


def _act(folder: Path, address: str, name: str, pace: str, robot: str) -> subprocess.Popen[bytes]:
    options = ["--robot", robot, "--learner", address, "--outbox", str(folder / name), "--name", name, "--pace", pace]
    return subprocess.Popen([*COMMAND, "actor", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait_for_all(observer: Observer, actors: int) -> None:
    began_s = time.monotonic()
    while sum(actor["episodes"] > 0 for actor in observer.status()["actors"].values()) < actors:
        if time.monotonic() - began_s > PATIENCE_S:
            raise TimeoutError(f"not every actor delivered an episode within {PATIENCE_S:g} s")
        time.sleep(0.5)


def _received(observer: Observer, pid: int, seconds: float) -> dict[str, Any]:
    before, busy_s, began_s = observer.status(), processor_s(pid), time.monotonic()
    time.sleep(seconds)
    after, busy_s, took_s = observer.status(), processor_s(pid) - busy_s, time.monotonic() - began_s
    steps = after["env_steps"] - before["env_steps"]
    return {
        "steps_per_s": round(steps / took_s, 1),
        "episodes": after["episodes"] - before["episodes"],
        "learner_us_per_step": round(busy_s / max(1, steps) * 1e6, 1),
        "waiting": sum(actor["pending"] for actor in after["actors"].values()),
        "repeated": after["repeated"],
    }


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="how many (default 1 2 4 8 16)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement (default 20)")
    parser.add_argument("--pace", choices=["real", "fast"], default="real", help="of the actors (default real)")
    parser.add_argument("--robot", default="sim:reach", help="of the actors (default sim:reach)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--learn", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.learn:
        return learn(arguments.learn, arguments.robot)
    result: dict[str, Any] = {}
    for actors in arguments.actors:
        result[str(actors)] = measured = measure(actors, arguments.seconds, arguments.pace, arguments.robot)
        if not arguments.json:
            sys.stdout.write(f"{actors} actors: {measured}\n")
            sys.stdout.flush()
    if arguments.json:
        sys.stdout.write(json.dumps({**result, "machine": machine()}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
