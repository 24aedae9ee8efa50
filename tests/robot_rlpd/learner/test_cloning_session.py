from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from robot_rlpd.cli import main
from robot_rlpd.errors import ConfigError, TrainingError
from robot_rlpd.learner.checkpoint import LATEST, load_checkpoint
from robot_rlpd.learner.cloning_session import CloningSession
from robot_rlpd.learner.metrics import read_metrics
from robot_rlpd.learner.policy import checkpoint_policy, open_policy
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.learner.run_directory import CHECKPOINTS, prepare_run_directory
from robot_rlpd.learner.session_config import SessionConfig
from robot_rlpd.testing import FakeRobot, FakeTask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Record = Callable[..., Path]

CONFIG = RLPDConfig(hidden_dims=(32,), batch_size=32, actor_lr=3e-3)


def session(run_dir: Path, prior: Path, **changes: Any) -> CloningSession:
    options = {"cloning_steps": 400, "eval_every": 1, "eval_episodes": 5, "log_every": 50, "compile_update": False}
    config = SessionConfig(**{"task": "fake", "rlpd": CONFIG, "prior": (prior,), **options, **changes})
    prepare_run_directory(config, run_dir)
    return CloningSession(config, run_dir, FakeRobot(), FakeTask())


def test_a_clone_of_good_demonstrations_solves_the_task(tmp_path: Path, record: Record) -> None:
    cloned = session(tmp_path / "run", record(episodes=20))
    assert cloned.run(lambda: False) == "finished"
    told = cloned.summary("finished")
    assert (told["gradient_steps"], told["env_steps"], told["best_success_rate"]) == (400, 0, 1.0)
    assert [r["gradient_steps"] for r in read_metrics(tmp_path / "run", "train")] == list(range(50, 401, 50))
    evaluations = read_metrics(tmp_path / "run", "evaluation")
    assert [r["gradient_steps"] for r in evaluations] == list(range(40, 401, 40))
    policy = open_policy(tmp_path / "run", FakeRobot().spec)
    observation = FakeRobot().reset(seed=9).observation
    assert (policy(observation) * (observation["target"] - observation["position"]) > 0).all()


def test_the_checkpoint_holds_the_actor_that_was_cloned(tmp_path: Path, record: Record) -> None:
    cloned = session(tmp_path / "run", record(), eval_every=0, normalize=True)
    cloned.run(lambda: False)
    checkpoint = load_checkpoint(tmp_path / "run")
    observation = FakeRobot().reset(seed=9).observation
    flat = torch.from_numpy(cloned.contract.flatten({n: v[None] for n, v in observation.items()}))
    assert checkpoint.normalizer is not None
    mean, scale = map(torch.from_numpy, checkpoint.normalizer)
    unit = cloned.learner.deterministic_action((flat - mean) / scale)[0]
    expected = cloned.contract.action.from_unit(unit.numpy())
    assert checkpoint_policy(checkpoint)(observation) == pytest.approx(expected)


def test_a_cloned_policy_is_not_asked_to_explore(tmp_path: Path, record: Record) -> None:
    session(tmp_path / "run", record(), eval_every=0).run(lambda: False)
    with pytest.raises(ConfigError, match="noise: a cloned policy has learned no exploration"):
        open_policy(tmp_path / "run", FakeRobot().spec, noise=0.5)


def test_a_loss_that_is_no_number_ends_it_and_keeps_the_checkpoint(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloned = session(tmp_path / "run", record())
    update, latest = cloned.learner.update, tmp_path / "run" / CHECKPOINTS / LATEST

    def spoiled(batch: Any) -> dict[str, float]:
        values = update(batch)
        return {"cloning_loss": float("nan")} if cloned.learner.gradient_steps == 50 else values

    monkeypatch.setattr(cloned.learner, "update", spoiled)
    with pytest.raises(TrainingError, match="cloning_loss"):
        cloned.run(lambda: False)
    assert load_checkpoint(latest).gradient_steps == 40


def test_it_ends_when_asked_with_a_checkpoint(tmp_path: Path, record: Record) -> None:
    cloned = session(tmp_path / "run", record(), eval_every=0)
    assert cloned.run(lambda: cloned.learner.gradient_steps >= 7) == "stopped"
    assert load_checkpoint(tmp_path / "run").gradient_steps == 7


def test_cloning_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prior: .*found none"):
        CloningSession(SessionConfig(task="fake", cloning_steps=5), tmp_path, FakeRobot(), FakeTask())


def test_the_command_clones_evaluates_and_refuses_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco", reason="the task is simulated")
    store, run = str(tmp_path / "demos.zarr"), str(tmp_path / "run")
    assert main(["record", "--task", "reach", "--episodes", "2", "--out", store]) == 0
    words = ["train", "--task", "reach", "--cloning-steps", "20", "--eval-episodes", "1", "--run-dir", run, "--json"]
    capsys.readouterr()
    assert main([*words, "--preset", "quickstart", "--no-compile"]) == 1  # no prior data
    assert "prior" in capsys.readouterr().err
    assert main([*words, "--preset", "quickstart", "--no-compile", "--prior", store]) == 0
    assert json.loads(capsys.readouterr().out)["gradient_steps"] == 20
    assert main(["train", "--resume", run]) == 1
    assert "cloning is not resumed" in capsys.readouterr().err
