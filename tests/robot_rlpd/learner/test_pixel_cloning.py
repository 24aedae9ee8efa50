"""The baseline of cloning, with cameras: what cannot be known without looking is learned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.learner.checkpoint import LATEST, load_checkpoint
from robot_rlpd.learner.cloning_session import CloningSession
from robot_rlpd.learner.encoders import images_of
from robot_rlpd.learner.pixel_cloning import PixelCloning, make_cloning
from robot_rlpd.learner.policy import checkpoint_policy
from robot_rlpd.learner.run_directory import CHECKPOINTS, prepare_run_directory
from robot_rlpd.learner.session_config import SessionConfig
from robot_rlpd.rollout import rollout
from robot_rlpd.spool import StoreListener
from robot_rlpd.testing import FakePolicy, FakeTask
from tests.robot_rlpd.learner.cameras import CAMERAS, TINY, SeeingRobot, seeing_contract, seeing_spec

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

CONFIG = replace(TINY, actor_lr=3e-3)


def seen_brightness() -> dict[str, Tensor]:
    """A batch whose actions are the brightness of the oldest frame that is seen now, of the first camera."""
    generator = torch.Generator().manual_seed(1)
    front = images_of(seeing_contract())[0].size
    brightness = torch.randint(0, 256, (64,), generator=generator)
    frames = torch.randint(0, 256, (64, 4, front + 49), generator=generator).to(torch.uint8)
    frames[:, 0, :front] = brightness[:, None].to(torch.uint8)  # what is seen next begins one frame later
    actions = (brightness / 127.5 - 1.0)[:, None].expand(64, 2) * 0.9
    return {"observations": torch.zeros(64, 4), "frames": frames, "actions": actions}


def test_it_learns_from_what_only_the_camera_shows() -> None:
    cloning, batch = PixelCloning(CONFIG, seeing_contract(), seed=0), seen_brightness()
    first = cloning.update(batch)["cloning_loss"]
    convolutions = cloning.actor["encoder/front_image/conv0/filters"].clone()
    for _ in range(400):
        last = cloning.update(batch)["cloning_loss"]
    assert last < 0.1 * first
    assert not torch.equal(cloning.actor["encoder/front_image/conv0/filters"], convolutions)


def test_without_cameras_it_is_the_same_baseline_as_before() -> None:
    contract = seeing_spec().contract(["position", "target"])
    plain = make_cloning(replace(CONFIG, pixels=None), contract, seed=0, device="cpu", compile=False)
    assert not isinstance(plain, PixelCloning)
    assert isinstance(make_cloning(CONFIG, seeing_contract(), seed=0, device="cpu", compile=False), PixelCloning)


def test_a_cloned_policy_with_cameras_is_evaluated_saved_and_acts_again(tmp_path: Path) -> None:
    with EpisodeStore.create(tmp_path / "seen.zarr", seeing_spec()) as store:
        for seed in range(3):
            rollout(SeeingRobot(), FakePolicy(), FakeTask(), seed=seed, listeners=[StoreListener(store)])
    config = SessionConfig(
        task="fake",
        rlpd=CONFIG,
        cameras=CAMERAS,
        state_fields=("position",),
        prior=(tmp_path / "seen.zarr",),
        cloning_steps=20,
        eval_every=1,
        eval_episodes=2,
        normalize=True,
    )
    prepare_run_directory(config, tmp_path / "run")
    session = CloningSession(config, tmp_path / "run", SeeingRobot(), FakeTask())
    assert session.run(lambda: False) == "finished"
    assert session.evaluation is not None
    checkpoint = load_checkpoint(tmp_path / "run" / CHECKPOINTS / LATEST)
    assert [field.name for field in checkpoint.contract.observation] == ["position", *CAMERAS]
    first = SeeingRobot().reset(seed=2).observation
    action = checkpoint_policy(checkpoint)(first)
    assert np.isfinite(action).all()
    brighter = first | {name: np.full_like(first[name], 255) for name in CAMERAS}
    assert not np.array_equal(checkpoint_policy(checkpoint)(brighter), action)
