from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from deploy.export import export_policy
from deploy.runtime.onnx_policy import OnnxPolicy, read_policy
from deploy.verify import (
    TOLERANCE,
    check_same_contract,
    compare,
    random_observations,
    recorded_observations,
    rounding_bound,
    torch_actions,
)
from robot_rlpd.episode import Ended
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DataError, MismatchError
from robot_rlpd.learner.networks import actor_shapes
from robot_rlpd.learner.presets import PRESETS
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, PolicyContract
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.learner.checkpoint import Checkpoint

Learner = dict[str, torch.Tensor]


def exported(checkpoint: Checkpoint, tmp_path: Path) -> OnnxPolicy:
    export_policy(checkpoint, tmp_path / "policy.onnx")
    return read_policy(tmp_path / "policy.onnx")


def is_ok(policy: OnnxPolicy, checkpoint: Checkpoint) -> bool:
    observations = random_observations(checkpoint.contract, 100, np.random.default_rng(0))
    return compare(policy, checkpoint, observations).ok


@pytest.mark.parametrize("with_normalizer", [False, True])
def test_an_exported_policy_does_what_the_checkpoint_does(
    checkpoint: Checkpoint, tmp_path: Path, with_normalizer: bool
) -> None:
    used = checkpoint if with_normalizer else replace(checkpoint, normalizer=None)
    parity = compare(exported(used, tmp_path), used, random_observations(used.contract, 200, np.random.default_rng(0)))
    report = parity.to_json()
    assert report["ok"]
    assert report["samples"] == 200
    assert set(report["components"]) == {"fine", "strong", "far"}
    assert report["components"]["fine"]["max_abs_difference"] <= 6e-9
    assert set(report["observed"]) == {spec.name for spec in used.contract.observation}
    assert report["observed"]["stage"] == [0.0, 4.0]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("stochastic", [False, True])
def test_a_policy_of_every_preset_agrees(checkpoint: Checkpoint, tmp_path: Path, preset: str, stochastic: bool) -> None:
    config, contract = PRESETS[preset], checkpoint.contract
    generator = torch.Generator().manual_seed(2)
    shapes = actor_shapes(contract.observation_size, contract.action.size, config.hidden_dims)
    actor = {
        f"actor/{name}": torch.randn(shape, generator=generator) / shape[0] ** 0.5 for name, shape in shapes.items()
    }
    made = replace(checkpoint, config=config, learner=actor)
    export_policy(made, tmp_path / "policy.onnx", stochastic=stochastic)
    parity = compare(
        read_policy(tmp_path / "policy.onnx"), made, random_observations(contract, 50, np.random.default_rng(0))
    )
    assert parity.ok


def permuted_rows(learner: Learner) -> Learner:
    return learner | {"actor/dense0/kernel": learner["actor/dense0/kernel"].flip(0)}


def permuted_hidden(learner: Learner) -> Learner:
    return learner | {"actor/dense1/kernel": learner["actor/dense1/kernel"].flip(1)}


def half_precision(learner: Learner) -> Learner:
    return {name: value.half().float() for name, value in learner.items()}


def nudged(learner: Learner) -> Learner:
    bias = learner["actor/mean/bias"].clone()
    bias[0] += 2e-4
    return learner | {"actor/mean/bias": bias}


@pytest.mark.parametrize("fault", [permuted_rows, permuted_hidden, half_precision, nudged])
def test_wrong_weights_are_found(checkpoint: Checkpoint, tmp_path: Path, fault: Callable[[Learner], Learner]) -> None:
    wrong = exported(replace(checkpoint, learner=fault(checkpoint.learner)), tmp_path)
    assert not is_ok(wrong, checkpoint)


def test_far_outside_the_data_float32_is_asked_for_no_more_than_it_resolves(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    assert checkpoint.normalizer is not None
    mean, scale = checkpoint.normalizer
    steep = replace(checkpoint, normalizer=(mean, scale * np.float32(0.01)))
    observations = random_observations(steep.contract, 300, np.random.default_rng(0))
    assert compare(exported(steep, tmp_path), steep, observations).ok
    columns = {s.name: np.stack([o[s.name] for o in observations]) for s in steep.contract.observation}
    assert rounding_bound(steep, columns).max() > TOLERANCE
    assert np.median(rounding_bound(checkpoint, columns)) < TOLERANCE


def test_a_missing_normalizer_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert not is_ok(exported(replace(checkpoint, normalizer=None), tmp_path), checkpoint)


def test_swapped_fields_of_the_same_shape_are_found(tmp_path: Path, checkpoint: Checkpoint) -> None:
    contract = fake_spec().contract()
    generator = torch.Generator().manual_seed(0)
    shapes = {"dense0/kernel": (4, 8), "dense0/bias": (8,), "mean/kernel": (8, 2), "mean/bias": (2,)}
    shapes |= {"log_std/kernel": (8, 2), "log_std/bias": (2,)}
    learner = {f"actor/{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    right = replace(checkpoint, contract=contract, learner=learner, normalizer=None)
    assert is_ok(exported(right, tmp_path), right)
    model = onnx.load(tmp_path / "policy.onnx")
    (concat,) = [node for node in model.graph.node if node.op_type == "Concat"]
    fields = list(reversed(concat.input))
    del concat.input[:]
    concat.input.extend(fields)
    assert not is_ok(OnnxPolicy(model.SerializeToString()), right)


def test_a_wrong_scale_of_one_action_component_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    exported(checkpoint, tmp_path)
    model = onnx.load(tmp_path / "policy.onnx")
    (half,) = [constant for constant in model.graph.initializer if constant.name.endswith("half")]
    wrong = numpy_helper.to_array(half) * [1.001, 1.0, 1.0]
    half.CopyFrom(numpy_helper.from_array(wrong, half.name))
    parity = compare(
        OnnxPolicy(model.SerializeToString()),
        checkpoint,
        random_observations(checkpoint.contract, 50, np.random.default_rng(0)),
    )
    assert not parity.ok
    failed = [n for n, part in parity.to_json()["components"].items() if part["max_abs_difference"] > part["tolerance"]]
    assert failed == ["fine"]


def test_nan_is_never_ok(checkpoint: Checkpoint, tmp_path: Path) -> None:
    observations = random_observations(checkpoint.contract, 3, np.random.default_rng(0))
    parity = compare(exported(checkpoint, tmp_path), checkpoint, observations)
    assert parity.ok
    assert not replace(parity, difference=np.full_like(parity.difference, np.nan)).ok


def test_the_tolerance_is_that_of_a_unit_action_range(checkpoint: Checkpoint, tmp_path: Path) -> None:
    observations = random_observations(checkpoint.contract, 1, np.random.default_rng(0))
    tolerance = compare(exported(checkpoint, tmp_path), checkpoint, observations).tolerance[0]
    assert np.allclose(tolerance[:2], [TOLERANCE * 0.0006, TOLERANCE * 325.0], rtol=0.02)
    assert tolerance[2] == pytest.approx(TOLERANCE * 0.5 + np.spacing(np.float32(1001)))


def test_torch_and_the_learner_agree_on_the_deterministic_action(checkpoint: Checkpoint) -> None:
    from robot_rlpd.learner.policy import checkpoint_policy

    observations = random_observations(checkpoint.contract, 5, np.random.default_rng(0))
    columns = {name: np.stack([o[name] for o in observations]) for name in observations[0]}
    policy = checkpoint_policy(checkpoint)
    expected = np.stack([policy(o) for o in observations])
    assert np.allclose(torch_actions(checkpoint, columns), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: replace(c, control_rate_hz=20.0), "control_rate_hz: .*found 30.0; allowed: 20.0"),
        (
            lambda c: replace(c, observation=tuple(reversed(c.observation))),
            "observation: .*found joints.*allowed: gauge",
        ),
        (lambda c: replace(c, observation=(*c.observation, ArraySpec(name="new", shape=(1,)))), "observation.new"),
        (
            lambda c: replace(c, action=ActionSpec(components=(ActionComponent(name="x"), *c.action.components[1:]))),
            "action.components.x",
        ),
    ],
)
def test_a_file_of_another_contract_is_refused_with_the_field_named(
    checkpoint: Checkpoint, tmp_path: Path, change: Callable[[PolicyContract], PolicyContract], told: str
) -> None:
    policy = exported(checkpoint, tmp_path)
    with pytest.raises(MismatchError, match=told):
        check_same_contract(policy, replace(checkpoint, contract=change(checkpoint.contract)), where="policy.onnx")
    check_same_contract(policy, checkpoint, where="policy.onnx")


def test_random_observations_stay_within_bounds_and_spread_without(contract: PolicyContract) -> None:
    drawn = random_observations(contract, 500, np.random.default_rng(0))
    for spec in contract.observation:
        column = np.stack([spec.validate(o[spec.name]) for o in drawn])
        assert column.dtype == spec.dtype
        assert column.min() >= min(spec.low)
        assert column.max() <= max(spec.high)
        assert column.min() < column.max()
    joints = np.stack([o["joints"] for o in drawn])
    assert 1.0 < joints.std() < 3.0
    assert set(np.unique([o["stage"] for o in drawn])) == {0, 1, 2, 3, 4}


def test_bounds_too_wide_to_mean_anything_count_as_none() -> None:
    spec = replace(fake_spec(), observation=(ArraySpec(name="q", shape=(2,), low=(-3.4e38,), high=(3.4e38,)),))
    drawn = random_observations(spec.contract(), 100, np.random.default_rng(0))
    assert np.abs([o["q"] for o in drawn]).max() < 30.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    robot = FakeRobot()
    with EpisodeStore.create(tmp_path / "demos.zarr", robot.spec) as opened:
        for seed in range(4):
            opened.append(rollout(robot, FakePolicy(), FakeTask(), seed=seed))
    return tmp_path / "demos.zarr"


def test_recorded_observations_are_drawn_once_each_out_of_all_episodes(store: Path) -> None:
    with EpisodeStore.open(store) as opened:
        episodes = list(opened)
    everything = sorted(
        (*position, *target)
        for episode in episodes
        for position, target in zip(episode.observations["position"], episode.observations["target"], strict=True)
    )
    assert all(episode.info.ended is Ended.TERMINATED for episode in episodes)
    contract = fake_spec().contract()
    drawn = recorded_observations([store], contract, 10_000, np.random.default_rng(0))
    assert sorted((*o["position"], *o["target"]) for o in drawn) == everything
    assert len(recorded_observations([store, store], contract, 3, np.random.default_rng(0))) == 6


def test_a_store_of_another_robot_or_without_episodes_is_refused(store: Path, tmp_path: Path) -> None:
    faster = fake_spec(control_rate_hz=50.0)
    with pytest.raises(MismatchError, match=r"demos\.zarr does not fit"):
        recorded_observations([store], faster.contract(), 3, np.random.default_rng(0))
    EpisodeStore.create(tmp_path / "empty.zarr", faster).close()
    with pytest.raises(DataError, match="no observation"):
        recorded_observations([tmp_path / "empty.zarr"], faster.contract(), 3, np.random.default_rng(0))
