"""Kill a session of fine-tuning again and again, its robot too, and see that nothing is lost.

    python -m benchmarks.finetune_crash [--kills 20] [--robot-kills 2] [--minutes 20] [--json]

A stand-in of `reach` is served by a process of its own, which counts the steps that it makes. A session on it is killed
with SIGKILL at random instants and resumed each time. Every step that the robot made has to be in the session's store,
but for the one of each kill whose answer was on its way; none may be there twice; the starting policy must be as it
was. Then, in a second session, the robot is killed and served anew: the session has to wait for it and go on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.machine import show_result
from demos.commands import RecordConfig, record
from robot_rlpd.bridge.observer import Observer
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.learner.checkpoint import load_checkpoint
from robot_rlpd.learner.finetune_config import START
from robot_rlpd.learner.run_directory import CHECKPOINTS, EPISODES

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = [sys.executable, "-c", "import sys; from robot_rlpd.cli import main; sys.exit(main())"]
SMALL = ["--hidden-dims", "16", "16", "--ensemble-size", "2", "--utd-ratio", "1", "--batch-size", "32", "--no-compile"]
LOADING_SHARE, LOADING_S = 0.25, 4.0
"""So many of the kills strike within so many seconds of the start, while the session loads or is resumed."""
TRAINING_S = 1.0
"""The others strike so many seconds at most after the robot made a new step."""
WATCHDOG_S = 1.0
"""The stand-in takes another learner once the last one was silent for so long."""
ATTEMPTS = 20
"""Times that a session is resumed at the end, while the stand-in still holds the seat of a dead learner."""


def main() -> int:
    """Kill, resume, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of the learner (default 20)")
    parser.add_argument("--robot-kills", type=int, default=2, help="of the robot (default 2)")
    parser.add_argument("--minutes", type=float, default=20.0, help="time on the robot of each session [min]")
    parser.add_argument("--seed", type=int, default=0, help="decides the instants")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        result = killed_learners(Path(folder), asked.kills, asked.minutes, rng)
        result |= killed_robots(Path(folder), asked.robot_kills, asked.minutes, rng)
    show_result(result, as_json=asked.json)
    return 0 if is_good(result) else 1


def is_good(result: dict[str, Any]) -> bool:
    """Whether nothing was lost, nothing is there twice, and the starting policy is what it was."""
    lost = result["steps_made"] - result["steps_stored"]
    return (
        0 <= lost <= result["kills"]
        and not result["episodes_twice"]
        and not result["episodes_lost"]
        and result["start_kept"]
        and result["steps_told"] == result["steps_stored"]
        and result["robot_kills_survived"] == result["robot_kills"]
    )


def prepare(folder: Path) -> None:
    """A starting policy, briefly trained."""
    record(RecordConfig(task="reach", out=folder / "sim.zarr", episodes=5))
    options = ["--task", "reach", "--prior", str(folder / "sim.zarr"), "--preset", "quickstart", *SMALL]
    options += ["--env-steps", "200", "--start-training", "100", "--eval-every", "0"]
    _run(["train", *options, "--run-dir", str(folder / "sim")])


def begin(folder: Path, run_dir: Path, address: str, minutes: float) -> list[str]:
    """The words that begin a session or go on with it."""
    if (run_dir / CHECKPOINTS / "latest.pt").is_file():
        return ["finetune", "--resume", str(run_dir), "--json", "--yes"]
    if run_dir.exists():  # killed before its first checkpoint: no step was made
        run_dir.rename(run_dir.with_name(f"{run_dir.name}-{time.monotonic_ns()}"))
    words = ["finetune", "--from", str(folder / "sim"), "--robot", address, "--success", "robot", "--prior"]
    words += [str(folder / "sim.zarr"), "--minutes", str(minutes), "--eval-every", "0", "--no-compile"]
    return [*words, "--checkpoint-every-s", "0.5", "--run-dir", str(run_dir), "--json", "--yes"]


def killed_learners(folder: Path, kills: int, minutes: float, rng: np.random.Generator) -> dict[str, Any]:
    """Kill the learner, resume, and compare with what the robot counted."""
    run_dir, seen, lost, training_kills = folder / "session", set[str](), 0, 0
    with served(free_port()) as address, Observer(address) as observer:
        for _ in range(kills):
            process = _start(begin(folder, run_dir, address, minutes))
            training = rng.random() > LOADING_SHARE
            if training:
                _wait_for_steps(process, observer)
            time.sleep(rng.uniform(0.0, TRAINING_S if training else LOADING_S))
            training_kills += int(training and process.poll() is None)
            process.kill()
            process.communicate()
            stored = set(_episodes(run_dir))
            lost += len(seen - stored)
            seen |= stored
        told = _finish(folder, run_dir, address, minutes)
        made = int(observer.status()["env_steps"])
    episodes = _episodes(run_dir)
    start, sim = load_checkpoint(run_dir / CHECKPOINTS / START), load_checkpoint(folder / "sim")
    return {
        "kills": kills,
        "kills_while_training": training_kills,
        "steps_made": made,
        "steps_stored": sum(episodes.values()),
        "steps_told": told["env_steps"],
        "episodes": len(episodes),
        "episodes_lost": lost + len(seen - set(episodes)),
        "episodes_twice": _twice(run_dir),
        "start_kept": all(torch.equal(value, start.actor[name]) for name, value in sim.actor.items()),
    }


def killed_robots(folder: Path, kills: int, minutes: float, rng: np.random.Generator) -> dict[str, Any]:
    """Kill the robot and serve it anew at the same address while one session goes on."""
    run_dir, port = folder / "patient", free_port()
    survived = 0
    with contextlib.ExitStack() as stack:
        robot = stack.enter_context(contextlib.ExitStack())
        address = robot.enter_context(served(port))
        process = _start(begin(folder, run_dir, address, minutes))
        for _ in range(kills):
            with Observer(address) as observer:
                _wait_for_steps(process, observer)
            time.sleep(rng.uniform(0.0, TRAINING_S))
            robot.close()
            time.sleep(rng.uniform(0.0, LOADING_S))
            survived += int(process.poll() is None)
            robot = stack.enter_context(contextlib.ExitStack())
            robot.enter_context(served(port))
        told = json.loads(process.communicate()[0] or b"{}")
    return {
        "robot_kills": kills,
        "robot_kills_survived": survived,
        "patient_session_ended": told.get("ended"),
        "patient_session_steps": told.get("env_steps"),
        "patient_session_stored": sum(_episodes(run_dir).values()),
    }


@contextlib.contextmanager
def served(port: int) -> Iterator[str]:
    """The stand-in, until it is killed."""
    words = ["serve", "--robot", "standin:reach:hard", "--address", f"tcp://127.0.0.1:{port}", "--pace", "fast"]
    words += ["--command-timeout-s", str(WATCHDOG_S), "--json"]
    with subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield str(json.loads(process.stdout.readline())["address"])
        finally:
            process.kill()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _finish(folder: Path, run_dir: Path, address: str, minutes: float) -> dict[str, Any]:
    for _ in range(ATTEMPTS):
        process = _start(begin(folder, run_dir, address, minutes))
        told = process.communicate()[0]
        if process.returncode == 0:
            result: dict[str, Any] = json.loads(told)
            return result
        time.sleep(WATCHDOG_S)
    raise SystemExit("the session could not be resumed")


def _wait_for_steps(process: subprocess.Popen[bytes], observer: Observer) -> None:
    """Until the robot has made a step more, or the learner is gone."""
    before = observer.status()["env_steps"]
    while process.poll() is None and observer.status()["env_steps"] == before:
        time.sleep(0.05)


def _start(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _run(words: list[str]) -> None:
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr}")


def _episodes(run_dir: Path) -> dict[str, int]:
    """Steps of each episode by its UUID."""
    if not (run_dir / EPISODES).exists():
        return {}
    with EpisodeStore.open(run_dir / EPISODES) as store:
        return {stored.info.uuid: stored.num_steps for stored in store.infos()}


def _twice(run_dir: Path) -> int:
    with EpisodeStore.open(run_dir / EPISODES) as store:
        names = [stored.info.uuid for stored in store.infos()]
    return len(names) - len(set(names))


if __name__ == "__main__":
    sys.exit(main())
