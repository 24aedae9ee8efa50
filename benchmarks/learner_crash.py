"""Kill a training run again and again, and see that nothing is lost.

    python -m benchmarks.learner_crash [--kills 20] [--env-steps 8000] [--json]

One run is left alone. Another with the same seed is killed with SIGKILL at random instants and resumed each time. In
the end the parameters of both have to be equal to the bit, and each committed episode has to be there exactly once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import show_result
from demos.commands import RecordConfig, record
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.learner.checkpoint import load_checkpoint
from robot_rlpd.learner.metrics import FILE_NAME
from robot_rlpd.learner.run_directory import EPISODES

PROGRAM = [sys.executable, "-c", "import sys; from robot_rlpd.cli import main; sys.exit(main())"]
SMALL = ["--hidden-dims", "16", "16", "--ensemble-size", "2", "--utd-ratio", "1", "--batch-size", "32", "--no-compile"]
LOADING_SHARE, LOADING_S = 0.25, 3.0
"""So many of the kills strike within so many seconds of the start, while the run loads or is resumed."""
TRAINING_S = 1.5
"""The others strike so many seconds at most after new environment steps were recorded."""


def main() -> int:
    """Run, kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default 20)")
    parser.add_argument("--env-steps", type=int, default=8000, help="length of the run (default 8000)")
    parser.add_argument("--seed", type=int, default=0, help="decides the instants")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.kills, arguments.env_steps, arguments.seed)
    good = result["bit_identical"] and not result["episodes_lost"] and not result["episodes_twice"]
    show_result(result, as_json=arguments.json)
    return 0 if good else 1


def measure(folder: Path, kills: int, env_steps: int, seed: int) -> dict[str, Any]:
    """Do it in an empty folder; returns what was found."""
    record(RecordConfig(task="reach", out=folder / "demos.zarr", episodes=5))
    options = ["--task", "reach", "--prior", str(folder / "demos.zarr"), "--preset", "quickstart", *SMALL]
    options += ["--env-steps", str(env_steps), "--eval-every", "0", "--checkpoint-every-s", "0.5"]
    _run(["train", *options, "--run-dir", str(folder / "whole")])
    rng = np.random.default_rng(seed)
    killed = folder / "killed"
    seen: set[str] = set()
    lost, during_training, restarts = 0, 0, 0
    for _ in range(kills):
        resumable = (killed / "checkpoints" / "latest.pt").exists()
        restarts += int(resumable)
        process = _start(["train", "--resume", str(killed)] if resumable else _fresh(options, killed))
        training = rng.random() > LOADING_SHARE
        if training:
            _wait_for_steps(process, killed)
        time.sleep(rng.uniform(0.0, TRAINING_S if training else LOADING_S))
        during_training += int(training and process.poll() is None)
        process.kill()
        process.wait()
        stored = _episodes(killed)
        lost += len(seen - set(stored))
        seen |= set(stored)
    resumable = (killed / "checkpoints" / "latest.pt").exists()
    _run(["train", "--resume", str(killed)] if resumable else _fresh(options, killed))
    stored = _episodes(killed)
    wanted, found = (load_checkpoint(path).learner for path in (folder / "whole", killed))
    return {
        "kills": kills,
        "kills_while_training": during_training,
        "resumes": restarts + int(resumable),
        "env_steps": env_steps,
        "episodes": len(stored),
        "episodes_of_the_whole_run": len(_episodes(folder / "whole")),
        "episodes_lost": lost + len(seen - set(stored)),
        "episodes_twice": len(stored) - len(set(stored)),
        "bit_identical": all(torch.equal(wanted[name], found[name]) for name in wanted),
    }


def _wait_for_steps(process: subprocess.Popen[bytes], run_dir: Path) -> None:
    """Until the run has recorded training steps since its start, or is over."""
    metrics, size = run_dir / FILE_NAME, None
    while process.poll() is None:
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        starts = [i for i, line in enumerate(lines) if line.startswith('{"kind": "start"')]
        size = len(starts) if size is None else size
        if len(starts) > size and any(line.startswith('{"kind": "train"') for line in lines[starts[-1] :]):
            return
        time.sleep(0.02)


def _fresh(options: list[str], run_dir: Path) -> list[str]:
    if run_dir.exists():  # killed before its first checkpoint
        run_dir.rename(run_dir.with_name(f"{run_dir.name}-{time.monotonic_ns()}"))
    return ["train", *options, "--run-dir", str(run_dir)]


def _start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _run(arguments: list[str]) -> None:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")


def _episodes(run_dir: Path) -> list[str]:
    if not (run_dir / EPISODES).exists():
        return []
    with EpisodeStore.open(run_dir / EPISODES) as store:
        return [stored.info.uuid for stored in store.infos()]


if __name__ == "__main__":
    sys.exit(main())
