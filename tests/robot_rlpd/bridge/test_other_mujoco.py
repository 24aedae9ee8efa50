"""An environment that needs another MuJoCo and numpy, served from its own virtual environment, is trained on from here.

`$ROBOT_RLPD_OTHER_MUJOCO` names that environment's directory; docs/remote.md says how to make it. Without it this is
skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
PATIENCE_S = 600.0
ASK = "from importlib.metadata import version as v; print(v('mujoco'), v('numpy'), v('robot-rlpd'))"


@pytest.fixture
def other() -> Path:
    directory = Path(os.environ.get("ROBOT_RLPD_OTHER_MUJOCO", "nowhere"), "bin")
    if not (directory / "robot-rlpd").exists():
        pytest.skip("$ROBOT_RLPD_OTHER_MUJOCO has no robot-rlpd; docs/remote.md says how to make it")
    return directory


@contextlib.contextmanager
def serving(other: Path) -> Iterator[str]:
    """Meta-World's reaching arm; its address."""
    options = ["--env-kwargs", '{"env_name": "reach-v3"}', "--reward", "stored", "--pace", "fast", "--json"]
    command = [str(other / "robot-rlpd"), "serve", "--robot", "gymnasium:metaworld:Meta-World/MT1"]
    with subprocess.Popen(
        [*command, *options, "--address", "tcp://127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())["address"]
        finally:
            server.send_signal(signal.SIGINT)


def test_meta_world_on_an_older_mujoco_is_trained_on_from_the_newest(other: Path, tmp_path: Path) -> None:
    mujoco, numpy, ours = subprocess.check_output([other / "python", "-c", ASK], text=True).split()
    assert mujoco != metadata.version("mujoco")
    assert numpy != metadata.version("numpy")
    assert ours == metadata.version("robot-rlpd")
    small = ["--hidden-dims", "64", "64", "--ensemble-size", "2", "--utd-ratio", "1", "--no-compile"]
    with serving(other) as address:
        result = _trained(address, tmp_path / "run", small)
    assert result["ended"] == "finished"
    assert result["env_steps"] == 600
    assert result["gradient_steps"] >= 200
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = [record for record in records if record["kind"] == "train"]
    assert trained[-1]["bridge_step_ms_p50"] > 0


def _trained(address: str, run_dir: Path, small: list[str]) -> Any:
    lengths = ["--env-steps", "600", "--start-training", "300", "--eval-every", "0", "--max-episode-steps", "200"]
    task = ["--task", f"served:{address}", "--reward", "stored", "--preset", "quickstart"]
    program = "import sys; from robot_rlpd.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "train", *task, *lengths, *small, "--run-dir", str(run_dir), "--json"]
    return json.loads(subprocess.check_output(command, text=True, timeout=PATIENCE_S))
