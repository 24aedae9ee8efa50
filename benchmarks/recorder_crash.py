"""Kill the recorder again and again while it records state and two cameras, and see that nothing is lost.

    python -m benchmarks.recorder_crash [--trials 100] [--json]

A third of the trials kill the process of the control loop with SIGKILL, a third the one that writes, a third both. In
half of the episodes a camera stops, for a moment or for so long that the episode ends. Before the kill the loop told,
through a pipe, which steps were acknowledged. Afterwards the store is opened for writing: every episode has to be there
up to its last acknowledged step at least, readable, valid, and with the very values that were recorded. Each step
carries its own number in its action, its state and its images; the frames that never came, and no others, have to be
marked as dropped.

`--full-disks N` lets N more recorders run until a small disk is full, which something else fills too (a tmpfs in a
mount namespace of its own, where that is permitted), and looks at what is left in the same way.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
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
from robot_rlpd.robot import Source, StepResult
from robot_rlpd.rollout import SilentListener
from robot_rlpd.specs import ArraySpec
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from robot_rlpd.episode import Episode
    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.specs import RobotSpec

RATE_HZ = 50.0
EPISODE_STEPS = 40
CAMERA_TIMEOUT_S = 0.2
LONGEST_OUTAGE = 20
"""Steps; twice as many as the recorder bears."""
DISK_MB = (6, 30)
FILLED_BYTES_PER_S = 1_000_000
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


def outage(seed: int) -> tuple[str, range]:
    """Which camera gives no image in an episode, and in which steps; in every second episode none."""
    rng = np.random.default_rng([seed, 1])
    first = int(rng.integers(1, EPISODE_STEPS))
    length = int(rng.integers(1, LONGEST_OUTAGE)) if rng.random() < 0.5 else 0
    return f"camera_{rng.integers(2)}", range(first, first + length)


class FilmedRobot(FakeRobot):
    """Its images and its position are the number of the step in the episode.

    Args:
        spec: Has the cameras.
        with_outages: Whether its cameras stop, as `outage` says.
    """

    def __init__(self, spec: RobotSpec, *, with_outages: bool = False) -> None:
        super().__init__(spec)
        self._number = 0
        self._with_outages = with_outages
        self._outage: tuple[str, range] = ("", range(0))
        self._images = [field for field in spec.observation if field.is_image]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Count from 0."""
        self._number = 0
        self._outage = outage(seed or 0) if self._with_outages else ("", range(0))
        return super().reset(seed=seed, options=options)

    def step(self, action: Action) -> StepResult:
        """Count on."""
        self._number += 1
        camera, steps = self._outage
        return replace(super().step(action), dropped_frames=(camera,) if self._number in steps else ())

    def look(self) -> StepResult:
        """All cameras are back."""
        return StepResult(self._observation())

    def _observation(self) -> Observation:
        number = np.full(2, self._number, np.float32)
        images = {field.name: np.full(field.shape, self._shown(field.name) % GREYS, np.uint8) for field in self._images}
        return {"position": number, "target": number + 1000.0, **images}

    def _shown(self, camera: str) -> int:
        stopped, steps = self._outage
        return steps.start - 1 if camera == stopped and self._number in steps else self._number


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


def record_for_ever(path: Path, first_seed: int) -> None:
    """The program that is killed."""
    spec = film_spec(128, 128, 2, RATE_HZ)
    keeper = WriterProcess(path, spec, exist_ok=True)
    os.write(1, f"writer {keeper.pid}\n".encode())
    options = RecordOptions(
        episodes=10**9,
        max_attempts=10**9,
        keep_failures=True,
        first_seed=first_seed,
        camera_timeout_s=CAMERA_TIMEOUT_S,
        info=EpisodeInfo(),
    )
    robot = PacedRobot(FilmedRobot(spec, with_outages=True))
    Recorder(robot, Numbering(), FakeTask(EPISODE_STEPS), keeper, options, listeners=[Tell(keeper)]).run()


def main() -> int:
    """Record, kill, look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="number of kills (default 100)")
    parser.add_argument("--full-disks", type=int, default=10, help="number of disks that are filled (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="decides the instants")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first-seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record is not None:
        record_for_ever(arguments.record, arguments.first_seed)
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "killed": kill_recorders(Path(folder) / "store", arguments.trials, arguments.seed),
            "full_disk": fill_disks(Path(folder), arguments.full_disks, arguments.seed),
        }
    told = {**result, "machine": machine()}
    if arguments.json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in told.items()))
    wrong = ("acknowledged_steps_lost", "unreadable_episodes", "wrong_values", "left_in_the_spool")
    return int(any(part.get(name, 0) for part in result.values() for name in wrong))


def kill_recorders(path: Path, trials: int, seed: int) -> dict[str, Any]:
    """Kill `trials` recorders of one store."""
    rng = np.random.default_rng(seed)
    promised: dict[str, int] = {}
    running = 0
    for trial in range(trials):
        told = _record_and_kill(path, SIDES[trial % len(SIDES)], rng.uniform(0.0, LONGEST_S), first_seed=1000 * trial)
        promised |= told
        running += int(bool(told) and list(told.values())[-1] < EPISODE_STEPS)
        _recover(path)
    return {"trials": trials, "killed_while_an_episode_ran": running, **look(path, promised)}


def fill_disks(folder: Path, disks: int, seed: int) -> dict[str, Any]:
    """Record onto small disks until they are full, one recorder and one store each."""
    rng = np.random.default_rng([seed, 2])
    total: Counter[str] = Counter()
    for disk in range(disks):
        place = folder / f"disk{disk}"
        place.mkdir()
        try:
            promised = _record_until_full(place, int(rng.integers(*DISK_MB)), first_seed=1000 * disk)
        except PermissionError as error:
            return {"disks": 0, "why": str(error)}
        _recover(place / "store")
        total.update(look(place / "store", promised))
        shutil.rmtree(place)
    return {"disks": disks, **total}


def look(path: Path, promised: dict[str, int]) -> dict[str, int]:
    """What is in the store, and what of the acknowledged steps of each episode is not."""
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
    dropped = [int(frames.dropped.sum()) for episode in found.values() for frames in episode.frames.values()]
    return {
        "episodes": len(found),
        "interrupted_episodes": sum(episode.info.ended == "interrupted" for episode in found.values()),
        "ended_by_a_camera": sum("has given no image" in episode.info.notes for episode in found.values()),
        "dropped_frames": sum(dropped),
        "acknowledged_steps": sum(promised.values()),
        "acknowledged_steps_lost": lost,
        "unreadable_episodes": unreadable,
        "wrong_values": sum(not _is_right(episode) for episode in found.values()),
        "left_in_the_spool": left,
    }


def _record_until_full(place: Path, size_mb: int, first_seed: int) -> dict[str, int]:
    """Acknowledged steps by episode; what is left on the full disk is put into `place`.

    Raises:
        PermissionError: This user may mount nothing here.
    """
    disk = place / "disk"
    disk.mkdir()
    recorder = f"{shlex.quote(sys.executable)} -m benchmarks.recorder_crash"
    script = (
        f"mount -t tmpfs -o size={size_mb}m none {disk} || exit 77; "
        f"(while [ ! -d {disk}/store-spool ]; do sleep 0.1; done; "
        f"while head -c {FILLED_BYTES_PER_S} /dev/zero >> {disk}/other 2> /dev/null; do sleep 1; done) & "
        f"{recorder} --record {disk}/store --first-seed {first_seed}; "
        f"kill $! 2> /dev/null; cp -a {disk}/store {disk}/store-spool {place}"
    )
    process = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    if not process.stdout:
        raise PermissionError(f"no mount namespace: {process.stderr.strip()}")
    if "No space left" not in process.stderr:
        raise SystemExit(f"the recorder ended for another reason: {process.stderr}")
    return _acknowledged(process.stdout.splitlines()[1:])


def _acknowledged(lines: Iterable[str]) -> dict[str, int]:
    """Steps by episode, from what the loop told."""
    return {uuid: int(steps) for uuid, steps in (line.split() for line in lines)}


def _record_and_kill(path: Path, side: str, after_s: float, first_seed: int) -> dict[str, int]:
    """Acknowledged steps by episode, at the moment of the kill."""
    program = [sys.executable, "-m", "benchmarks.recorder_crash"]
    command = [*program, "--record", str(path), "--first-seed", str(first_seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    writer = int(process.stdout.readline().split()[1])
    select.select([process.stdout], [], [], 10.0)
    time.sleep(after_s)
    pids = {"loop": [process.pid], "writer": [writer], "both": [process.pid, writer]}[side]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    told = _acknowledged(line.decode() for line in process.stdout)
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
    rows = np.arange(len(episode.robot_times_s))
    stopped, steps = outage(episode.info.seed or 0)
    for camera in ("camera_0", "camera_1"):
        missing = np.isin(rows, steps) if camera == stopped else np.zeros(len(rows), np.bool_)
        shown = np.where(missing, steps.start - 1, rows)
        greys = episode.observations[camera].mean((1, 2, 3)) - shown % GREYS
        if not (np.array_equal(episode.frames[camera].dropped, missing) and (np.abs(greys) < 3).all()):
            return False
    return np.array_equal(episode.actions[:, 0], numbers) and np.array_equal(
        episode.observations["position"][:, 1], rows
    )


if __name__ == "__main__":
    sys.exit(main())
