"""Actors with cameras: what they deliver is learned from, and the policies that they get see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnx", reason="policies are published as ONNX")

from deploy.export import exploring_policy
from deploy.runtime.onnx_policy import OnnxPolicy
from robot_rlpd.bridge.courier import Courier
from robot_rlpd.bridge.outbox import Outbox
from robot_rlpd.learner.camera_replay import CameraReplay
from robot_rlpd.learner.checkpoint import LATEST, load_checkpoint
from robot_rlpd.learner.listening import ListeningSession
from robot_rlpd.learner.policy import checkpoint_policy
from robot_rlpd.learner.run_directory import CHECKPOINTS, prepare_run_directory
from robot_rlpd.learner.session_config import SessionConfig
from robot_rlpd.rollout import rollout
from robot_rlpd.testing import FakePolicy, FakeTask
from tests.robot_rlpd.learner.cameras import CAMERAS, TINY, SeeingRobot, seeing_contract, seeing_spec

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.episode import Episode
    from robot_rlpd.robot import StepResult

STEPS = 5


class Far(SeeingRobot):
    """Its target is never reached."""

    def reset(self, **options: Any) -> StepResult:
        result = super().reset(**options)
        self.target = np.full(2, 50.0, np.float32)
        return result


def episode(seed: int) -> Episode:
    robot = Far()
    robot.seen = 50 * seed
    return rollout(robot, FakePolicy(), FakeTask(max_episode_steps=STEPS), seed=seed)


@pytest.fixture
def trained(tmp_path: Path) -> ListeningSession:
    """A session that three episodes were delivered to."""
    config = SessionConfig(
        task="fake",
        listen="tcp://127.0.0.1:0",
        cameras=CAMERAS,
        rlpd=TINY,
        env_steps=1000,
        start_training=6,
        compile_update=False,
    )
    prepare_run_directory(config, tmp_path / "run")
    session = ListeningSession(config, tmp_path / "run", SeeingRobot(), FakeTask(max_episode_steps=STEPS))
    with Outbox(tmp_path / "outbox") as outbox:
        for seed in range(3):
            outbox.append(episode(seed))
        courier = Courier(session.server.address, outbox, actor="one", spec=seeing_spec())
        session.run(lambda: session.episodes == 3)
        courier.close()
    session.close()
    return session


def test_frames_that_actors_sent_are_learned_from_each_with_those_before_it(trained: ListeningSession) -> None:
    assert isinstance(trained.online, CameraReplay)
    frames = trained.online.unpack(trained.online._drawn(torch.arange(len(trained.online))))["frames"][..., 0]
    expected = []
    for seed in range(3):
        recorded = episode(seed)
        seen = recorded.observations["front_image"][:, 0, 0, 0].astype(int)
        expected += [[seen[max(0, t + 1 - back)] for back in range(3, -1, -1)] for t in range(len(recorded))]
    assert trained.env_steps == len(expected) == len(trained.online)
    assert np.abs(frames.numpy().astype(int) - np.array(expected)).max() <= 2  # JPEG on its way
    assert trained.learner.gradient_steps == 2 * (len(expected) - 6)


def test_the_policy_that_actors_get_sees_what_the_learners_does(trained: ListeningSession) -> None:
    published = OnnxPolicy(trained._shelf.newest.content)
    assert published.contract == seeing_contract()
    checkpoint = load_checkpoint(trained.run_dir / CHECKPOINTS / LATEST)
    checkpoint.learner["actor/log_std/kernel"].zero_()
    checkpoint.learner["actor/log_std/bias"].fill_(-20.0)
    without_noise, mean = OnnxPolicy(exploring_policy(checkpoint)), checkpoint_policy(checkpoint)
    robot = SeeingRobot()
    seen = [robot.reset(seed=3).observation, *(robot.step(np.zeros(2, np.float32)).observation for _ in range(4))]
    np.testing.assert_allclose([without_noise(o) for o in seen], [mean(o) for o in seen], atol=1e-5)
    without_noise.reset()
    mean.reset()
    np.testing.assert_allclose(without_noise(seen[0]), mean(seen[0]), atol=1e-5)
    noisy = [published(seen[0]) for _ in range(5)]
    assert len({tuple(action) for action in noisy}) == 5
