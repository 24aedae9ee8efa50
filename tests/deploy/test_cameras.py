"""A policy that sees stacks of frames, from a checkpoint to a policy file that keeps the frames itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from deploy.export import policy_bytes
from deploy.runtime.onnx_policy import OnnxPolicy
from deploy.verify import compare, compare_inputs, random_observations
from robot_rlpd.errors import DataError, SpecError
from robot_rlpd.learner.checkpoint import Checkpoint
from robot_rlpd.learner.encoders import PixelConfig
from robot_rlpd.learner.pixel_rlpd import PixelRLPD
from robot_rlpd.learner.policy import checkpoint_policy
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, PolicyContract
from robot_rlpd.task import TaskOptions

if TYPE_CHECKING:
    from robot_rlpd.robot import Observation

CONTRACT = PolicyContract(
    observation=(
        ArraySpec(name="joints", shape=(3,), unit="rad"),
        ArraySpec(name="stage", shape=(), dtype="int64", low=(0.0,), high=(4.0,)),
        ArraySpec(name="wide", shape=(15, 21, 3), dtype="uint8", is_image=True),
        ArraySpec(name="tall", shape=(19, 15, 1), dtype="uint8", is_image=True),
    ),
    action=ActionSpec(components=(ActionComponent(name="x", low=-2.0, high=3.0), ActionComponent(name="y"))),
    control_rate_hz=10.0,
)


def checkpoint(frame_stack: int) -> Checkpoint:
    """With parameters none of which is idle."""
    pixels = PixelConfig(channels=(4, 6, 8), latent_size=7, frame_stack=frame_stack)
    config = RLPDConfig(hidden_dims=(16, 8), ensemble_size=2, pixels=pixels)
    learner = PixelRLPD(config, CONTRACT, seed=frame_stack)
    for flat in (learner._critic, learner._actor):
        flat.add_(0.2 * torch.randn(flat.shape, generator=learner.generator))
    rng = np.random.default_rng(4)
    mean, scale = rng.normal(size=4).astype(np.float32), rng.uniform(0.5, 3.0, 4).astype(np.float32)
    images = CONTRACT.observation_size - 4
    normalizer = np.append(mean, np.zeros(images, np.float32)), np.append(scale, np.ones(images, np.float32))
    return Checkpoint(
        contract=CONTRACT,
        task="look",
        task_options=TaskOptions(),
        max_episode_steps=80,
        config=config,
        learner=learner.state_dict(),
        normalizer=normalizer,
    )


def observations(num: int) -> list[Observation]:
    return random_observations(CONTRACT, num, np.random.default_rng(0))


@pytest.mark.parametrize("frame_stack", [1, 2, 3])
@pytest.mark.parametrize("stochastic", [False, True])
def test_a_policy_file_sees_what_the_checkpoint_sees(frame_stack: int, stochastic: bool) -> None:
    trained = checkpoint(frame_stack)
    policy = OnnxPolicy(policy_bytes(trained, stochastic=stochastic))
    assert policy.frame_stack == frame_stack
    parity = compare(policy, trained, observations(50))
    assert parity.ok
    assert parity.difference.max() < 1e-4
    report = compare_inputs(policy, trained, observations(20))
    assert all(part["ok"] and part["moves_action"] > 1e-3 for part in report.values())


def test_the_runtime_keeps_the_last_frames_and_forgets_them_with_the_episode() -> None:
    trained = checkpoint(3)
    ours, theirs = OnnxPolicy(policy_bytes(trained)), checkpoint_policy(trained)
    seen = observations(6)
    actions = [ours(one) for one in seen]
    assert all(np.allclose(a, theirs(one), atol=1e-5) for a, one in zip(actions, seen, strict=True))
    assert not np.allclose(ours(seen[0]), actions[0], atol=1e-3)
    ours.reset()
    assert np.array_equal(ours(seen[0]), actions[0])


def test_an_action_depends_on_the_order_of_the_frames() -> None:
    policy = OnnxPolicy(policy_bytes(checkpoint(3)))
    first, second, last = observations(3)
    taken = []
    for order in ((first, second, last), (second, first, last)):
        policy.reset()
        taken.append([policy(one) for one in order][-1])
    assert not np.allclose(taken[0], taken[1], atol=1e-3)


def test_a_difference_in_a_convolution_is_found() -> None:
    trained = checkpoint(2)
    policy = OnnxPolicy(policy_bytes(trained))
    trained.learner["critic/encoder/tall/conv1/filters"][0] += 0.05
    assert not compare(policy, trained, observations(20)).ok


def test_a_frame_of_another_size_or_kind_is_refused() -> None:
    policy = OnnxPolicy(policy_bytes(checkpoint(2)))
    (one,) = observations(1)
    for wrong in (np.zeros((15, 20, 3), np.uint8), np.zeros((2, 15, 21, 3), np.uint8), np.zeros((15, 21, 3))):
        with pytest.raises(SpecError, match="wide"):
            policy({**one, "wide": wrong})


def test_an_encoder_that_does_not_fit_is_refused() -> None:
    trained = checkpoint(2)
    trained.learner["critic/encoder/wide/conv0/filters"] = torch.zeros(4, 3, 3, 3)
    with pytest.raises(DataError, match="encoder/wide/conv0/filters"):
        policy_bytes(trained)
    del trained.learner["critic/encoder/wide/conv0/filters"]
    with pytest.raises(DataError, match="no such parameter"):
        policy_bytes(trained)
