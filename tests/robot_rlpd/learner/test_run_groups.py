from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from robot_rlpd.errors import RunDirectoryError
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.learner.run_directory import prepare_run_directory
from robot_rlpd.learner.run_groups import group_runs
from robot_rlpd.learner.session_config import SessionConfig

if TYPE_CHECKING:
    from pathlib import Path


def test_runs_that_differ_in_their_seeds_are_one_group_and_others_are_told_apart(tmp_path: Path) -> None:
    runs = {
        "a": SessionConfig(task="fake", seed=0, prior=(tmp_path / "demos-0.zarr",)),
        "b": SessionConfig(task="fake", seed=1, prior=(tmp_path / "demos-1.zarr",), robot="tcp://127.0.0.1:5555"),
        "c": SessionConfig(task="fake", seed=0),
        "d": SessionConfig(task="fake", seed=0, rlpd=RLPDConfig(layer_norm=False)),
    }
    for name, config in runs.items():
        prepare_run_directory(config, tmp_path / name)
    groups = group_runs([tmp_path / name for name in runs])
    assert {label: [path.name for path in paths] for label, paths in groups.items()} == {
        "prior yes, layer_norm True": ["a", "b"],
        "prior none, layer_norm True": ["c"],
        "prior none, layer_norm False": ["d"],
    }
    assert list(group_runs([tmp_path / "a", tmp_path / "b"])) == ["a"]


def test_how_long_runs_go_on_and_how_often_they_are_measured_makes_no_other_group(tmp_path: Path) -> None:
    prepare_run_directory(SessionConfig(task="fake", env_steps=1000, eval_every=100), tmp_path / "short")
    prepare_run_directory(
        SessionConfig(task="fake", env_steps=5000, eval_every=500, eval_episodes=50, time_limit_min=9.0),
        tmp_path / "long",
    )
    assert group_runs([tmp_path / "short", tmp_path / "long"]) == {"short": [tmp_path / "short", tmp_path / "long"]}


def test_what_a_machine_was_found_to_be_fast_with_makes_no_other_group(tmp_path: Path) -> None:
    prepare_run_directory(SessionConfig(task="fake", threads=1, matmul_precision="medium"), tmp_path / "one")
    prepare_run_directory(SessionConfig(task="fake", threads=2), tmp_path / "two")
    assert list(group_runs([tmp_path / "one", tmp_path / "two"])) == ["one"]


def test_runs_from_before_a_field_was_there_are_of_those_with_its_default(tmp_path: Path) -> None:
    for name in ("old", "new"):
        prepare_run_directory(SessionConfig(task="fake"), tmp_path / name)
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    assert (config.pop("success"), config.pop("classifier")) == ("task", None)
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    assert list(group_runs([tmp_path / "old", tmp_path / "new"])) == ["old"]


def test_runs_of_a_version_without_some_field_are_told_apart(tmp_path: Path) -> None:
    for name in ("old", "new"):
        prepare_run_directory(SessionConfig(task="fake"), tmp_path / name)
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    del config["normalize"]
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    assert list(group_runs([tmp_path / "old", tmp_path / "new"])) == ["normalize None", "normalize False"]


def test_a_directory_without_a_configuration_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=f"{tmp_path}: no run directory"):
        group_runs([tmp_path])
