from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from deploy.export import actor_arrays, build_policy_model, describe
from deploy.runtime.onnx_policy import OnnxPolicy
from deploy.template import PolicyTemplate
from deploy.verify import compare, random_observations
from robot_rlpd.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.learner.checkpoint import Checkpoint


def later(checkpoint: Checkpoint) -> Checkpoint:
    """The same run, some updates on."""
    generator = torch.Generator().manual_seed(1)
    learner = {
        name: value + torch.randn(value.shape, generator=generator) for name, value in checkpoint.learner.items()
    }
    assert checkpoint.normalizer is not None
    mean, scale = checkpoint.normalizer
    return replace(checkpoint, learner=learner, normalizer=(mean + 1, scale), gradient_steps=20_000, env_steps=1_000)


def fill(template: PolicyTemplate, checkpoint: Checkpoint, **changed: Any) -> bytes:
    values: dict[str, Any] = {
        "actor_parameters": actor_arrays(checkpoint),
        "metadata": describe(checkpoint),
        "normalizer": checkpoint.normalizer,
    }
    return template.fill(**values | changed)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_new_weights_in_the_template_are_the_file_that_building_anew_gives(
    checkpoint: Checkpoint, stochastic: bool, normalized: bool
) -> None:
    first, second = checkpoint, later(checkpoint)
    if not normalized:
        first, second = replace(first, normalizer=None), replace(second, normalizer=None)
    template = PolicyTemplate.of(first, stochastic=stochastic)
    for current in (second, first):
        model = build_policy_model(
            actor_arrays(current), describe(current), normalizer=current.normalizer, stochastic=stochastic
        )
        assert fill(template, current) == model.SerializeToString(deterministic=True)


def test_the_filled_file_does_what_the_checkpoint_does_and_says_so(checkpoint: Checkpoint) -> None:
    current = later(checkpoint)
    policy = OnnxPolicy(fill(PolicyTemplate.of(checkpoint), current))
    assert compare(policy, current, random_observations(current.contract, 50, np.random.default_rng(0))).ok
    assert policy.metadata.gradient_steps == 20_000


def infinite(actor: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return actor | {"mean/bias": np.array([0.0, np.inf, 0.0], np.float32)}


def narrower(actor: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return actor | {"mean/kernel": actor["mean/kernel"][:-1]}


def incomplete(actor: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: value for name, value in actor.items() if name != "dense1/bias"}


def deeper(actor: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return actor | {"dense2/kernel": np.eye(8, dtype=np.float32), "dense2/bias": np.zeros(8, np.float32)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (infinite, "mean/bias: not finite"),
        (narrower, r"mean/kernel: .*found shape \(7, 3\); allowed: shape \(8, 3\)"),
        (incomplete, "dense1/bias: the actor has no such parameter"),
        (deeper, "dense: .*found 3 layers"),
    ],
)
def test_weights_that_do_not_fit_the_template_are_refused(checkpoint: Checkpoint, change: Any, told: str) -> None:
    template = PolicyTemplate.of(checkpoint)
    with pytest.raises(DataError, match=told):
        fill(template, checkpoint, actor_parameters=change(actor_arrays(checkpoint)))


def test_another_contract_or_normalizer_is_refused(checkpoint: Checkpoint) -> None:
    template = PolicyTemplate.of(checkpoint)
    with pytest.raises(DataError, match=r"normalizer: .*another architecture"):
        fill(template, checkpoint, normalizer=None)
    faster = replace(checkpoint, contract=replace(checkpoint.contract, control_rate_hz=31.0))
    with pytest.raises(DataError, match=r"contract: .*another contract"):
        fill(template, faster)
