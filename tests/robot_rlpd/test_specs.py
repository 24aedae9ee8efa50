import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rlpd.errors import MismatchError, SpecError
from robot_rlpd.specs import (
    ActionComponent,
    ActionSpec,
    ArraySpec,
    RobotSpec,
    check_contract,
    from_builtins,
    is_finite,
    to_builtins,
)
from robot_rlpd.testing import fake_spec


def changed(spec: RobotSpec, **changes: object) -> RobotSpec:
    return dataclasses.replace(spec, **changes)  # type: ignore[arg-type]


def test_a_spec_survives_encoding_with_infinite_bounds() -> None:
    spec = fake_spec()
    assert from_builtins(to_builtins(spec), RobotSpec) == spec
    assert to_builtins(spec)["observation"][0]["low"] == ["-inf"]


def test_whole_numbers_and_floats_give_one_fingerprint() -> None:
    assert changed(fake_spec(), control_rate_hz=10).fingerprint == fake_spec().fingerprint
    assert ActionComponent(name="a", low=-1, high=1) == ActionComponent(name="a", low=-1.0, high=1.0)


def test_what_is_not_policy_contract_leaves_the_fingerprint_alone() -> None:
    spec = fake_spec()
    camera = ArraySpec(name="camera", shape=(4, 4, 3), dtype="uint8", low=(0.0,), high=(255.0,), is_image=True)
    bounded = dataclasses.replace(spec.observation[0], low=(-1.0,), high=(1.0,))
    assert changed(spec, name="other", metadata={"serial": "7"}).fingerprint == spec.fingerprint
    assert changed(spec, signals=()).fingerprint == spec.fingerprint
    assert changed(spec, observation=(*spec.observation, camera)).fingerprint == spec.fingerprint
    assert changed(spec, observation=(bounded, spec.observation[1])).fingerprint == spec.fingerprint


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("control_rate_hz", changed(fake_spec(), control_rate_hz=20.0)),
        (
            "observation.position.unit",
            changed(
                fake_spec(),
                observation=(dataclasses.replace(fake_spec().observation[0], unit="mm"), fake_spec().observation[1]),
            ),
        ),
        (
            "action.components.x.high",
            changed(
                fake_spec(),
                action=ActionSpec(
                    components=(
                        dataclasses.replace(fake_spec().action.components[0], high=0.4),
                        fake_spec().action.components[1],
                    )
                ),
            ),
        ),
        ("observation.target", changed(fake_spec(), observation=fake_spec().observation[:1])),
    ],
)
def test_a_mismatch_names_the_differing_field(field: str, other: RobotSpec) -> None:
    assert other.fingerprint != fake_spec().fingerprint
    with pytest.raises(MismatchError) as caught:
        check_contract(fake_spec().contract(), other, who="store x")
    assert caught.value.field == field


def test_extra_fields_fit_a_contract_that_does_not_read_them() -> None:
    spec = fake_spec()
    extra = ArraySpec(name="force", shape=(3,), unit="N")
    check_contract(spec.contract(), changed(spec, observation=(*spec.observation, extra)), who="robot")


def test_the_order_of_fields_is_part_of_the_contract() -> None:
    spec = fake_spec()
    assert spec.contract(["position", "target"]).fingerprint != spec.contract(["target", "position"]).fingerprint


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_action_that_is_not_finite_names_its_component(bad: float) -> None:
    with pytest.raises(SpecError, match=r"action\[y\]"):
        fake_spec().action.validate(np.array([0.0, bad]))


def test_action_bounds_have_to_be_finite() -> None:
    with pytest.raises(SpecError, match="finite bounds"):
        ActionComponent(name="a", low=-math.inf, high=1.0)


@given(st.lists(st.floats(-1.0, 1.0, width=32), min_size=2, max_size=2))
def test_scaling_to_unit_and_back_returns_the_action(unit: list[float]) -> None:
    action = fake_spec().action
    assert np.allclose(action.to_unit(action.from_unit(np.array(unit))), unit, atol=1e-6)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2, max_size=2))
def test_scaled_actions_never_leave_the_bounds(unit: list[float]) -> None:
    action = fake_spec().action
    scaled = action.from_unit(np.array(unit))
    assert (scaled >= action.low).all()
    assert (scaled <= action.high).all()


def test_flattening_keeps_contract_order_and_batches() -> None:
    contract = fake_spec().contract()
    single = contract.flatten({"target": np.array([3.0, 4.0]), "position": np.array([1.0, 2.0])})
    assert single.tolist() == [1.0, 2.0, 3.0, 4.0]
    batch = contract.flatten({"target": np.zeros((5, 2)), "position": np.ones((5, 2))})
    assert batch.shape == (5, 4)
    assert batch.dtype == np.float32


def test_observations_are_checked_entry_by_entry() -> None:
    spec = fake_spec().observation[0]
    with pytest.raises(SpecError, match=r"position\[y\]: found nan"):
        spec.validate(np.array([0.0, np.nan], np.float32))
    with pytest.raises(SpecError, match=r"shape \(3,\)"):
        spec.validate(np.zeros(3, np.float32))
    assert spec.validate(np.zeros(2, np.float64)).dtype == np.float32


@given(
    st.lists(st.sampled_from([-1.5, -1.0, -0.0, 0.0, 0.25, 1.0, 1.5, np.nan, np.inf, -np.inf]), min_size=3, max_size=3)
)
def test_an_action_is_admitted_when_it_is_finite_and_within_its_bounds(values: list[float]) -> None:
    spec = ActionSpec(components=tuple(ActionComponent(name=f"a{i}") for i in range(3)))
    assert spec.admits(np.array(values, np.float32)) == all(abs(value) <= 1.0 for value in values)


def test_an_action_of_another_kind_is_not_admitted() -> None:
    spec = ActionSpec(components=tuple(ActionComponent(name=f"a{i}") for i in range(3)))
    for action in (np.zeros(2, np.float32), np.zeros((3, 1), np.float32), np.zeros(3), [0.0, 0.0, 0.0]):
        assert not spec.admits(action)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 64, 65, 1000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found_however_many_numbers_there_are(size: int, bad: float) -> None:
    for dtype in (np.float32, np.float64):
        array = np.full(size, np.finfo(dtype).max, dtype)
        assert is_finite(array)
        array[size // 2] = bad
        assert not is_finite(array)
        assert not is_finite(array.reshape(1, -1))
