from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from robot_rlpd.errors import DataError, RunDirectoryError
from robot_rlpd.learner.checkpoint import BEST, LATEST, Checkpoint, find_checkpoint, load_checkpoint, save_checkpoint
from robot_rlpd.learner.rlpd import RLPD, RLPDConfig
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, PolicyContract
from robot_rlpd.task import TaskOptions

if TYPE_CHECKING:
    from pathlib import Path

CONTRACT = PolicyContract(
    observation=(
        ArraySpec(name="joints", shape=(2,), low=(-math.inf, -1.0), high=(math.inf,), unit="rad"),
        ArraySpec(name="stage", shape=(), dtype="int64", low=(0.0,), high=(4.0,)),
    ),
    action=ActionSpec(components=(ActionComponent(name="push", low=-0.1, high=0.3, unit="m", mode="delta"),)),
    control_rate_hz=12.5,
)


def checkpoint(env_steps: int = 500, **changes: Any) -> Checkpoint:
    config = RLPDConfig(hidden_dims=(8, 8), ensemble_size=2, tau=0.1 + 0.2)
    whole = Checkpoint(
        contract=CONTRACT,
        task="gymnasium:Push-v0",
        task_options=TaskOptions(success_when="joints[0] > 1", reward="sparse", env_kwargs={"maze": [[1, None]]}),
        max_episode_steps=80,
        config=config,
        learner=RLPD(config, 3, 1, seed=env_steps, compile=False).state_dict(),
        normalizer=(np.array([0.1, 2.0, 3.0], np.float32), np.array([1.0, 1e-4, 7.0], np.float32)),
        env_steps=env_steps,
        gradient_steps=10_000,
        episodes=12,
        evaluation={"successes": 3, "episodes": 4, "ci95": [0.3, 0.95], "mean_return": None},
        run="run ü",
        prior={"demos.zarr": "ab"},
        trained_s=1 / 3,
    )
    return dataclasses.replace(whole, **changes)


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    names = [field.name for field in dataclasses.fields(Checkpoint) if field.name not in ("learner", "normalizer")]
    assert {name: getattr(found, name) for name in names} == {name: getattr(expected, name) for name in names}
    assert found.learner.keys() == expected.learner.keys()
    for name, tensor in expected.learner.items():
        assert found.learner[name].dtype == tensor.dtype
        assert torch.equal(found.learner[name], tensor)


def test_a_checkpoint_reads_back_exactly(tmp_path: Path) -> None:
    expected = checkpoint()
    save_checkpoint(tmp_path / LATEST, expected)
    found = load_checkpoint(tmp_path / LATEST)
    assert_same(found, expected)
    assert found.contract.observation[0].low == (-math.inf, -1.0)
    assert found.contract.observation[0].high == (math.inf,)
    assert found.contract.fingerprint == CONTRACT.fingerprint
    assert found.normalizer is not None
    assert expected.normalizer is not None
    for part, wanted in zip(found.normalizer, expected.normalizer, strict=True):
        assert part.dtype == np.float32
        assert np.array_equal(part, wanted)
    assert [path.name for path in tmp_path.iterdir()] == [LATEST]


def test_what_a_checkpoint_need_not_have_reads_back_as_none(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / LATEST, checkpoint(normalizer=None, evaluation=None))
    found = load_checkpoint(tmp_path / LATEST)
    assert found.normalizer is None
    assert found.evaluation is None


def test_a_learner_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path: Path) -> None:
    config = checkpoint().config
    batch = {name: torch.randn(20 * 4, 3, generator=torch.Generator().manual_seed(i)) for i, name in enumerate("on")}
    data = {"observations": batch["o"], "next_observations": batch["n"], "actions": batch["o"][:, :1].tanh()}
    data |= {"rewards": -torch.ones(80), "masks": torch.ones(80)}
    learner = RLPD(config, 3, 1, seed=0, compile=False)
    learner.update(data)
    save_checkpoint(tmp_path / LATEST, checkpoint(learner=learner.state_dict()))
    resumed = RLPD(config, 3, 1, seed=9, compile=False)
    resumed.load_state_dict(load_checkpoint(tmp_path / LATEST).learner)
    assert learner.update(data) == resumed.update(data)


def test_the_actor_is_named_without_its_prefix() -> None:
    learner = RLPD(checkpoint().config, 3, 1, seed=500, compile=False)
    found = checkpoint().actor
    assert found.keys() == learner.actor.keys()
    assert all(torch.equal(found[name], parameter) for name, parameter in learner.actor.items())


def test_a_write_that_fails_halfway_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = checkpoint(1)
    save_checkpoint(tmp_path / LATEST, old)

    def fail(content: Any, file: Any) -> None:
        del content
        file.write(b"half")
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", fail)
        with pytest.raises(OSError, match="full"):
            save_checkpoint(tmp_path / LATEST, checkpoint(2))
    assert_same(load_checkpoint(tmp_path / LATEST), old)
    save_checkpoint(tmp_path / LATEST, checkpoint(3))
    assert load_checkpoint(tmp_path / LATEST).env_steps == 3


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, kept: float) -> None:
    path = tmp_path / LATEST
    save_checkpoint(path, checkpoint())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])
    with pytest.raises(DataError, match=r"not a readable checkpoint") as caught:
        load_checkpoint(path)
    assert caught.value.field == str(path)


@pytest.mark.parametrize(
    "content", [{"weights": torch.zeros(2)}, torch.zeros(2), {"format": "another", "version": 1}, [1, 2]]
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(DataError, match="not a checkpoint of this program"):
        load_checkpoint(tmp_path / "foreign.pt")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"format": RuntimeError("code")}, tmp_path / "foreign.pt")
    with pytest.raises(DataError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "foreign.pt")


def test_another_version_is_refused_naming_both(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / LATEST, checkpoint())
    content = torch.load(tmp_path / LATEST, weights_only=True)
    torch.save({**content, "version": 2}, tmp_path / LATEST)
    with pytest.raises(DataError, match="version: found 2; allowed: 1"):
        load_checkpoint(tmp_path / LATEST)


def test_a_run_directory_gives_the_preferred_checkpoint_or_the_other_one(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with pytest.raises(RunDirectoryError, match="no checkpoint in this run directory"):
        load_checkpoint(tmp_path)
    save_checkpoint(folder / BEST, checkpoint(100))
    assert load_checkpoint(tmp_path, prefer=LATEST).env_steps == 100
    save_checkpoint(folder / LATEST, checkpoint(200))
    assert load_checkpoint(tmp_path, prefer=BEST).env_steps == 100
    assert load_checkpoint(tmp_path).env_steps == 200
    assert load_checkpoint(folder / BEST).env_steps == 100
    (folder / BEST).unlink()
    assert find_checkpoint(tmp_path, prefer=BEST) == folder / LATEST


def test_a_path_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"nowhere: no such run directory or checkpoint"):
        load_checkpoint(tmp_path / "nowhere")
