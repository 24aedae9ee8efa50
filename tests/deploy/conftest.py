from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robot_rlpd.learner.checkpoint import Checkpoint
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, PolicyContract
from robot_rlpd.task import TaskOptions

Actor = dict[str, NDArray[np.float32]]


@pytest.fixture
def contract() -> PolicyContract:
    """Every dtype and number of axes; action ranges that are narrow, wide, and far from zero."""
    return PolicyContract(
        observation=(
            ArraySpec(name="joints", shape=(3,), unit="rad"),
            ArraySpec(name="grid/cells", shape=(2, 2), dtype="float64", low=(-2.0,), high=(2.0,)),
            ArraySpec(name="stage", shape=(), dtype="int64", low=(0.0,), high=(4.0,)),
            ArraySpec(name="contact", shape=(2,), dtype="bool"),
            ArraySpec(name="pixels", shape=(2, 1, 3), dtype="uint8", is_image=True),
            ArraySpec(name="gauge", shape=(1,), dtype="int32", low=(-5.0,), high=(float("inf"),)),
        ),
        action=ActionSpec(
            components=(
                ActionComponent(name="fine", low=-0.0005, high=0.0007, unit="m", mode="delta"),
                ActionComponent(name="strong", low=-250.0, high=400.0, unit="N"),
                ActionComponent(name="far", low=1000.0, high=1001.0, unit="m"),
            )
        ),
        control_rate_hz=30.0,
    )


@pytest.fixture
def actor(contract: PolicyContract) -> Actor:
    """Two hidden layers of different widths; big enough biases that no ReLU is idle."""
    rng = np.random.default_rng(3)
    widths = [contract.observation_size, 16, 8]
    parameters: Actor = {}
    for i, (rows, columns) in enumerate(itertools.pairwise(widths)):
        parameters[f"dense{i}/kernel"] = (rng.normal(size=(rows, columns)) / np.sqrt(rows)).astype(np.float32)
        parameters[f"dense{i}/bias"] = rng.normal(size=columns).astype(np.float32)
    for head in ("mean", "log_std"):
        parameters[f"{head}/kernel"] = (rng.normal(size=(8, contract.action.size)) / 3).astype(np.float32)
        parameters[f"{head}/bias"] = rng.normal(size=contract.action.size).astype(np.float32)
    return parameters


@pytest.fixture
def normalizer(contract: PolicyContract) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and scale that matter."""
    rng = np.random.default_rng(4)
    mean = rng.normal(size=contract.observation_size).astype(np.float32)
    return mean, rng.uniform(0.5, 3.0, contract.observation_size).astype(np.float32)


@pytest.fixture
def checkpoint(
    contract: PolicyContract, actor: Actor, normalizer: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> Checkpoint:
    """A checkpoint with that actor."""
    return Checkpoint(
        contract=contract,
        task="push",
        task_options=TaskOptions(success_when="joints[0] > 1"),
        max_episode_steps=80,
        config=RLPDConfig(hidden_dims=(16, 8)),
        learner={f"actor/{name}": torch.from_numpy(value.copy()) for name, value in actor.items()},
        normalizer=normalizer,
        env_steps=500,
        gradient_steps=10_000,
        evaluation={"successes": 3, "episodes": 4, "ci95": [0.3, 0.95], "mean_return": -7.0},
        run="run-1",
        prior={"demos.zarr": "ab"},
    )
