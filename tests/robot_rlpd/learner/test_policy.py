from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from robot_rlpd.errors import MismatchError
from robot_rlpd.learner.checkpoint import BEST, LATEST, Checkpoint, save_checkpoint
from robot_rlpd.learner.policy import ActorPolicy, checkpoint_policy, normalized, open_policy
from robot_rlpd.learner.rlpd import RLPD, RLPDConfig
from robot_rlpd.robot import Source
from robot_rlpd.task import TaskOptions
from robot_rlpd.testing import PolicyConformance, fake_spec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from robot_rlpd.learner.policy import Normalizer
    from robot_rlpd.robot import Observation, Policy
    from robot_rlpd.specs import RobotSpec

SPEC = fake_spec()
CONTRACT = SPEC.contract()
CONFIG = RLPDConfig(hidden_dims=(8, 8), ensemble_size=2)
NORMALIZER = (np.array([1, 2, 3, 4], np.float32), np.array([2, 4, 0.5, 1], np.float32))


def learner(seed: int = 0) -> RLPD:
    return RLPD(CONFIG, 4, 2, seed=seed, compile=False)


def checkpoint(seed: int = 0, normalizer: Normalizer | None = None) -> Checkpoint:
    return Checkpoint(
        contract=CONTRACT,
        task="fake",
        task_options=TaskOptions(),
        max_episode_steps=20,
        config=CONFIG,
        learner=learner(seed).state_dict(),
        normalizer=normalizer,
    )


def observation(seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=2).astype(np.float32) for name in ("target", "position")}


class TestCheckpointPolicy(PolicyConformance):
    def make_policy(self) -> Policy:
        return checkpoint_policy(checkpoint(normalizer=NORMALIZER))

    def make_spec(self) -> RobotSpec:
        return SPEC


class TestSamplingPolicy(PolicyConformance):
    def make_policy(self) -> Policy:
        generator = torch.Generator().manual_seed(0)
        return ActorPolicy(CONTRACT, lambda x: learner().sample_action(x, generator))

    def make_spec(self) -> RobotSpec:
        return SPEC


def test_the_policy_of_a_checkpoint_is_the_learners_deterministic_action_in_robot_units() -> None:
    policy = checkpoint_policy(checkpoint())
    for seed in range(5):
        seen = observation(seed)
        flat = np.concatenate([seen["position"], seen["target"]])
        unit = learner().deterministic_action(torch.from_numpy(flat)[None])[0].numpy()
        np.testing.assert_allclose(policy(seen), 0.5 * unit, atol=1e-7)
        assert np.array_equal(policy(seen), policy(seen))
    assert policy.source is Source.POLICY


def test_the_normalizer_of_the_checkpoint_is_applied() -> None:
    seen = observation()
    flat = np.concatenate([seen["position"], seen["target"]])
    scaled = ((flat - NORMALIZER[0]) / NORMALIZER[1]).astype(np.float32)
    expected = checkpoint_policy(checkpoint())({"position": scaled[:2], "target": scaled[2:]})
    assert np.array_equal(checkpoint_policy(checkpoint(normalizer=NORMALIZER))(seen), expected)
    assert normalized(flat, None) is flat
    assert normalized(flat, NORMALIZER).dtype == np.float32


def test_a_policy_keeps_the_share_of_its_noise_that_is_asked_for() -> None:
    def actions(noise: float, seed: int = 0) -> NDArray[np.float32]:
        policy = checkpoint_policy(checkpoint(), noise=noise, seed=seed)
        return np.arctanh(SPEC.action.to_unit(np.stack([policy(observation()) for _ in range(50)])))

    mean, whole, half = actions(0.0), actions(1.0), actions(0.5)
    assert np.ptp(mean, axis=0).max() == 0.0
    assert half - mean == pytest.approx(0.5 * (whole - mean), abs=1e-3)
    assert not np.array_equal(whole, actions(1.0, seed=1))
    assert (np.std(whole, axis=0) > 0.1).all()


def test_a_run_directory_opens_as_its_best_policy(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    save_checkpoint(folder / LATEST, checkpoint(seed=2))
    latest = open_policy(tmp_path, SPEC)
    save_checkpoint(folder / BEST, checkpoint(seed=1))
    best = open_policy(tmp_path, SPEC)
    seen = observation()
    assert np.array_equal(latest(seen), checkpoint_policy(checkpoint(seed=2))(seen))
    assert np.array_equal(best(seen), checkpoint_policy(checkpoint(seed=1))(seen))
    assert np.array_equal(open_policy(folder / LATEST, SPEC)(seen), latest(seen))


def test_a_policy_for_another_robot_is_refused_naming_the_field(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / LATEST, checkpoint())
    with pytest.raises(MismatchError, match=r"control_rate_hz: robot 'fake' does not fit; found 25"):
        open_policy(tmp_path / LATEST, fake_spec(control_rate_hz=25.0))
