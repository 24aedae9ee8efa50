"""docs/training.md works as written: its code blocks are run, in order, in one shell."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


@pytest.mark.timeout(400)
def test_a_run_is_watched_as_written(tmp_path: Path) -> None:
    for module in ("torch", "mujoco", "matplotlib"):
        pytest.importorskip(module, reason="the page trains in simulation and draws curves")
    (section,) = re.findall(r"^## Watching a run\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -euo pipefail", *blocks])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    named = set(re.findall(r"`(\w+\.(?:csv|jsonl))`", section))
    assert named == {"metrics.jsonl", "train.csv", "episode.csv", "evaluation.csv"}
    assert named <= {path.name for path in (tmp_path / "runs" / "reach-1").iterdir()}
    assert "reach-0: 2 run(s)" in done.stdout
    assert (tmp_path / "curves.png").stat().st_size > 10_000
