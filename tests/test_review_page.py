"""The page on reviewing works as written: its code blocks are run, in order, in one shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(500)
def test_the_page_on_reviewing_works_as_written(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="the demonstrations are recorded in simulation")
    blocks = BLOCK.findall((ROOT / "docs" / "review.md").read_text())
    assert len(blocks) == 6
    script = "\n".join(["set -euo pipefail", *blocks])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=480, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"demos.zarr", "stats.png", "seen.webp", "train.zarr", "held-out.zarr", "all.zarr"}
    assert "nothing is damaged" in done.stdout
