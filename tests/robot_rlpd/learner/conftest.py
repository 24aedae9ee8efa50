from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.learner.run_directory import prepare_run_directory
from robot_rlpd.learner.session import Session
from robot_rlpd.learner.session_config import SessionConfig
from robot_rlpd.rollout import rollout
from robot_rlpd.spool import StoreListener
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from robot_rlpd.robot import Robot
    from robot_rlpd.specs import RobotSpec
    from robot_rlpd.task import Task


@pytest.fixture
def tiny() -> RLPDConfig:
    """A learner that updates in a few milliseconds."""
    return RLPDConfig(hidden_dims=(8, 8), ensemble_size=2, utd_ratio=2, batch_size=8, backup_entropy=False)


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """Records demonstrations of the fake task into a store."""

    def make(name: str = "demos.zarr", *, spec: RobotSpec | None = None, episodes: int = 3) -> Path:
        with EpisodeStore.create(tmp_path / name, spec or FakeRobot().spec) as store:
            for seed in range(episodes):
                rollout(FakeRobot(spec), FakePolicy(), FakeTask(), seed=seed, listeners=[StoreListener(store)])
        return tmp_path / name

    return make


@pytest.fixture
def start(tmp_path: Path, tiny: RLPDConfig) -> Iterator[Callable[..., Session]]:
    """Starts (or resumes) a session of 30 steps on the fake robot, the first 10 of them random."""
    started: list[Session] = []

    def make(
        name: str = "run",
        *,
        robot: Robot | None = None,
        task: Task | None = None,
        served: bool = False,
        resume: bool = False,
        **changes: Any,
    ) -> Session:
        for session in started:
            session.store.close()
        defaults = {"task": "fake", "rlpd": tiny, "env_steps": 30, "start_training": 10, "log_every": 5}
        if served:  # as if the robot lived in another process
            defaults["robot"] = "tcp://127.0.0.1:5555"
        config = SessionConfig(**{**defaults, "compile_update": False, **changes})
        if not resume:
            prepare_run_directory(config, tmp_path / name)
        session = Session(config, tmp_path / name, robot or FakeRobot(), task or FakeTask(), resume=resume)
        started.append(session)
        return session

    yield make
    for session in started:
        session.store.close()
