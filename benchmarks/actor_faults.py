"""Kill, freeze and cut off an actor and its learner again and again, and count the episodes in the end.

    python -m benchmarks.actor_faults [--seconds 600] [--every-s 4] [--json]

An actor steps a simulated robot and delivers its episodes through a network that cuts and stalls connections to a
learner that brings them to its disk. Every few seconds one of the two is killed with SIGKILL and started again, or
frozen for a while. The actor notes the UUID of each episode with its first step; in the end both are left alone until
everything is delivered. Every episode with a step must be in the learner's store, none twice; and no action may be
applied that was decided longer ago than the watchdog allows, which is what a frozen actor would do when it thaws.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.faulty_network import FaultyConnections, told
from benchmarks.machine import show_result
from robot_rlpd.bridge.courier import Courier
from robot_rlpd.bridge.episodes import Inbox
from robot_rlpd.bridge.learner_server import LearnerServer
from robot_rlpd.bridge.outbox import Outbox
from robot_rlpd.bridge.policies import Shelf
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import RobotError
from robot_rlpd.limits import Watch
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.robot import RandomPolicy
from robot_rlpd.rollout import SilentListener, rollout
from robot_rlpd.spool import StoreListener
from robot_rlpd.task import SignalTask
from robot_rlpd.testing import FakeRobot, fake_spec
from robot_rlpd.watchdog import watched

if TYPE_CHECKING:
    from robot_rlpd.episode import Step
    from robot_rlpd.robot import Action, Observation, StepResult

RATE_HZ, EPISODE_STEPS = 100.0, 40
COMMAND_TIMEOUT_S = 0.25
THINKING_S = 0.005
"""Between decision and command, so that every second freeze falls in there."""
FROZEN_S = (0.5, 3.0)
LAST_WAIT_S = 300.0
"""How long the last episodes may take, when nothing is killed any more."""


def learn(folder: Path, port: int) -> int:
    """Take episodes until killed."""
    store = EpisodeStore.create(folder / "learner.zarr", fake_spec(RATE_HZ), exist_ok=True)
    contract = fake_spec(RATE_HZ).contract()
    inbox = Inbox(contract, is_stored=lambda uuid: uuid in store, store=store.extend, received=lambda episode: None)
    LearnerServer(f"tcp://127.0.0.1:{port}", contract=contract, inbox=inbox, shelf=Shelf())
    _say_loaded()
    while True:
        signal.pause()


class Note(SilentListener):
    """Writes down each episode that has a step, before the next one can begin."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.refused = os.open(path.with_name("refused"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._noted = True
        self._uuid = ""

    def on_start(self, spec: object, info: Any, first: object, wall_time_s: float) -> None:
        """Remember which."""
        del spec, first, wall_time_s
        self._uuid, self._noted = info.uuid, False

    def on_step(self, step: Step) -> None:
        """Note it with its first step, which was spooled before."""
        del step
        if not self._noted:
            os.write(self._descriptor, f"{self._uuid}\n".encode())
            self._noted = True


class SlowRandomPolicy(RandomPolicy):
    """Remembers when it decided; then takes its time."""

    decided_s = 0.0

    def __call__(self, observation: Observation) -> Action:
        """A uniform action."""
        action = super().__call__(observation)
        self.decided_s = time.monotonic()
        time.sleep(THINKING_S)
        return action


class NotedRobot(FakeRobot):
    """Notes the age of actions that should not have been applied any more."""

    def __init__(self, path: Path) -> None:
        super().__init__(fake_spec(RATE_HZ))
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.policy: SlowRandomPolicy | None = None

    def step(self, action: Action) -> StepResult:
        """Move by the action."""
        if self.policy is not None and (age_s := time.monotonic() - self.policy.decided_s) > COMMAND_TIMEOUT_S:
            os.write(self._descriptor, f"{age_s}\n".encode())
        return super().step(action)


def act(folder: Path, address: str, last: bool) -> int:
    """Record and deliver until killed; the last time, only deliver."""
    with Outbox(folder / "outbox") as outbox:
        courier = Courier(address, outbox, actor="one", spec=fake_spec(RATE_HZ))
        _say_loaded()
        if last:
            delivered = courier.wait_until_delivered(LAST_WAIT_S)
            courier.close()
            return int(not delivered)
        driver = NotedRobot(folder / "late")
        robot = watched(PacedRobot(driver), Watch(command_timeout_s=COMMAND_TIMEOUT_S))
        driver.policy = policy = SlowRandomPolicy(robot.spec, np.random.default_rng())
        note = Note(folder / "begun")
        while True:
            listeners = (StoreListener(outbox), note)
            try:
                rollout(robot, policy, SignalTask("signals", EPISODE_STEPS), listeners=listeners)
            except RobotError:  # stopped by its watchdog
                os.write(note.refused, b"refused\n")
            courier.hurry()


def measure(seconds: float, every_s: float, seed: int) -> dict[str, Any]:
    """Do it in an empty folder; returns what was found."""
    rng = np.random.default_rng(seed)
    faults = Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), _free_port()
        with FaultyConnections(f"tcp://127.0.0.1:{port}", every_s=1.0, seed=seed) as network:
            words = {"learner": ["learn", name, str(port)], "actor": ["act", name, network.address]}
            running = {role: _start(words[role]) for role in words}
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s:
                time.sleep(float(rng.exponential(every_s)))
                role = ("learner", "actor")[int(rng.integers(2))]
                if running[role].poll() is not None:
                    faults[f"{role} ended by itself"] += 1
                    running[role] = _start(words[role])
                elif rng.random() < 0.5:
                    faults[f"{role} killed"] += 1
                    _kill(running[role])
                    running[role] = _start(words[role])
                else:
                    faults[f"{role} frozen"] += 1
                    running[role].send_signal(signal.SIGSTOP)
                    time.sleep(float(rng.uniform(*FROZEN_S)))
                    running[role].send_signal(signal.SIGCONT)
            _kill(running["actor"])
            _kill(running["learner"])
            learner = _start(words["learner"])
            left = _start([*words["actor"], "last"]).wait()
            _kill(learner)
        with EpisodeStore.open(folder / "learner.zarr") as store:
            stored = [entry.info.uuid for entry in store.infos()]
        begun = (folder / "begun").read_text().split()
        waiting = {path.stem for path in (folder / "outbox").rglob("*") if path.is_file()}
        refused = len(list((folder / "outbox").glob("*.refused")))
        late = [float(age_s) for age_s in (folder / "late").read_text().split()]
        stopped = len((folder / "refused").read_text().split())
    return {
        "episodes": len(begun),
        "stored": len(stored),
        "waiting": len(waiting - set(stored)),
        "lost": len(set(begun) - set(stored) - waiting),
        "twice": len(stored) - len(set(stored)),
        "refused": refused,
        "delivered_in_the_end": left == 0,
        "stopped_by_watchdog": stopped,
        "applied_too_late": len(late),
        "latest_s": round(max(late, default=0.0), 3),
        "faults": dict(faults),
        "network": told(network),
    }


def _free_port() -> int:
    import socket

    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


def _start(words: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.actor_faults", "--role", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _say_loaded() -> None:
    sys.stdout.write("loaded\n")
    sys.stdout.flush()


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def main() -> int:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--every-s", type=float, default=4.0, help="mean seconds between faults (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="decides the faults")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        kind, folder, where, *last = arguments.role
        return learn(Path(folder), int(where)) if kind == "learn" else act(Path(folder), where, bool(last))
    result = measure(arguments.seconds, arguments.every_s, arguments.seed)
    show_result(result, as_json=arguments.json)
    return int(
        bool(result["lost"] or result["applied_too_late"] or result["twice"] or not result["delivered_in_the_end"])
    )


if __name__ == "__main__":
    sys.exit(main())
