from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.runtime.metadata import PolicyMetadata, decode_metadata
from robot_rlpd.errors import DataError
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, PolicyContract
from robot_rlpd.task import TaskOptions

CONTRACT = PolicyContract(
    observation=(
        ArraySpec(name="q", shape=(2,), low=(-0.1, float("-inf")), high=(1 / 3, float("inf")), unit="rad"),
        ArraySpec(name="count", shape=(), dtype="int64"),
    ),
    action=ActionSpec(components=(ActionComponent(name="x", low=-1e-7 / 3, high=2 / 3, unit="m", mode="delta"),)),
    control_rate_hz=100 / 3,
)
FULL = PolicyMetadata(
    contract=CONTRACT,
    task="gymnasium:Door-v1",
    task_options=TaskOptions(success_when='observation[28] >= 1.35 and "é"', env_kwargs={"a": [1, 2.5]}),
    max_episode_steps=200,
    run="door-1",
    env_steps=10**12,
    gradient_steps=7,
    evaluation={"successes": 19, "episodes": 20, "ci95": [0.7638663, 0.99111]},
    prior_data={"demos.zarr": "ab12"},
    code_version="0.1.0",
    opset=17,
    created="2026-01-01T00:00:00Z",
)


@pytest.mark.parametrize("metadata", [FULL, PolicyMetadata(contract=CONTRACT)])
def test_metadata_come_back_with_full_precision(metadata: PolicyMetadata) -> None:
    entries = metadata.encode()
    assert all(isinstance(text, str) for text in entries.values())
    assert decode_metadata(entries, where="file") == metadata


def test_entries_of_others_are_left_alone() -> None:
    assert decode_metadata(FULL.encode() | {"note": "mine"}, where="file") == FULL


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "other"}, "an ONNX file, but no policy file"),
        ({"version": "2"}, "found 2; allowed: 1"),
        ({"contract": "{"}, "'contract' is damaged"),
        ({"contract": "{}"}, "'contract' is damaged"),
        ({"env_steps": '"many"'}, "'env_steps' is damaged"),
        ({"fingerprint": "0"}, "altered"),
    ],
)
def test_metadata_that_are_not_ours_are_refused_in_one_line(change: dict[str, str], told: str) -> None:
    with pytest.raises(DataError, match=r"^a/b\.onnx: ") as caught:
        decode_metadata(FULL.encode() | change, where="a/b.onnx")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_entry_is_named() -> None:
    entries = FULL.encode()
    del entries["run"]
    with pytest.raises(DataError, match="no metadata entry 'run'"):
        decode_metadata(entries, where="file")


def test_another_contract_under_the_old_fingerprint_is_noticed() -> None:
    other = replace(FULL, contract=replace(CONTRACT, control_rate_hz=50.0)).encode()
    with pytest.raises(DataError, match="altered"):
        decode_metadata(FULL.encode() | {"contract": other["contract"]}, where="file")
