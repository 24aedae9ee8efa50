"""A fake robot with two cameras, and a learner small enough to see through them in milliseconds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.learner.encoders import PixelConfig
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.specs import ArraySpec, PolicyContract, RobotSpec
from robot_rlpd.testing import FakeRobot, fake_spec

if TYPE_CHECKING:
    from robot_rlpd.robot import Observation

CAMERAS = ("front_image", "top_image")
PIXELS = PixelConfig(channels=(3, 4), latent_size=5, frame_stack=3, shift_pad=1)
TINY = RLPDConfig(
    hidden_dims=(8, 8), ensemble_size=3, subset_size=2, utd_ratio=2, batch_size=6, backup_entropy=False, pixels=PIXELS
)


def seeing_spec() -> RobotSpec:
    """The fake robot's spec with a camera first and one last, of different sizes."""
    spec = fake_spec()
    front = ArraySpec(name="front_image", shape=(9, 8, 3), dtype="uint8", is_image=True)
    top = ArraySpec(name="top_image", shape=(7, 7, 1), dtype="uint8", is_image=True)
    return replace(spec, observation=(front, *spec.observation, top))


def seeing_contract() -> PolicyContract:
    """Position and target, then both cameras."""
    return seeing_spec().contract(["position", "target", *CAMERAS])


class SeeingRobot(FakeRobot):
    """Every pixel of both images tells the robot's time in steps since it was made."""

    def __init__(self) -> None:
        super().__init__(seeing_spec())
        self.seen = 0

    def _observation(self) -> Observation:
        self.seen += 1
        images = {s.name: np.full(s.shape, self.seen % 256, np.uint8) for s in self.spec.observation if s.is_image}
        return {**super()._observation(), **images}
