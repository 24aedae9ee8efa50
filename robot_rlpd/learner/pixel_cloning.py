"""Behaviour cloning with camera images: the regression trains the encoder too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robot_rlpd.learner.augmentation import random_shifts
from robot_rlpd.learner.cloning import BehaviourCloning
from robot_rlpd.learner.encoders import PixelConfig, images_of, policy_forward, policy_shapes, state_size

if TYPE_CHECKING:
    from robot_rlpd.learner.losses import Batch
    from robot_rlpd.learner.networks import Parameters, Shapes
    from robot_rlpd.learner.rlpd import RLPDConfig
    from robot_rlpd.specs import PolicyContract


class PixelCloning(BehaviourCloning):
    """An actor and the convolutions that it sees through, trained by regression on demonstrated actions.

    Args:
        config: As of `BehaviourCloning`, with `pixels`.
        contract: What is read, images last, and commanded.
        seed: Seed of the starting parameters and of the shifts.
        dtype: Type of all parameters.
        device: Where parameters live and batches are expected.
    """

    def __init__(
        self,
        config: RLPDConfig,
        contract: PolicyContract,
        *,
        seed: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.contract, self.pixels = contract, config.pixels or PixelConfig()
        size = state_size(contract)
        super().__init__(config, size, contract.action.size, seed=seed, dtype=dtype, device=device, compile=False)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def _network(self, observation_size: int, action_size: int) -> Shapes:
        del observation_size, action_size
        return policy_shapes(self.contract, self.config.hidden_dims, self.pixels)

    def _prepared(self, batch: Batch) -> dict[str, Tensor]:
        """The state and the stack of frames, shifted, in one row as a policy gets them."""
        stacks = batch["frames"][:, :-1].to(self.device)
        seen = random_shifts(stacks, images_of(self.contract), self.pixels.shift_pad, self.generator)
        observations = torch.cat([batch["observations"], seen.flatten(1).to(self.dtype)], dim=1)
        return {"observations": observations, "actions": batch["actions"]}

    def _mean(self, actor: Parameters, observations: Tensor) -> Tensor:
        return policy_forward(self.contract, self.pixels, actor, observations)[0]


def make_cloning(
    config: RLPDConfig,
    contract: PolicyContract,
    *,
    seed: int,
    device: str,
    compile: bool,  # noqa: A002
) -> BehaviourCloning:
    """The baseline for a contract: with an encoder where `config.pixels` says so."""
    if config.pixels is not None:
        return PixelCloning(config, contract, seed=seed, device=device)
    size, actions = contract.observation_size, contract.action.size
    return BehaviourCloning(config, size, actions, seed=seed, device=device, compile=compile)
