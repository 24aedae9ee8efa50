from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING, Any

import pytest

from robot_rlpd.cli import main
from robot_rlpd.learner.attendance import confirmed
from robot_rlpd.learner.buttons import Buttons
from robot_rlpd.learner.checkpoint import load_checkpoint
from robot_rlpd.learner.finetune_commands import FinetuneCommand
from robot_rlpd.learner.finetune_report import told
from robot_rlpd.learner.finetune_resolve import resolve
from robot_rlpd.learner.run_directory import CHECKPOINTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.learner.checkpoint import Checkpoint
    from robot_rlpd.learner.session import Session


@pytest.fixture
def begun(start: Callable[..., Session]) -> Checkpoint:
    session = start("sim")
    session.run(lambda: False)
    return load_checkpoint(session.run_dir)


def command(**changes: Any) -> FinetuneCommand:
    from pathlib import Path

    return FinetuneCommand(start=Path("sim"), run_dir=Path("real"), **changes)


def test_minutes_are_counted_in_control_steps(begun: Checkpoint) -> None:
    config, asked = resolve(command(minutes=2.0), begun)
    assert config.env_steps == round(120.0 * begun.contract.control_rate_hz)
    assert config.time_limit_min == 16.0
    assert asked.minutes == 2.0


def test_every_store_has_the_same_share_unless_told_otherwise(begun: Checkpoint, tmp_path: Path) -> None:
    stores = (tmp_path / "a", tmp_path / "b")
    assert resolve(command(prior=stores), begun)[0].prior_weights == (1.0, 1.0)
    assert resolve(command(prior=stores, prior_weights=(3.0, 1.0)), begun)[0].prior_weights == (3.0, 1.0)


def test_the_learner_is_that_of_the_starting_policy_but_for_what_is_given(begun: Checkpoint) -> None:
    config, _ = resolve(command(utd_ratio=7), begun)
    assert config.rlpd.utd_ratio == 7
    assert config.rlpd.hidden_dims == begun.config.hidden_dims
    assert (config.task, config.max_episode_steps) == (begun.task, begun.max_episode_steps)


def test_a_reset_is_confirmed_by_the_success_button() -> None:
    pressed = [["pause"], [], ["success"]]
    assert confirmed(Buttons(lambda: pressed.pop(0)), lambda: False)
    assert not confirmed(Buttons(list), lambda: True)


def test_a_reset_is_confirmed_by_enter_where_there_are_no_buttons(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w") as typed:
        monkeypatch.setattr(sys, "stdin", stdin)
        typed.write("\n")
        typed.flush()
        assert confirmed(None, lambda: False)
        assert not select.select([stdin], [], [], 0)[0]
        typed.close()
        assert not confirmed(None, lambda: False)


def evaluated(successes: int) -> dict[str, Any]:
    return {"successes": successes, "episodes": 10, "success_rate": successes / 10, "ci95": [0.1, 0.9]}


@pytest.mark.parametrize(
    ("start", "last", "best", "said"),
    [
        (5, 3, 5, "did not get beyond the starting policy"),
        (2, 4, 6, "better before: 60 %, which is kept"),
        (2, 6, 6, "starting policy 2/10 solved, now 6/10"),
    ],
)
def test_the_end_says_what_is_best(start: int, last: int, best: int, said: str) -> None:
    result = {"ended": "finished", "env_steps": 30, "robot_min": 0.1, "trained_s": 6.0, "utd_ratio": 2.0}
    result |= {"start_evaluation": evaluated(start), "evaluation": evaluated(last), "best_success_rate": best / 10}
    result |= {"best_checkpoint": "best.pt", "interventions": {"steps": 0}, "evaluations": 2}
    text = told(result)
    assert said in text
    assert "not evaluated since" in told(result | {"evaluations": 1})
    assert text.splitlines()[-1] == "next: robot-rlpd export best.pt --out policy.onnx"


def test_a_session_runs_is_extended_and_is_no_training_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store, sim, real = (str(tmp_path / name) for name in ("demos.zarr", "sim", "real"))
    small = "--hidden-dims 4 --ensemble-size 2 --utd-ratio 1 --batch-size 4 --no-compile --eval-every 0"
    short = "--warm-up 5 --eval-every 20 --eval-episodes 1 --no-compile"
    for words in (
        f"record --task reach --episodes 2 --out {store}",
        f"train --task reach --prior {store} --env-steps 20 --start-training 15 {small} --run-dir {sim}",
        f"finetune --from {sim} --prior {store} --minutes 0.02 {short} --run-dir {real}",
        f"finetune --resume {real} --minutes 0.04",
    ):
        assert main(words.split()) == 0
    assert "acts first       the starting policy" in capfd.readouterr().err
    latest = load_checkpoint(tmp_path / "real")
    assert latest.env_steps == 24
    assert latest.gradient_steps == 24 - 5
    assert {path.name for path in (tmp_path / "real" / CHECKPOINTS).iterdir()} == {"start.pt", "latest.pt", "best.pt"}
    assert main(f"train --resume {real}".split()) == 1
    assert f"finetune --resume {real}" in capfd.readouterr().err
