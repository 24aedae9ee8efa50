"""With Ray itself, installed into a folder: a run that is killed goes on, the page works as written."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from robot_rlpd.learner.metrics import read_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TRAIN = "--task reach --env-steps 1500 --start-training 200 --eval-every 0 --no-compile --hidden-dims 8"
TRAIN += " --ensemble-size 2 --utd-ratio 1 --batch-size 8"
SWEEP = "sweep train --out runs --seeds 0 1"
PROGRAM = [sys.executable, "-c", "from robot_rlpd.cli import main; raise SystemExit(main())"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """In which Ray is there; it is too large for the environment of all tests."""
    pytest.importorskip("mujoco", reason="the runs train in simulation")
    folder = tmp_path_factory.mktemp("ray")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), "ray"], check=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": str(folder), "PATH": path}


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until something happened, or the process ended, which fails."""
    while not happened():
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"ended with {process.wait(timeout=0.2)}")


def test_a_run_that_is_killed_goes_on_from_its_checkpoint(environment: Mapping[str, str], tmp_path: Path) -> None:
    words = f"{SWEEP} -- {TRAIN} --checkpoint-every-s 1".split()
    with subprocess.Popen(
        [*PROGRAM, *words], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as sweep:
        log, checkpoint = tmp_path / "runs/.sweep/seed-1.log", tmp_path / "runs/seed-1/checkpoints/latest.pt"
        wait_for(lambda: checkpoint.is_file() and len(read_metrics(checkpoint.parents[1], "train")) >= 3, sweep)
        (process,) = re.findall(r"process (\d+)", log.read_text())
        os.kill(int(process), signal.SIGKILL)
        told, _ = sweep.communicate()
    assert sweep.returncode == 0
    assert [line.split()[:2] for line in told.splitlines()[1:]] == [["seed-0", "finished"], ["seed-1", "finished"]]
    for name, attempts in (("seed-0", 1), ("seed-1", 2)):
        assert len(read_metrics(tmp_path / "runs" / name, "start")) == attempts
        assert read_metrics(tmp_path / "runs" / name, "end")[-1]["env_steps"] >= 1500


def test_ctrl_c_saves_all(environment: Mapping[str, str], tmp_path: Path) -> None:
    words = f"{SWEEP} -- {TRAIN.replace('1500', '100000')}".split()
    with subprocess.Popen([*PROGRAM, *words], cwd=tmp_path, env=environment, text=True) as sweep:
        runs = [tmp_path / "runs" / name for name in ("seed-0", "seed-1")]
        wait_for(lambda: all((run / "train.csv").is_file() for run in runs), sweep)
        sweep.send_signal(signal.SIGINT)
        assert sweep.wait() == 0
    assert [read_metrics(run, "end")[-1]["reason"] for run in runs] == ["stopped", "stopped"]


def test_the_page_works_as_written(environment: Mapping[str, str], tmp_path: Path) -> None:
    (block,) = BLOCK.findall((ROOT / "docs" / "sweeps.md").read_text())
    script = ["bash", "-c", f"set -euo pipefail\n{block}"]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(" finished ") == 4
    assert (tmp_path / "ratio.svg").exists()
