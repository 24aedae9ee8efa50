"""docs/training.md works as written: its code blocks are run, in order, in one shell."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def run_section(title: str, directory: Path) -> tuple[str, subprocess.CompletedProcess[str]]:
    """The text of a section, and what came of its code blocks."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -euo pipefail", *blocks])],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    return section, done


@pytest.mark.timeout(400)
def test_a_run_is_watched_as_written(tmp_path: Path) -> None:
    for module in ("torch", "mujoco", "matplotlib"):
        pytest.importorskip(module, reason="the page trains in simulation and draws curves")
    section, done = run_section("Watching a run", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    named = set(re.findall(r"`(\w+\.(?:csv|jsonl))`", section))
    assert named == {"metrics.jsonl", "train.csv", "episode.csv", "evaluation.csv"}
    assert named <= {path.name for path in (tmp_path / "runs" / "reach-1").iterdir()}
    assert "reach-0: 2 run(s)" in done.stdout
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.timeout(400)
def test_a_policy_that_sees_is_trained_exported_and_verified_as_written(tmp_path: Path) -> None:
    for module in ("torch", "mujoco", "onnx"):
        pytest.importorskip(module, reason="the page trains in simulation and exports")
    from sim.render import find_backend

    if find_backend() is None:
        pytest.skip("no off-screen OpenGL on this machine")
    section, done = run_section("Cameras", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "seeing.onnx: ok"
    assert set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE)) <= set(
        re.findall(r"--[a-z-]+", help_of("train"))
    )


def help_of(command: str) -> str:
    """What `--help` prints."""
    words = [str(Path(sys.executable).with_name("robot-rlpd")), command, "--help"]
    done: subprocess.CompletedProcess[str]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout
