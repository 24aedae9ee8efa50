from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from deploy.export import IR_VERSION, OPSET, build_policy_model, export_policy, policy_bytes, write_model
from deploy.runtime.metadata import PolicyMetadata
from deploy.runtime.onnx_policy import OnnxPolicy, read_policy
from deploy.verify import random_observations
from robot_rlpd.errors import DataError, SpecError
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, PolicyContract

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.learner.checkpoint import Checkpoint
    from robot_rlpd.robot import Observation

Actor = dict[str, NDArray[np.float32]]
Normalizer = tuple[NDArray[np.float32], NDArray[np.float32]]


def policy_of(actor: Actor, contract: PolicyContract, normalizer: Normalizer | None = None) -> OnnxPolicy:
    model = build_policy_model(actor, PolicyMetadata(contract=contract), normalizer=normalizer)
    return OnnxPolicy(model.SerializeToString())


def closed_form(
    actor: Actor, contract: PolicyContract, normalizer: Normalizer | None, observation: Observation
) -> NDArray[np.float64]:
    """Entry by entry in Python's double precision: low + (high - low) (tanh(mean) + 1) / 2."""
    x = [float(entry) for spec in contract.observation for entry in observation[spec.name].ravel()]
    if normalizer is not None:
        x = [(entry - float(m)) / float(s) for entry, m, s in zip(x, *normalizer, strict=True)]
    for layer in ("dense0", "dense1", "mean"):
        kernel, bias = actor[f"{layer}/kernel"], actor[f"{layer}/bias"]
        x = [
            sum(entry * float(kernel[row, column]) for row, entry in enumerate(x)) + float(bias[column])
            for column in range(len(bias))
        ]
        x = [math.tanh(entry) if layer == "mean" else max(0.0, entry) for entry in x]
    bounds = [(c.low, c.high) for c in contract.action.components]
    return np.array([low + (high - low) * (unit + 1) / 2 for unit, (low, high) in zip(x, bounds, strict=True)])


@pytest.mark.parametrize("with_normalizer", [False, True])
def test_the_file_computes_the_closed_form_from_named_fields(
    actor: Actor, contract: PolicyContract, normalizer: Normalizer, with_normalizer: bool
) -> None:
    used = normalizer if with_normalizer else None
    policy = policy_of(actor, contract, used)
    half_range = (contract.action.high - contract.action.low) / 2
    rounding = np.spacing(np.abs(contract.action.high))
    for observation in random_observations(contract, 50, np.random.default_rng(0)):
        shuffled = dict(reversed(observation.items()))
        difference = np.abs(policy(shuffled) - closed_form(actor, contract, used, observation))
        assert (difference <= 1e-5 * half_range + rounding).all()


def test_actions_reach_the_bounds_and_never_pass_them(actor: Actor, contract: PolicyContract) -> None:
    for sign, bound in ((1, contract.action.high), (-1, contract.action.low)):
        saturated = actor | {"mean/bias": np.full(3, sign * 1e6, np.float32)}
        observation = random_observations(contract, 1, np.random.default_rng(0))[0]
        assert np.array_equal(policy_of(saturated, contract)(observation), bound)


def test_bounds_that_rounding_misses_are_kept_all_the_same(actor: Actor, contract: PolicyContract) -> None:
    """3e5 + (1e-4 - -3e5) is not 1e-4 in double precision."""
    awkward = ActionSpec(components=tuple(ActionComponent(name=n, low=-3e5, high=1e-4) for n in "abc"))
    for sign, bound in ((1, awkward.high), (-1, awkward.low)):
        saturated = actor | {"mean/bias": np.full(3, sign * 1e6, np.float32)}
        observation = random_observations(contract, 1, np.random.default_rng(0))[0]
        assert np.array_equal(policy_of(saturated, replace(contract, action=awkward))(observation), bound)


def test_one_field_alone_needs_no_concatenation(actor: Actor, contract: PolicyContract) -> None:
    joints = contract.observation[:1]
    small = actor | {"dense0/kernel": actor["dense0/kernel"][:3]}
    policy = policy_of(small, replace(contract, observation=joints))
    observation: Observation = {"joints": np.ones(3, np.float32), "camera": np.zeros(1)}
    expected = closed_form(small, replace(contract, observation=joints), None, observation)
    assert np.allclose(policy(observation), expected, rtol=1e-6, atol=1e-6)


def test_the_model_declares_the_fields_of_the_contract(actor: Actor, contract: PolicyContract) -> None:
    model = build_policy_model(actor, PolicyMetadata(contract=contract), normalizer=None)
    onnx.checker.check_model(model, full_check=True)
    inputs = {
        i.name: (
            onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type).name,
            tuple(d.dim_value for d in i.type.tensor_type.shape.dim),
        )
        for i in model.graph.input
    }
    assert inputs == {s.name: (s.dtype, s.shape) for s in contract.observation}
    assert [o.name for o in model.graph.output] == ["action"]
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET) == (8, 17)


def test_exporting_keeps_what_the_checkpoint_says_about_itself(checkpoint: Checkpoint, tmp_path: Path) -> None:
    described = export_policy(checkpoint, tmp_path / "policy.onnx")
    assert read_policy(tmp_path / "policy.onnx").metadata == described
    assert described.contract == checkpoint.contract
    assert (described.task, described.max_episode_steps, described.run) == ("push", 80, "run-1")
    assert described.task_options == checkpoint.task_options
    assert (described.env_steps, described.gradient_steps, described.opset) == (500, 10_000, 17)
    assert described.evaluation == {"successes": 3, "episodes": 4, "ci95": [0.3, 0.95]}
    assert described.prior_data == {"demos.zarr": "ab"}


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        export_policy(replace(checkpoint, evaluation=None), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def test_a_failed_write_leaves_the_old_file(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "policy.onnx"
    export_policy(checkpoint, out)
    before = out.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_model(onnx.ModelProto(), out)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"dense0/kernel": np.ones((4, 16), np.float32)},
            r"dense0/kernel: .*found shape \(4, 16\); allowed: \(17, 16\)",
        ),
        ({"dense1/bias": np.ones(3, np.float32)}, r"dense1/kernel: .*allowed: \(16, 3\)"),
        ({"mean/bias": np.ones(2, np.float32)}, r"mean/bias: .*allowed: \(3,\)"),
        ({"mean/kernel": np.full((8, 3), np.nan, np.float32)}, "mean/kernel: not finite"),
    ],
)
def test_parameters_that_do_not_fit_are_named(
    actor: Actor, contract: PolicyContract, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        policy_of(actor | change, contract)


def test_a_missing_parameter_is_named(actor: Actor, contract: PolicyContract) -> None:
    del actor["mean/bias"]
    with pytest.raises(DataError, match="mean/bias: the actor has no such parameter"):
        policy_of(actor, contract)


def test_a_normalizer_of_another_length_is_refused(
    actor: Actor, contract: PolicyContract, normalizer: Normalizer
) -> None:
    with pytest.raises(DataError, match="normalizer"):
        policy_of(actor, contract, (normalizer[0][:2], normalizer[1][:2]))


@pytest.mark.parametrize("name", ["action", "net:0"])
def test_a_field_may_not_have_a_name_of_the_graph(actor: Actor, contract: PolicyContract, name: str) -> None:
    renamed = (ArraySpec(name=name, shape=(3,)), *contract.observation[1:])
    with pytest.raises(SpecError, match=f"observation.{name}"):
        policy_of(actor, replace(contract, observation=renamed))


def test_the_bytes_that_a_learner_publishes_are_those_of_the_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for stochastic in (False, True):
        export_policy(checkpoint, tmp_path / "policy.onnx", stochastic=stochastic)
        assert policy_bytes(checkpoint, stochastic=stochastic) == (tmp_path / "policy.onnx").read_bytes()
