from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch

from deploy.export import export_policy
from deploy.runtime.metadata import NOISE
from deploy.runtime.onnx_policy import OnnxPolicy, read_policy
from deploy.verify import compare, random_observations, rounding_bound, torch_actions

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.learner.checkpoint import Checkpoint


@pytest.fixture
def path(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    export_policy(checkpoint, tmp_path / "exploring.onnx", stochastic=True)
    return tmp_path / "exploring.onnx"


def test_noise_is_an_input_and_without_any_the_action_is_the_deterministic_one(
    checkpoint: Checkpoint, path: Path, tmp_path: Path
) -> None:
    export_policy(checkpoint, tmp_path / "policy.onnx")
    exploring, deterministic = read_policy(path), read_policy(tmp_path / "policy.onnx")
    assert (exploring.stochastic, deterministic.stochastic) == (True, False)
    assert onnx.load(path).graph.input[-1].name == NOISE
    for observation in random_observations(checkpoint.contract, 20, np.random.default_rng(0)):
        without = exploring.act_with(observation, np.zeros(3, np.float32))
        assert np.allclose(without, deterministic(observation), rtol=1e-6, atol=1e-9)


def test_the_noise_is_scaled_by_the_clipped_deviation(checkpoint: Checkpoint, tmp_path: Path) -> None:
    constant = {name: torch.zeros_like(value) for name, value in checkpoint.learner.items()}
    constant["actor/log_std/bias"] = torch.tensor([math.log(0.5), 9.0, -90.0])
    wide = replace(checkpoint, learner=constant)
    export_policy(wide, tmp_path / "policy.onnx", stochastic=True)
    policy = read_policy(tmp_path / "policy.onnx")
    observation = random_observations(checkpoint.contract, 1, np.random.default_rng(0))[0]
    unit = checkpoint.contract.action.to_unit(policy.act_with(observation, np.array([1.0, 0.1, 1.0], np.float32)))
    assert unit == pytest.approx([math.tanh(0.5), math.tanh(0.1 * math.exp(2.0)), 0.0], abs=1e-4)


def test_torch_and_the_file_agree_for_the_same_noise(checkpoint: Checkpoint, path: Path) -> None:
    observations = random_observations(checkpoint.contract, 200, np.random.default_rng(0))
    policy = read_policy(path)
    assert compare(policy, checkpoint, observations).ok


def test_a_slightly_wrong_deviation_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    def with_deviation(log_std: float) -> Checkpoint:
        own = {"actor/log_std/kernel": torch.zeros(8, 3), "actor/log_std/bias": torch.full((3,), log_std)}
        small = {"actor/mean/kernel": torch.zeros(8, 3)}
        return replace(checkpoint, learner=checkpoint.learner | own | small)

    observations = random_observations(checkpoint.contract, 20, np.random.default_rng(0))
    right = with_deviation(-1.0)
    export_policy(right, tmp_path / "policy.onnx", stochastic=True)
    policy = read_policy(tmp_path / "policy.onnx")
    assert compare(policy, right, observations).ok
    assert not compare(policy, with_deviation(-1.001), observations).ok


def test_the_rounding_bound_covers_what_single_precision_loses(checkpoint: Checkpoint) -> None:
    observations = random_observations(checkpoint.contract, 200, np.random.default_rng(0))
    columns = {name: np.stack([o[name] for o in observations]) for name in observations[0]}
    noise = np.random.default_rng(1).standard_normal((200, 3), np.float32)
    double = replace(checkpoint, learner={name: value.double() for name, value in checkpoint.learner.items()})
    flat = checkpoint.contract.flatten(columns)
    assert checkpoint.normalizer is not None
    x = torch.from_numpy((flat - checkpoint.normalizer[0]) / checkpoint.normalizer[1]).double()
    from robot_rlpd.learner.distributions import sample_squashed
    from robot_rlpd.learner.networks import actor_forward

    exact = sample_squashed(*actor_forward(double.actor, x), torch.from_numpy(noise).double())[0].numpy()
    single = sample_squashed(*actor_forward(checkpoint.actor, x.float()), torch.from_numpy(noise))[0].numpy()
    bound = rounding_bound(checkpoint, columns, noise)
    assert (np.abs(single - exact) <= bound + np.finfo(np.float32).eps).all()
    assert np.median(bound) < 1e-5


def test_the_noise_is_drawn_anew_at_every_step_from_the_generator_given(checkpoint: Checkpoint, path: Path) -> None:
    observation = random_observations(checkpoint.contract, 1, np.random.default_rng(0))[0]

    def actions(seed: int) -> list[list[float]]:
        policy = OnnxPolicy(path.read_bytes(), rng=np.random.default_rng(seed))
        return [policy(observation).tolist() for _ in range(3)]

    assert actions(1) == actions(1)
    assert actions(1) != actions(2)
    first, second, third = actions(1)
    assert first != second != third


def test_exploring_actions_stay_within_the_bounds(checkpoint: Checkpoint, path: Path) -> None:
    policy, action = read_policy(path), checkpoint.contract.action
    observation = random_observations(checkpoint.contract, 1, np.random.default_rng(0))[0]
    for noise in (-1e30, 1e30):
        found = policy.act_with(observation, np.full(3, noise, np.float32))
        assert np.array_equal(found, action.low if noise < 0 else action.high)


def test_the_spread_of_many_actions_is_that_of_the_learner(checkpoint: Checkpoint, path: Path) -> None:
    policy = OnnxPolicy(path.read_bytes(), rng=np.random.default_rng(0))
    observation = random_observations(checkpoint.contract, 1, np.random.default_rng(0))[0]
    columns = {name: np.stack([value] * 4000) for name, value in observation.items()}
    noise = np.random.default_rng(5).standard_normal((4000, 3), np.float32)
    found = checkpoint.contract.action.to_unit(np.stack([policy(observation) for _ in range(4000)]))
    expected = checkpoint.contract.action.to_unit(torch_actions(checkpoint, columns, noise))
    assert np.allclose(found.mean(axis=0), expected.mean(axis=0), atol=0.05)
    assert np.allclose(found.std(axis=0), expected.std(axis=0), atol=0.05)
