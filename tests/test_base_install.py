"""The wheel with its base dependencies alone, in a fresh environment: what a robot computer gets."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from deploy.export import build_policy_model, write_model
from deploy.runtime.metadata import PolicyMetadata
from robot_rlpd.testing import fake_spec

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tests" / "base_install" / "use_runtime.py"
SIZE_LIMIT_MB = 250

DIFFERENCE = np.array([[-1.0, 0.0], [0.0, -1.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
"""Of (position, target): target - position."""
WALKS_TO_THE_TARGET = {
    # tanh(2 d) / 2 is about d: the fake robot moves by exactly its action, at most 0.5.
    "dense0/kernel": np.concatenate([DIFFERENCE, -DIFFERENCE], axis=1),
    "dense0/bias": np.zeros(4, np.float32),
    "mean/kernel": 2.0 * np.concatenate([np.eye(2), -np.eye(2)]).astype(np.float32),
    "mean/bias": np.zeros(2, np.float32),
}
METADATA = PolicyMetadata(contract=fake_spec().contract(), task="fake", max_episode_steps=20)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=True)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet")
    run(*pip, "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    return folder


def test_the_wheel_holds_every_module_and_asset_and_nothing_else(wheel: Path) -> None:
    packages = ("robot_rlpd", "demos", "deploy", "sim")
    wanted = {
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".xml", ".typed", ".html", ".js", ".css"}
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert wanted <= held
    assert {name.partition("/")[0] for name in held} == set(packages)


@pytest.mark.parametrize("library", ["torch", "mujoco", "gymnasium", "h5py", "PIL", "onnx"])
def test_libraries_of_the_extras_are_absent(environment: Path, library: str) -> None:
    probe = f"import importlib.util; print(importlib.util.find_spec({library!r}))"
    assert run(environment / "bin" / "python", "-c", probe, cwd=environment).strip() == "None"


def test_the_environment_stays_small(environment: Path) -> None:
    size_bytes = int(run("du", "-s", "--apparent-size", "--block-size=1", environment, cwd=environment).split()[0])
    assert size_bytes < SIZE_LIMIT_MB * 1_000_000


def test_the_runtime_and_the_bridge_client_load(environment: Path) -> None:
    probe = "import deploy.runtime.onnx_policy, robot_rlpd.bridge.client"
    run(environment / "bin" / "python", "-c", probe, cwd=environment)


def test_the_command_line_starts(environment: Path) -> None:
    assert "usage" in run(environment / "bin" / "robot-rlpd", "--help", cwd=environment).lower()


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_policy_file_drives_a_served_robot_and_is_recorded(
    environment: Path, tmp_path: Path, encrypted: bool
) -> None:
    write_model(build_policy_model(WALKS_TO_THE_TARGET, METADATA, normalizer=None), tmp_path / "policy.onnx")
    words = ["--encrypt"] if encrypted else []
    run(environment / "bin" / "python", SCRIPT, tmp_path, *words, cwd=tmp_path)
