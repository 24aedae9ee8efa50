from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.robot import Source
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

if TYPE_CHECKING:
    from pathlib import Path

ARM = RobotSpec(
    name="arm",
    observation=(
        ArraySpec(name="joints", shape=(3,), unit="rad", components=("base", "elbow", "wrist")),
        ArraySpec(name="camera", shape=(64, 96, 3), dtype="uint8", is_image=True),
        ArraySpec(name="touch", shape=(), dtype="bool"),
        ArraySpec(name="wrist/grey", shape=(5, 7, 1), dtype="uint8", is_image=True),
        ArraySpec(name="pose", shape=(2, 2)),
        ArraySpec(name="count", shape=(2,), dtype="int64"),
    ),
    action=ActionSpec(components=(ActionComponent(name="x", low=-2, high=2, unit="m"), ActionComponent(name="grip"))),
    control_rate_hz=15.0,
    signals=(
        ArraySpec(name="reward", shape=()),
        ArraySpec(name="terminated", shape=(), dtype="bool"),
        ArraySpec(name="success", shape=(), dtype="bool"),
        ArraySpec(name="key", shape=(2,), dtype="int32"),
    ),
)


def arm_episode(number: int, steps: int, *, ended: Ended, final: bool = True, spec: RobotSpec = ARM) -> Episode:
    """All kinds of fields, with values that name their episode and step."""
    rng = np.random.default_rng(number)
    rows = steps + int(final)
    observations: dict[str, Any] = {}
    for s in spec.observation:
        if s.is_image:  # one even colour per step, so that a lossy codec keeps the order of the steps
            values = 8 * np.arange(rows) + 2 * number
            observations[s.name] = np.broadcast_to(values[:, None, None, None], (rows, *s.shape)).astype(np.uint8)
        else:
            observations[s.name] = (10 * rng.normal(size=(rows, *s.shape))).astype(s.dtype)
    solved = np.arange(steps) == (steps - 1 if ended is Ended.TERMINATED else -1)
    signals = {
        "reward": solved.astype(np.float32) - 1,
        "terminated": solved,
        "success": solved,
        "key": rng.integers(0, 9, (steps, 2)).astype(np.int32),
    }
    actions = rng.uniform(-2.2, 2.2, (steps, 2)).astype(np.float32)
    return Episode(
        spec=spec,
        observations=observations,
        actions=actions,
        executed_actions=0.9 * np.clip(actions, spec.action.low, spec.action.high),
        signals={s.name: signals[s.name] for s in spec.signals},
        sources=rng.choice([int(Source.HUMAN), int(Source.POLICY)], steps).astype(np.uint8),
        robot_times_s=7 + np.arange(rows) / 15 + rng.normal(size=rows) * 1e-3,
        wall_times_s=1.7e9 + np.arange(rows) / 15,
        info=EpisodeInfo(
            ended=ended,
            success=ended is Ended.TERMINATED,
            task="put the cube away",
            seed=number,
            operator="somebody",
            device="leader arm",
            notes="the second try",
            randomization={"friction": 0.5},
        ),
    )


@pytest.fixture
def arm_store(tmp_path: Path) -> Path:
    """Three episodes: solved, interrupted, solved."""
    ended = (Ended.TERMINATED, Ended.INTERRUPTED, Ended.TERMINATED)
    with EpisodeStore.create(tmp_path / "arm.zarr", ARM, jpeg_quality=100) as store:
        store.extend(arm_episode(i, steps, ended=ended[i]) for i, steps in enumerate((12, 5, 9)))
    return tmp_path / "arm.zarr"
