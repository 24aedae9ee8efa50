from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from deploy.export import export_policy
from deploy.runtime.onnx_policy import OnnxPolicy, open_policy, read_policy
from deploy.verify import random_observations
from robot_rlpd.errors import DataError, MismatchError, SpecError
from robot_rlpd.robot import Observation, Policy, Source
from robot_rlpd.specs import ActionSpec, ArraySpec, PolicyContract, RobotSpec
from robot_rlpd.testing import PolicyConformance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.learner.checkpoint import Checkpoint


@pytest.fixture
def path(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    out = tmp_path / "policy.onnx"
    export_policy(checkpoint, out)
    return out


def spec_of(contract: PolicyContract) -> RobotSpec:
    return RobotSpec(
        name="arm",
        observation=(ArraySpec(name="camera", shape=(8, 8, 3), dtype="uint8", is_image=True), *contract.observation),
        action=contract.action,
        control_rate_hz=contract.control_rate_hz,
        metadata={"serial": "7"},
    )


def observe(contract: PolicyContract, seed: int = 0) -> Observation:
    return random_observations(contract, 1, np.random.default_rng(seed))[0]


class TestOnnxPolicy(PolicyConformance):
    @pytest.fixture(autouse=True)
    def _use(self, path: Path, contract: PolicyContract) -> None:
        self.path, self.contract = path, contract

    def make_policy(self) -> Policy:
        return read_policy(self.path)

    def make_spec(self) -> RobotSpec:
        return spec_of(self.contract)


def test_a_robot_with_more_fields_in_another_order_fits(path: Path, contract: PolicyContract) -> None:
    spec = spec_of(contract)
    policy = open_policy(path, replace(spec, observation=tuple(reversed(spec.observation))))
    assert policy.source is Source.POLICY


def renamed_components(spec: RobotSpec) -> RobotSpec:
    joints = replace(spec.observation[1], components=("b", "a", "c"))
    return replace(spec, observation=(spec.observation[0], joints, *spec.observation[2:]))


def other_bounds(spec: RobotSpec) -> RobotSpec:
    first, *others = spec.action.components
    return replace(spec, action=ActionSpec(components=(replace(first, high=0.0008), *others)))


def other_action_order(spec: RobotSpec) -> RobotSpec:
    return replace(spec, action=ActionSpec(components=tuple(reversed(spec.action.components))))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: replace(spec, control_rate_hz=20.0), "control_rate_hz: .*found 20.0; allowed: 30.0"),
        (other_bounds, "action.components.fine.high: .*found 0.0008; allowed: 0.0007"),
        (other_action_order, "action.components.fine"),
        (renamed_components, "observation.joints.components"),
        (lambda spec: replace(spec, observation=spec.observation[:-1]), "observation.gauge: .*no such field"),
    ],
)
def test_a_robot_that_differs_is_refused_with_the_field_named(
    path: Path, contract: PolicyContract, change: Callable[[RobotSpec], RobotSpec], told: str
) -> None:
    with pytest.raises(MismatchError, match=told):
        open_policy(path, change(spec_of(contract)))


def test_other_observation_limits_are_no_other_contract(path: Path, contract: PolicyContract) -> None:
    fields = tuple(replace(s, low=(-9.0,), high=(9.0,)) for s in contract.observation)
    open_policy(path, spec_of(replace(contract, observation=fields)))


def test_returned_actions_belong_to_the_caller(path: Path, contract: PolicyContract) -> None:
    policy = read_policy(path)
    first = policy(observe(contract, 1))
    kept = first.copy()
    assert not np.array_equal(policy(observe(contract, 2)), kept)
    assert np.array_equal(first, kept)


def test_the_policy_holds_no_state(path: Path, contract: PolicyContract) -> None:
    policy = read_policy(path)
    before = policy(observe(contract, 1))
    policy(observe(contract, 2))
    assert np.array_equal(policy(observe(contract, 1)), before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_observation_that_is_not_finite_gives_no_action(path: Path, contract: PolicyContract, bad: float) -> None:
    observation = observe(contract)
    observation["joints"][1] = bad
    policy = read_policy(path)
    with pytest.raises(SpecError, match=r"joints\[1\]"):
        policy(observation)
    assert np.isfinite(policy(observe(contract))).all()


def test_a_missing_field_and_another_shape_are_named(path: Path, contract: PolicyContract) -> None:
    policy, observation = read_policy(path), observe(contract)
    with pytest.raises(SpecError, match="joints: found shape"):
        policy(observation | {"joints": np.zeros((), np.float32)})
    del observation["stage"]
    with pytest.raises(SpecError, match=r"observation\.stage: missing"):
        policy(observation)


@pytest.mark.parametrize("content", [b"", b"hello, not a model", b"\x00" * 400])
def test_a_file_that_is_not_onnx_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "policy.onnx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"policy\.onnx: ") as caught:
        read_policy(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_wherever_it_ends(path: Path) -> None:
    whole = path.read_bytes()
    for end in np.linspace(1, len(whole) - 1, 150).astype(int):
        with pytest.raises(DataError, match=r"^policy\.onnx: "):
            OnnxPolicy(whole[:end], where="policy.onnx")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.onnx: cannot be read: No such file"):
        read_policy(tmp_path / "none.onnx")


def test_an_onnx_file_of_somebody_else_is_refused(path: Path) -> None:
    model = onnx.load(path)
    del model.metadata_props[:]
    with pytest.raises(DataError, match="no policy file"):
        OnnxPolicy(model.SerializeToString())


def test_a_graph_that_does_not_fit_its_metadata_is_refused(checkpoint: Checkpoint, path: Path, tmp_path: Path) -> None:
    fewer = replace(checkpoint.contract, action=ActionSpec(components=checkpoint.contract.action.components[:2]))
    learner = {n: v[..., :2] if "mean" in n else v for n, v in checkpoint.learner.items()}
    export_policy(replace(checkpoint, contract=fewer, learner=learner), tmp_path / "other.onnx")
    model, other = onnx.load(path), onnx.load(tmp_path / "other.onnx")
    del model.metadata_props[:]
    model.metadata_props.extend(other.metadata_props)
    with pytest.raises(DataError, match="the output does not fit the contract"):
        OnnxPolicy(model.SerializeToString())


def test_the_runtime_imports_neither_torch_nor_onnx(path: Path) -> None:
    program = (
        "import sys, deploy.runtime.commands, robot_rlpd.bridge.robots; from pathlib import Path;"
        "from deploy.runtime.onnx_policy import read_policy; read_policy(Path(sys.argv[1]));"
        "print([m for m in ('torch', 'onnx', 'gymnasium', 'mujoco', 'zarr') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
