"""Kill the recorder again and again while it records state and two cameras, and see that nothing is lost.

    python -m benchmarks.recorder_crash [--trials 100] [--json]

A third of the trials kill the process of the control loop with SIGKILL, a third the one that writes, a third both.
Before that the loop told, through a pipe, which steps were acknowledged. Afterwards the store is opened for writing:
every episode has to be there up to its last acknowledged step at least, readable, valid, and with the very values that
were recorded: each step carries its own number in its action, its state and its images.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import machine
from demos.recording.options import RecordOptions
from demos.recording.recorder import Recorder
from demos.recording.writer_process import WriterProcess
from robot_rlpd.episode import EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import StoreError
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.robot import Source
from robot_rlpd.rollout import SilentListener
from robot_rlpd.specs import ArraySpec
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from robot_rlpd.episode import Episode
    from robot_rlpd.robot import Action, Observation, StepResult
    from robot_rlpd.specs import RobotSpec

RATE_HZ = 50.0
EPISODE_STEPS = 40
GREYS = 200
"""Step t shows the grey t % GREYS; JPEG keeps it to within 3."""
LONGEST_S = 3.0
SIDES = ("loop", "writer", "both")


def film_spec(height: int, width: int, cameras: int, rate_hz: float) -> RobotSpec:
    """The fake robot with cameras."""
    shape = (height, width, 3)
    images = (ArraySpec(name=f"camera_{i}", shape=shape, dtype="uint8", is_image=True) for i in range(cameras))
    plain = fake_spec(rate_hz)
    return replace(plain, observation=(*plain.observation, *images))


class FilmedRobot(FakeRobot):
    """Its images and its position are the number of the step in the episode."""

    def __init__(self, spec: RobotSpec) -> None:
        super().__init__(spec)
        self._number = 0
        self._images = [field for field in spec.observation if field.is_image]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Count from 0."""
        self._number = 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Action) -> StepResult:
        """Count on."""
        self._number += 1
        return super().step(action)

    def _observation(self) -> Observation:
        number = np.full(2, self._number, np.float32)
        images = {field.name: np.full(field.shape, self._number % GREYS, np.uint8) for field in self._images}
        return {"position": number, "target": number + 1000.0, **images}


class Numbering:
    """Commands the number of the step."""

    source = Source.HUMAN

    def reset(self) -> None:
        """Nothing to forget."""

    def __call__(self, observation: Observation) -> Action:
        """The number, which the robot counts up next."""
        return (observation["position"] + 1.0).astype(np.float32)


class Tell(SilentListener):
    """Tells which episode runs, and which of its steps are acknowledged."""

    def __init__(self, keeper: WriterProcess) -> None:
        self._keeper = keeper
        self._uuid = ""

    def on_start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """Remember the episode."""
        self._uuid = info.uuid

    def on_step(self, step: object) -> None:
        """Tell, in one write that no kill can cut."""
        os.write(1, f"{self._uuid} {self._keeper.acknowledged_steps}\n".encode())


def record_for_ever(path: Path) -> None:
    """The program that is killed."""
    spec = film_spec(128, 128, 2, RATE_HZ)
    keeper = WriterProcess(path, spec, exist_ok=True)
    os.write(1, f"writer {keeper.pid}\n".encode())
    options = RecordOptions(episodes=10**9, max_attempts=10**9, keep_failures=True, info=EpisodeInfo())
    robot = PacedRobot(FilmedRobot(spec))
    Recorder(robot, Numbering(), FakeTask(EPISODE_STEPS), keeper, options, listeners=[Tell(keeper)]).run()


def main() -> int:
    """Record, kill, look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="number of kills (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="decides the instants")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record is not None:
        record_for_ever(arguments.record)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder) / "store", arguments.trials, arguments.seed)
    result["machine"] = machine()
    if arguments.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in result.items()))
    wrong = ("acknowledged_steps_lost", "unreadable_episodes", "wrong_values", "left_in_the_spool")
    return int(any(result[name] for name in wrong))


def measure(path: Path, trials: int, seed: int) -> dict[str, Any]:
    """Kill `trials` recorders of one store."""
    rng = np.random.default_rng(seed)
    promised: dict[str, int] = {}
    running = 0
    for trial in range(trials):
        told = _record_and_kill(path, SIDES[trial % len(SIDES)], rng.uniform(0.0, LONGEST_S))
        promised |= told
        running += int(bool(told) and list(told.values())[-1] < EPISODE_STEPS)
        _recover(path)
    found: dict[str, Episode] = {}
    unreadable = 0
    with EpisodeStore.open(path) as store:
        for index, stored in enumerate(store.infos()):
            try:
                found[stored.info.uuid] = store.read(index)
                found[stored.info.uuid].validate()
            except Exception:
                unreadable += 1
        left = len(list(store.spool_directory.glob("*")))
    lost = sum(max(0, steps - len(found[uuid]) if uuid in found else steps) for uuid, steps in promised.items())
    return {
        "trials": trials,
        "killed_while_an_episode_ran": running,
        "episodes": len(found),
        "interrupted_episodes": sum(episode.info.ended == "interrupted" for episode in found.values()),
        "acknowledged_steps": sum(promised.values()),
        "acknowledged_steps_lost": lost,
        "unreadable_episodes": unreadable,
        "wrong_values": sum(not _is_right(episode) for episode in found.values()),
        "left_in_the_spool": left,
    }


def _record_and_kill(path: Path, side: str, after_s: float) -> dict[str, int]:
    """Acknowledged steps by episode, at the moment of the kill."""
    command = [sys.executable, "-m", "benchmarks.recorder_crash", "--record", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    writer = int(process.stdout.readline().split()[1])
    select.select([process.stdout], [], [], 10.0)
    time.sleep(after_s)
    pids = {"loop": [process.pid], "writer": [writer], "both": [process.pid, writer]}[side]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    told: dict[str, int] = {}
    for line in process.stdout:
        uuid, steps = line.decode().split()
        told[uuid] = int(steps)
    process.wait()
    process.stdout.close()
    return told


def _recover(path: Path) -> None:
    """Open the store for writing as soon as the writer of a killed loop has let go of it."""
    for _ in range(600):
        try:
            EpisodeStore.open(path, "a").close()
        except StoreError as error:
            if "another process" not in str(error):
                raise
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the writer does not end")


def _is_right(episode: Episode) -> bool:
    numbers = np.arange(1, len(episode) + 1)
    shown = np.arange(len(episode.robot_times_s))
    greys = [array.mean((1, 2, 3)) - shown % GREYS for name, array in episode.observations.items() if "camera" in name]
    return (
        np.array_equal(episode.actions[:, 0], numbers)
        and np.array_equal(episode.observations["position"][:, 1], shown)
        and bool((np.abs(greys) < 3).all())
    )


if __name__ == "__main__":
    sys.exit(main())
