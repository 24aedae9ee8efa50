"""The tutorials work as written: their code blocks are run, in order, in one shell."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from robot_rlpd.registry import entry_points

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(500)
def test_the_tutorial_works_as_written(tmp_path: Path) -> None:
    for module in ("torch", "mujoco"):
        pytest.importorskip(module, reason="the tutorial trains in simulation")
    blocks = BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text())
    assert len(blocks) == 5
    script = "\n".join(["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", *blocks])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=480, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for made in ("demos.zarr", "runs/reach/config.json", "reach.onnx", "deployed.zarr"):
        assert (tmp_path / made).exists()
    assert "on reach: " in done.stdout


@pytest.mark.timeout(500)
def test_the_page_of_formats_works_as_written(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="the page records in simulation")
    for module in ("h5py", "pyarrow", "av"):
        pytest.importorskip(module, reason="the page writes these formats")
    (block,) = BLOCK.findall((ROOT / "docs" / "formats.md").read_text())
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = f"set -euo pipefail\n{block}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=480, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("missing     nothing") == 1  # LeRobot's format does not hold the final observations
    assert done.stdout.splitlines()[-1].endswith("reach")


@pytest.mark.timeout(300)
def test_the_page_of_tasks_works_as_written(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="the tasks are simulated")
    blocks = BLOCK.findall((ROOT / "docs" / "tasks.md").read_text())
    assert len(blocks) == 2
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = "\n".join(["set -euo pipefail", *blocks])
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for made in ("varied.zarr", "drawn.svg", "identified.json", "closer.zarr"):
        assert (tmp_path / made).exists()


def test_every_task_has_a_section_with_a_picture() -> None:
    page = (ROOT / "docs" / "tasks.md").read_text()
    ours = [name for name, point in entry_points("robot_rlpd.tasks").items() if point.module.startswith("sim.")]
    assert [name for name in ours if f"## {name}\n\n![" not in page] == []


def test_every_file_that_a_page_links_to_exists() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
