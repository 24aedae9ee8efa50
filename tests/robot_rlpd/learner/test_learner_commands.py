from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from robot_rlpd.cli import main
from robot_rlpd.config import read_config
from robot_rlpd.errors import ConfigError
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET
from robot_rlpd.learner.commands import DEFAULT_ENV_STEPS, TrainCommand, resolve
from robot_rlpd.learner.presets import PRESETS, START_TRAINING
from robot_rlpd.learner.run_directory import CONFIG_FILE
from robot_rlpd.learner.session_config import SessionConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, dict[str, Any]]]

TINY = (
    *("--hidden-dims", "8", "8", "--ensemble-size", "1", "--utd-ratio", "2", "--batch-size", "8"),
    *("--no-compile", "--json"),
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; its status, and the one JSON object that it prints."""

    def call(*arguments: object) -> tuple[int, dict[str, Any]]:
        status = main([str(argument) for argument in arguments])
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        result: dict[str, Any] = json.loads(out)
        return status, result

    return call


# resolve


def test_a_preset_is_taken_as_it_is() -> None:
    for name in ("quickstart", "robot", "adroit", "antmaze", "locomotion"):
        config = resolve(TrainCommand(task="reach", preset=name))
        assert (config.rlpd, config.preset) == (PRESETS[name], name)
        assert config.env_steps == DEFAULT_ENV_STEPS
        assert config.start_training == START_TRAINING[name]
        assert config.eval_every == DEFAULT_ENV_STEPS // 10
        assert config.compile_update


def test_what_is_given_goes_before_the_preset() -> None:
    sizes: dict[str, Any] = {"hidden_dims": (5,), "ensemble_size": 6, "subset_size": 3, "batch_size": 7, "utd_ratio": 3}
    others: dict[str, Any] = {"offline_fraction": 0.0, "initial_temperature": 0.2, "target_entropy": -6.0}
    found = resolve(TrainCommand(task="reach", **sizes, **others)).rlpd
    assert found == replace(PRESETS["robot"], **sizes, **others)


def test_the_subset_of_critics_follows_a_smaller_ensemble() -> None:
    one = resolve(TrainCommand(task="reach", ensemble_size=1)).rlpd
    assert (one.ensemble_size, one.subset_size) == (1, 1)
    three = resolve(TrainCommand(task="reach", ensemble_size=3)).rlpd
    assert (three.ensemble_size, three.subset_size) == (3, PRESETS["robot"].subset_size)


def test_a_short_run_starts_training_in_time_and_is_evaluated() -> None:
    config = resolve(TrainCommand(task="reach", env_steps=5))
    assert (config.start_training, config.eval_every) == (5, 1)
    given = resolve(TrainCommand(task="reach", env_steps=5, start_training=9, eval_every=0))
    assert (given.start_training, given.eval_every) == (9, 0)


def test_options_of_the_task_are_kept() -> None:
    command = TrainCommand(
        task="gymnasium:X-v0", reward="sparse", success_when="x > 1", env_kwargs='{"g": 1.5}', max_episode_steps=9
    )
    options = resolve(command).task_options()
    assert (options.reward, options.success_when) == ("sparse", "x > 1")
    assert (options.env_kwargs, options.max_episode_steps) == ({"g": 1.5}, 9)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"env_steps": 0}, "env_steps"),
        ({"seed": -1}, "seed"),
        ({"utd_ratio": 0}, "utd_ratio"),
        ({"ensemble_size": 0}, "ensemble_size"),
        ({"offline_fraction": 1.5}, "offline_fraction"),
        ({"env_kwargs": "[1]"}, "env_kwargs"),
        ({"time_limit_min": 0.0}, "time_limit_min"),
    ],
)
def test_values_out_of_range_are_refused_naming_the_option(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}"):
        resolve(TrainCommand(task="reach", **wrong))


# train and eval


def test_a_policy_is_trained_from_demonstrations_resumed_and_evaluated(run: Run, tmp_path: Path) -> None:
    demos, directory = tmp_path / "demos.zarr", tmp_path / "run"
    assert run("record", "--task", "reach", "--out", demos, "--episodes", 2, "--json")[0] == 0

    steps = ("--env-steps", 60, "--start-training", 20, "--eval-every", 30, "--eval-episodes", 1)
    status, trained = run("train", "--task", "reach", "--prior", demos, "--run-dir", directory, *steps, *TINY)
    assert status == 0
    assert (trained["ended"], trained["env_steps"], trained["run_dir"]) == ("finished", 60, str(directory))
    assert trained["gradient_steps"] == 2 * (60 - 20)
    assert trained["utd_ratio"] == 2.0
    assert trained["prior"]["episodes"] == trained["prior"]["successes"] == 2
    assert list(trained["prior"]["digests"]) == ["demos.zarr"]
    assert trained["evaluation"]["episodes"] == 1
    assert trained["best_success_rate"] in (0.0, 1.0)
    assert trained["trained_s"] > 0
    assert trained["episodes"] >= 2
    config = read_config(directory / CONFIG_FILE, SessionConfig)
    assert (config.task, config.prior, config.rlpd.subset_size) == ("reach", (demos,), 1)
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {"latest.pt", "best.pt"}

    status, resumed = run("train", "--resume", directory, "--env-steps", 80, "--json")
    assert (status, resumed["env_steps"]) == (0, 80)
    assert resumed["gradient_steps"] == 2 * (80 - 20)

    status, evaluated = run("eval", "--policy", directory, "--task", "reach", "--episodes", 2, "--json")
    assert status == 0
    assert (evaluated["task"], evaluated["policy"], evaluated["episodes"]) == ("reach", str(directory), 2)
    assert evaluated["success_rate"] == evaluated["successes"] / 2
    assert evaluated["seeds"] == [EVALUATION_SEED_OFFSET, EVALUATION_SEED_OFFSET + 1]
    assert 0.0 <= evaluated["ci95"][0] <= evaluated["success_rate"] <= evaluated["ci95"][1] <= 1.0
    assert evaluated["interrupted"] == 0
    assert evaluated.keys() >= {"mean_return", "mean_length", "solved_step_share", "steps"}

    again = run("eval", "--policy", directory, "--task", "reach", "--episodes", 2, "--json")
    assert again == (0, evaluated)


def test_people_are_told_the_result_and_the_next_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "run"
    arguments = ["--task", "reach", "--run-dir", str(directory), "--env-steps", "3", "--eval-every", "0", *TINY[:-1]]
    assert main(["train", *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "no prior data" in printed.err
    assert "finished after 3 environment steps" in printed.err
    assert f"robot-rlpd export {directory}" in printed.err
    assert main(["eval", "--policy", str(directory), "--task", "reach", "--episodes", "1"]) == 0
    assert "/1 solved" in capsys.readouterr().out


def test_a_run_directory_is_not_used_twice(run: Run, tmp_path: Path) -> None:
    arguments = ("train", "--task", "reach", "--run-dir", tmp_path / "run", "--env-steps", 3, *TINY)
    assert run(*arguments)[0] == 0
    status, failed = run(*arguments)
    assert status == 1
    assert failed["error"]["type"] == "RunDirectoryError"
    assert "--resume" in failed["error"]["hint"]


def test_a_run_that_cannot_start_leaves_no_directory_in_the_way(run: Run, tmp_path: Path) -> None:
    demos, directory = tmp_path / "demos.zarr", tmp_path / "run"
    run("record", "--task", "pick_place", "--out", demos, "--episodes", 1, "--json")
    arguments = ("train", "--task", "reach", "--run-dir", directory, "--env-steps", 3, *TINY)
    status, failed = run(*arguments, "--prior", demos)
    assert (status, failed["error"]["type"]) == (1, "MismatchError")
    assert failed["error"]["field"].startswith("observation")
    assert not directory.exists()
    assert run(*arguments)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("train", "--task", "reach"), "run_dir"),
        (("train", "--run-dir", "somewhere"), "task"),
        (("train", "--task", "juggle", "--run-dir", "somewhere"), "task"),
        (("train", "--resume", "nowhere"), "nowhere"),
        (("train", "--task", "reach", "--run-dir", "somewhere", "--device", "moon"), "device"),
        (("eval", "--task", "reach", "--policy", "nowhere"), "nowhere"),
        (("eval", "--task", "reach", "--policy", "nowhere", "--episodes", "0"), "episodes"),
    ],
)
def test_what_is_missing_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], field: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, failed = run(*arguments, "--json")
    assert (status, failed["error"]["field"]) == (1, field)
    assert not list(tmp_path.iterdir())


def test_a_policy_of_another_task_is_refused_naming_the_field(run: Run, tmp_path: Path) -> None:
    run("train", "--task", "reach", "--run-dir", tmp_path / "run", "--env-steps", 3, *TINY)
    status, failed = run("eval", "--task", "pick_place", "--policy", tmp_path / "run", "--json")
    assert (status, failed["error"]["type"]) == (1, "MismatchError")
    assert failed["error"]["field"].startswith("observation")
