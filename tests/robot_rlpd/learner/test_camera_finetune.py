"""A policy that sees is fine-tuned like any other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.learner.camera_replay import CameraReplay
from robot_rlpd.learner.checkpoint import LATEST, Checkpoint, load_checkpoint
from robot_rlpd.learner.finetune import FinetuneSession
from robot_rlpd.learner.finetune_commands import FinetuneCommand
from robot_rlpd.learner.finetune_resolve import resolve
from robot_rlpd.learner.interventions import LateCorrector, sources_of_interventions
from robot_rlpd.learner.preflight import Preflight
from robot_rlpd.learner.run_directory import CHECKPOINTS, EPISODES
from robot_rlpd.learner.starting import prepare_finetuning
from robot_rlpd.rollout import rollout
from robot_rlpd.spool import StoreListener
from robot_rlpd.testing import FakePolicy, FakeTask
from tests.robot_rlpd.learner.cameras import CAMERAS, TINY, SeeingRobot, seeing_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from robot_rlpd.learner.session import Session
    from robot_rlpd.learner.session_config import SessionConfig

    Finetune = Callable[..., FinetuneSession]


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    with EpisodeStore.create(tmp_path / "seen.zarr", seeing_spec()) as store:
        for seed in range(3):
            rollout(SeeingRobot(), FakePolicy(), FakeTask(), seed=seed, listeners=[StoreListener(store)])
    return tmp_path / "seen.zarr"


@pytest.fixture
def begun(start: Callable[..., Session], demos: Path) -> Checkpoint:
    session = start("sim", rlpd=TINY, cameras=CAMERAS, prior=(demos,), robot=SeeingRobot(), env_steps=14)
    session.run(lambda: False)
    return load_checkpoint(session.run_dir)


def asked(demos: Path, **changes: Any) -> FinetuneCommand:
    options: dict[str, Any] = {"env_steps": 30, "warm_up": 10, "eval_every": 0, "no_compile": True}
    start, run_dir = Path("sim"), Path("real")
    return FinetuneCommand(start=start, run_dir=run_dir, prior=(demos,), **{**options, **changes})


@pytest.fixture
def finetune(tmp_path: Path, begun: Checkpoint, demos: Path) -> Iterator[Finetune]:
    """Begins (or resumes) a session that a script corrects."""
    opened: list[FinetuneSession] = []

    def make(*, resume: bool = False, robot: str = "tcp://127.0.0.1:5555") -> FinetuneSession:
        for session in opened:
            session.close()
        config, finetuning = resolve(asked(demos, robot=robot), begun)
        if not resume:
            prepare_finetuning(config, finetuning, tmp_path / "real", begun, seeing_spec())
        corrector = LateCorrector(FakePolicy(), 2)
        arguments = (config, finetuning, tmp_path / "real", SeeingRobot(), FakeTask())
        session = FinetuneSession(*arguments, corrector=corrector)
        opened.append(session)
        return session

    yield make
    for session in opened:
        session.close()


def frames(replay: Any, newest: int) -> list[list[int]]:
    """What the stacks of the newest transitions show, the oldest of them first."""
    assert isinstance(replay, CameraReplay)
    rows = torch.arange(len(replay) - newest, len(replay))
    found: list[list[int]] = replay.unpack(replay._drawn(rows))["frames"][..., 0].long().tolist()
    return found


def test_the_fields_are_those_of_the_starting_policy(begun: Checkpoint, demos: Path) -> None:
    config: SessionConfig = resolve(asked(demos), begun)[0]
    assert config.cameras == CAMERAS
    assert config.state_fields == ("position", "target")
    assert config.rlpd.pixels == TINY.pixels


def test_a_seeing_policy_goes_on_learning_from_where_it_was(finetune: Finetune, begun: Checkpoint) -> None:
    session = finetune()
    assert torch.equal(session.learner.state_dict()["actor/latent/kernel"], begun.learner["actor/latent/kernel"])
    assert session.run(lambda: False) == "finished"
    assert (session.env_steps, session.learner.gradient_steps) == (30, 2 * (30 - 10))
    after = load_checkpoint(session.run_dir / CHECKPOINTS / LATEST)
    changed = [name for name, value in after.actor.items() if not torch.equal(value, begun.actor[name])]
    assert any(name.startswith("encoder/") for name in changed)


def test_frames_of_interventions_do_not_reach_across_their_beginning(finetune: Finetune) -> None:
    session = finetune()
    session.run(lambda: False)
    taken = session.interventions.steps
    found = frames(session.updater.sampler.offline[-1], taken)
    session.store.close()
    with EpisodeStore.open(session.run_dir / EPISODES) as store:
        recorded = store.load_all()
    expected = []
    for episode in recorded:
        seen = episode.observations["front_image"][:, 0, 0, 0].astype(int)
        chosen = np.flatnonzero(sources_of_interventions(episode))
        expected += [[int(seen[max(t, chosen[0])]) for t in range(step - 2, step + 2)] for step in chosen]
    assert len(expected) == taken > 4
    assert np.abs(np.array(found) - np.array(expected)).max() <= 1  # JPEG


def test_a_resumed_session_finds_the_same_interventions(finetune: Finetune) -> None:
    first = finetune(robot="")
    first.run(lambda: False)
    taken = first.interventions.steps
    before = frames(first.updater.sampler.offline[-1], taken)
    second = finetune(resume=True, robot="")
    assert second.interventions.steps == taken
    assert frames(second.updater.sampler.offline[-1], taken) == before


def test_preflight_looks_through_the_cameras(begun: Checkpoint, demos: Path) -> None:
    preflight = Preflight(start=begun, robot=SeeingRobot(), address="", task=FakeTask(), prior=(demos,))
    found = {check.name: check.status for check in preflight.checks()}
    assert found["contract"] == found["demonstrations"] == found["starting policy"] == "ok"
