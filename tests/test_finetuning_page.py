"""docs/finetuning.md works as written: its code blocks are run, in order, in one shell."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "finetuning.md"
PORT = "5577"


@pytest.mark.timeout(400)
def test_a_session_goes_as_written(tmp_path: Path) -> None:
    for module in ("torch", "mujoco", "matplotlib"):
        pytest.importorskip(module, reason="the page trains in simulation and draws curves")
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = str(server.getsockname()[1])
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    script = "\n".join(["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", *blocks])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script.replace(PORT, free)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = done.stderr
    assert "FAILED" not in told
    assert told.count("starting policy ") >= 3
    assert "finished after 420 steps, 0.7 min on the robot" in told
    session = tmp_path / "runs" / "real"
    assert {path.name for path in (session / "checkpoints").iterdir()} >= {"start.pt", "latest.pt", "best.pt"}
    assert json.loads((session / "finetune.json").read_text())["intervene"] == "demonstrator:hard"
    for made in ("policy.onnx", "session.svg", "runs/real/intervention.csv"):
        assert (tmp_path / made).stat().st_size > 100
