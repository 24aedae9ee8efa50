from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from deploy.commands import ExportConfig, VerifyConfig, export, verify
from deploy.runtime.onnx_policy import read_policy
from robot_rlpd.errors import ConfigError, DataError, MismatchError, RunDirectoryError
from robot_rlpd.learner.checkpoint import Checkpoint, save_checkpoint
from robot_rlpd.specs import RobotSpec
from robot_rlpd.testing import FakeRobot

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.robot import Robot


@pytest.fixture
def run_dir(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A run directory whose best checkpoint is older than its latest."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    save_checkpoint(tmp_path / "run" / "checkpoints" / "best.pt", checkpoint)
    later = {name: value * 1.01 for name, value in checkpoint.learner.items()}
    latest = replace(checkpoint, learner=later, gradient_steps=20_000)
    save_checkpoint(tmp_path / "run" / "checkpoints" / "latest.pt", latest)
    return tmp_path / "run"


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def exported(run_dir: Path, **options: Any) -> Path:
    out = run_dir / "policy.onnx"
    assert export(ExportConfig(run_dir=run_dir, out=out, json=True, **options)) == 0
    return out


def test_a_run_directory_is_exported_and_verified(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = exported(run_dir)
    report = told(capsys)
    assert report["checkpoint"].endswith("best.pt")
    assert report["gradient_steps"] == 10_000
    assert verify(VerifyConfig(policy=policy, checkpoint=run_dir, samples=50, json=True)) == 0
    report = told(capsys)
    assert report["ok"] is True
    assert report["samples"] == 50
    assert 0 <= report["percentiles"]["p50"] <= report["max_abs_difference"] < 0.01
    assert report["fingerprint"] == read_policy(policy).contract.fingerprint


def test_the_latest_checkpoint_is_exported_when_asked_for(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = exported(run_dir, which="latest")
    assert told(capsys)["gradient_steps"] == 20_000
    assert verify(VerifyConfig(policy=policy, checkpoint=run_dir, which="latest", samples=5)) == 0
    with pytest.raises(DataError, match="found 20000 gradient steps; allowed: 10000"):
        verify(VerifyConfig(policy=policy, checkpoint=run_dir, samples=5))


def test_a_file_that_differs_fails(run_dir: Path, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    policy = exported(run_dir)
    capsys.readouterr()
    other = run_dir / "other.pt"
    halved = {name: value.half().float() for name, value in checkpoint.learner.items()}
    save_checkpoint(other, replace(checkpoint, learner=halved))
    assert verify(VerifyConfig(policy=policy, checkpoint=other, samples=50, json=True)) == 1
    assert told(capsys)["ok"] is False
    assert verify(VerifyConfig(policy=policy, checkpoint=other, samples=50)) == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_a_cloned_policy_is_not_exported_to_explore(run_dir: Path) -> None:
    with pytest.raises(ConfigError, match="stochastic: a cloned policy has learned no exploration"):
        exported(run_dir, stochastic=True)
    assert not (run_dir / "policy.onnx").exists()


def test_an_existing_file_is_replaced_only_when_forced(run_dir: Path) -> None:
    policy = exported(run_dir)
    policy.write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        exported(run_dir)
    assert policy.read_text() == "precious"
    exported(run_dir, force=True)
    read_policy(policy)


def test_wrong_paths_are_told(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="out: found"):
        export(ExportConfig(run_dir=run_dir, out=tmp_path / "nowhere" / "policy.onnx"))
    with pytest.raises(RunDirectoryError, match="no such run directory"):
        export(ExportConfig(run_dir=tmp_path / "none", out=tmp_path / "policy.onnx"))
    with pytest.raises(ConfigError, match="--checkpoint or --robot"):
        VerifyConfig(policy=tmp_path / "policy.onnx")


def test_a_robot_is_checked_without_being_moved(
    run_dir: Path, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = exported(run_dir)
    capsys.readouterr()
    contract = checkpoint.contract
    spec = RobotSpec(
        name="arm",
        observation=contract.observation,
        action=contract.action,
        control_rate_hz=contract.control_rate_hz,
    )
    robots = [FakeRobot(spec), FakeRobot(replace(spec, control_rate_hz=15.0))]
    handed = iter(robots)

    def open_robot(name: str, **options: object) -> Robot:
        return next(handed)

    monkeypatch.setattr("robot_rlpd.bridge.robots.open_robot", open_robot)
    assert verify(VerifyConfig(policy=policy, robot="arm", json=True)) == 0
    assert told(capsys)["robot"] == "arm"
    with pytest.raises(MismatchError, match=r"control_rate_hz: .*found 15\.0; allowed: 30\.0"):
        verify(VerifyConfig(policy=policy, robot="arm", json=True))
    assert all(robot.closed and not robot.executed for robot in robots)
