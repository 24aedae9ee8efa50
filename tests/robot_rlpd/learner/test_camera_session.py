from __future__ import annotations

import dataclasses
import logging
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.camera_replay import CameraReplay
from robot_rlpd.learner.checkpoint import BEST, LATEST, load_checkpoint
from robot_rlpd.learner.commands import TrainCommand, resolve
from robot_rlpd.learner.encoders import PixelConfig
from robot_rlpd.learner.fields import policy_contract
from robot_rlpd.learner.policy import ActorPolicy, checkpoint_policy
from robot_rlpd.learner.presets import PRESETS
from robot_rlpd.learner.session import Session
from robot_rlpd.learner.session_config import SessionConfig
from robot_rlpd.rollout import rollout
from robot_rlpd.spool import StoreListener
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask
from tests.robot_rlpd.learner.cameras import CAMERAS, TINY, SeeingRobot, seeing_contract, seeing_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from robot_rlpd.robot import Observation


STACK = 3


class PlacedRobot(SeeingRobot):
    """What it shows depends on where it is, so that an episode can be made again."""

    def _observation(self) -> Observation:
        self.seen = int(100 + 20 * self.position.sum())
        return super()._observation()


def _die() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def seeing(start: Callable[..., Session], tmp_path: Path) -> Callable[..., Session]:
    """Starts (or resumes) a session with two cameras and a prior store."""
    with EpisodeStore.create(tmp_path / "seen.zarr", seeing_spec()) as store:
        for seed in range(3):
            rollout(SeeingRobot(), FakePolicy(), FakeTask(), seed=seed, listeners=[StoreListener(store)])

    def make(name: str = "run", **changes: Any) -> Session:
        options = {"rlpd": TINY, "cameras": CAMERAS, "prior": (tmp_path / "seen.zarr",), "robot": SeeingRobot()}
        return start(name, **{**options, **changes})

    return make


def all_frames(replay: CameraReplay) -> Tensor:
    return replay.unpack(replay._drawn(torch.arange(len(replay))))["frames"]


def test_online_frames_are_those_that_the_robot_showed_and_stay_within_their_episode(
    seeing: Callable[..., Session],
) -> None:
    session = seeing(normalize=True)
    assert session.run(lambda: False) == "finished"
    assert isinstance(session.online, CameraReplay)
    found = all_frames(session.online)[..., 0].long()
    expected = []
    session.store.close()
    with EpisodeStore.open(session.run_dir / "episodes.zarr") as store:
        for episode in store.load_all():
            seen = episode.observations["front_image"][:, 0, 0, 0].astype(int)
            steps = range(len(episode))
            expected += [[seen[max(0, t + 1 - back)] for back in range(STACK, -1, -1)] for t in steps]
    assert len(found) == 30
    assert torch.equal(found, torch.tensor(np.array(expected)))
    starts = [i for i, row in enumerate(expected) if row[0] == row[2]]
    assert len(starts) > 1


def test_prior_frames_are_those_of_the_store(seeing: Callable[..., Session]) -> None:
    session = seeing()
    (offline,) = session.updater.sampler.offline
    assert isinstance(offline, CameraReplay)
    assert len(offline) == session.prior_report.transitions
    assert offline.sample(4, torch.Generator().manual_seed(0))["observations"].shape == (4, 4)


def test_a_killed_run_with_cameras_ends_bit_identical(
    seeing: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"run_id": str(uuid.UUID(int=3)), "checkpoint_every_s": 0.0, "max_episode_steps": 6}
    whole = seeing("whole", robot=PlacedRobot(), task=FakeTask(6), **options)
    assert whole.run(lambda: False) == "finished"
    session = seeing("killed", robot=PlacedRobot(), task=FakeTask(6), **options)
    with monkeypatch.context() as patch:
        patch.setattr(
            session, "on_end", lambda episode: _die() if session.env_steps > 20 else Session.on_end(session, episode)
        )
        patch.setattr(session, "_save_if_possible", lambda: None)
        with pytest.raises(KeyboardInterrupt):
            session.run(lambda: False)
    resumed = seeing("killed", robot=PlacedRobot(), task=FakeTask(6), resume=True, **options)
    assert 10 < len(resumed.online) == resumed.env_steps < 24
    assert resumed.run(lambda: False) == "finished"
    wanted, found = whole.learner.state_dict(), resumed.learner.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_served_run_with_cameras_keeps_every_recorded_step(seeing: Callable[..., Session]) -> None:
    options: dict[str, Any] = {"served": True, "checkpoint_every_s": 1e9}
    session = seeing("killed", **options)
    assert session.run(lambda: session.env_steps >= 25) == "stopped"
    resumed = seeing("killed", resume=True, **options)
    assert len(resumed.online) == resumed.env_steps == 25
    assert resumed.run(lambda: False) == "finished"
    assert resumed.learner.gradient_steps == 2 * 20


def test_the_policy_of_a_checkpoint_is_that_of_the_session(seeing: Callable[..., Session]) -> None:
    session = seeing(normalize=True, eval_every=15, eval_episodes=1)
    session.run(lambda: False)
    assert session.evaluation is not None
    checkpoint = load_checkpoint(session.run_dir / "checkpoints" / LATEST)
    assert load_checkpoint(session.run_dir / "checkpoints" / BEST).contract == checkpoint.contract
    assert checkpoint.contract == seeing_contract()
    ours = ActorPolicy(session.contract, session.learner.deterministic_action, session.normalizer, TINY.pixels)
    theirs = checkpoint_policy(checkpoint)
    robot = SeeingRobot()
    first = robot.reset(seed=1).observation
    actions = [(ours(first), theirs(first))]
    for _ in range(5):
        seen = robot.step(np.array([0.1, 0.0], np.float32)).observation
        actions.append((ours(seen), theirs(seen)))
    assert all(np.allclose(a, b, atol=1e-6) for a, b in actions)
    again = theirs(first)
    assert not np.array_equal(again, actions[0][1])
    theirs.reset()
    assert np.array_equal(theirs(first), actions[0][1])


def test_the_state_is_normalised_and_images_are_not(seeing: Callable[..., Session]) -> None:
    normalizer = seeing(normalize=True).normalizer
    assert normalizer is not None
    assert not normalizer[0][4:].any()
    assert (normalizer[1][4:] == 1).all()
    assert not (normalizer[1][:4] == 1).any()


def test_memory_counts_one_byte_per_pixel(seeing: Callable[..., Session], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "robot_rlpd"):
        session = seeing()
    (told,) = [message for message in caplog.messages if message.startswith("memory on")]
    assert isinstance(session.online, CameraReplay)
    rows = session.online._rows.nbytes + session.online._frames.nbytes
    assert f"online replay {rows / 1000:.3g} kB" in told


def test_a_policy_reads_the_fields_it_was_given_images_last() -> None:
    contract = policy_contract(seeing_spec(), ["top_image"], ["target"])
    assert [field.name for field in contract.observation] == ["target", "top_image"]
    assert policy_contract(seeing_spec()) == seeing_spec().contract()


@pytest.mark.parametrize(
    ("cameras", "fields", "message"),
    [
        (["front"], [], "cameras: .* found front; allowed: front_image, top_image"),
        (["top_image", "top_image"], [], "top_image twice"),
        (["target"], [], "found target; allowed: front_image, top_image"),
        ([], ["front_image"], "state_fields.*found front_image; allowed: position, target"),
    ],
)
def test_fields_that_do_not_exist_are_refused(cameras: list[str], fields: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy_contract(seeing_spec(), cameras, fields)


def test_a_robot_without_cameras_is_told_apart() -> None:
    with pytest.raises(ConfigError, match=r"found front_image; allowed: none.*--env-kwargs"):
        policy_contract(FakeRobot().spec, ["front_image"])


def test_a_robot_that_observes_only_images_is_read_by_its_cameras() -> None:
    spec = seeing_spec()
    blind = replace(spec, observation=tuple(field for field in spec.observation if field.is_image))
    assert [field.name for field in policy_contract(blind, ["top_image"]).observation] == ["top_image"]
    with pytest.raises(ConfigError, match=r"cameras: .* only images; found none; allowed: front_image, top_image"):
        policy_contract(blind)


def test_the_preset_is_the_papers_and_needs_cameras() -> None:
    with pytest.raises(ConfigError, match="cameras: the preset pixels needs cameras"):
        resolve(TrainCommand(task="reach", preset="pixels"))
    config = resolve(TrainCommand(task="reach", preset="pixels", cameras=("front_image",)))
    rlpd, pixels = config.rlpd, config.rlpd.pixels
    assert pixels == PixelConfig(channels=(32, 64, 128, 256), latent_size=50, frame_stack=3, shift_pad=4)
    assert (rlpd.subset_size, rlpd.utd_ratio, rlpd.backup_entropy, rlpd.initial_temperature) == (1, 1, False, 0.1)
    assert (rlpd.hidden_dims, config.start_training, config.normalize) == ((256, 256), 5000, False)
    assert resolve(TrainCommand(task="reach")).rlpd.pixels is None


def test_the_light_preset_sees_with_a_small_encoder_and_what_is_given_goes_before_it() -> None:
    with pytest.raises(ConfigError, match="cameras: the preset quickstart_pixels needs cameras"):
        resolve(TrainCommand(task="reach", preset="quickstart_pixels"))
    config = resolve(TrainCommand(task="reach", preset="quickstart_pixels", cameras=("wrist_image",)))
    pixels = PixelConfig(channels=(8, 16, 32), frame_stack=1, shift_pad=2)
    assert config.rlpd == dataclasses.replace(PRESETS["quickstart"], utd_ratio=2, batch_size=64, pixels=pixels)
    assert (config.start_training, config.normalize) == (500, True)
    given = TrainCommand(task="reach", preset="quickstart_pixels", cameras=("wrist_image",), frame_stack=2, shift_pad=0)
    assert resolve(given).rlpd.pixels == dataclasses.replace(pixels, frame_stack=2, shift_pad=0)
    stateful = TrainCommand(task="reach", preset="robot", cameras=("wrist_image",), encoder_channels=(4, 8))
    assert resolve(stateful).rlpd.pixels == PixelConfig(channels=(4, 8))


def test_cameras_go_with_an_encoder() -> None:
    with pytest.raises(ConfigError, match="cameras"):
        SessionConfig(task="fake", rlpd=dataclasses.replace(TINY, pixels=None), cameras=CAMERAS)
