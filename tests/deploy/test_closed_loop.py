from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from deploy.closed_loop import compare_in_closed_loop
from deploy.export import export_policy
from deploy.runtime.onnx_policy import OnnxPolicy, read_policy
from deploy.verify import compare_inputs, random_observations
from robot_rlpd.task import TaskSetup
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.learner.checkpoint import Checkpoint


@pytest.fixture
def walker(checkpoint: Checkpoint) -> Checkpoint:
    """Walks the fake robot to its target: 0.5 tanh(2 (target - position)), by a ReLU for each sign."""
    towards = torch.cat([-torch.eye(2), torch.eye(2)])
    learner = {
        "dense0/kernel": torch.cat([towards, -towards], dim=1),
        "dense0/bias": torch.zeros(4),
        "mean/kernel": 2 * torch.cat([torch.eye(2), -torch.eye(2)]),
        "mean/bias": torch.zeros(2),
        "log_std/kernel": torch.zeros(4, 2),
        "log_std/bias": torch.zeros(2),
    }
    own = {f"actor/{name}": value for name, value in learner.items()}
    return replace(checkpoint, contract=fake_spec().contract(), learner=own, normalizer=None)


def exported(checkpoint: Checkpoint, folder: Path) -> OnnxPolicy:
    export_policy(checkpoint, folder / "policy.onnx")
    return read_policy(folder / "policy.onnx")


def setup() -> TaskSetup:
    return TaskSetup(task=FakeTask(30), spec=fake_spec(), make_robot=FakeRobot)


def test_both_solve_the_task_from_the_same_starts_with_the_same_actions(walker: Checkpoint, tmp_path: Path) -> None:
    report = compare_in_closed_loop(exported(walker, tmp_path), walker, setup(), episodes=4)
    assert report["ok"]
    assert (report["task"], report["episodes"]) == ("fake", 4)
    assert report["successes"] == report["successes_of_checkpoint"] == report["same_outcome"] == 4
    assert report["drift"] < 1e-5
    assert report["steps"] > 4


def test_another_policy_is_found_on_the_way_it_takes(walker: Checkpoint, tmp_path: Path) -> None:
    stuck = replace(walker, learner=walker.learner | {"actor/mean/kernel": torch.zeros(4, 2)})
    report = compare_in_closed_loop(exported(stuck, tmp_path), walker, setup(), episodes=2)
    assert not report["ok"]
    assert (report["successes"], report["successes_of_checkpoint"], report["same_outcome"]) == (0, 2, 0)
    assert report["drift"] > 0.1


def test_input_by_input_the_faulty_field_is_named(walker: Checkpoint, tmp_path: Path) -> None:
    kernel = walker.learner["actor/dense0/kernel"].clone()
    kernel[2:] *= 1.01
    faulty = replace(walker, learner=walker.learner | {"actor/dense0/kernel": kernel})
    resting = {"position": np.zeros(2, np.float32), "target": np.zeros(2, np.float32)}
    drawn = [resting, *random_observations(walker.contract, 50, np.random.default_rng(0))]
    report = compare_inputs(exported(faulty, tmp_path), walker, drawn)
    assert report["position"]["ok"]
    assert not report["target"]["ok"]
    assert report["target"]["moves_action"] > 0.5


def test_a_field_that_is_not_read_moves_nothing(walker: Checkpoint, tmp_path: Path) -> None:
    kernel = walker.learner["actor/dense0/kernel"].clone()
    kernel[2:] = 0.0
    blind = replace(walker, learner=walker.learner | {"actor/dense0/kernel": kernel})
    drawn = random_observations(walker.contract, 50, np.random.default_rng(0))
    report = compare_inputs(exported(blind, tmp_path), blind, drawn)
    assert report["target"]["moves_action"] == 0.0
    assert report["position"]["moves_action"] > 0.0
