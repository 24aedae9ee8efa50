"""RLPD with camera images: the same update behind an encoder that the critic loss trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robot_rlpd.learner.adam import adam_step
from robot_rlpd.learner.augmentation import random_shifts
from robot_rlpd.learner.encoders import (
    PixelConfig,
    encode,
    encoder_shapes,
    fused,
    heads,
    images_of,
    latent_shapes,
    policy_forward,
    split_frames,
    state_size,
)
from robot_rlpd.learner.losses import Batch, Metrics, actor_loss, critic_loss, critic_target, value_gradient
from robot_rlpd.learner.networks import Shapes, actor_forward, flatten, num_parameters, views
from robot_rlpd.learner.rlpd import RLPD, RLPDConfig

if TYPE_CHECKING:
    from robot_rlpd.learner.networks import Parameters
    from robot_rlpd.specs import PolicyContract


class PixelRLPD(RLPD):
    """RLPD whose networks see the state and, through convolutions, stacks of camera frames.

    The convolutions are part of the critic, and of the target critic: the critic loss trains them, the target average
    covers them, and the actor sees what they make of its images without passing a gradient on. Within a call, next
    actions come from the encoder as it was at the call's start; the actor update sees it as it is then.

    Args:
        config: With `pixels`.
        contract: What is read, images last, and commanded.
        seed: Seed of the starting parameters, of all noise and of the shifts.
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
        self.contract = contract
        self.pixels = config.pixels or PixelConfig()
        self._images = images_of(contract)
        self._encoder_shapes = encoder_shapes(self._images, self.pixels)
        # Not compiled: the time goes into convolutions, which are library calls, and compiling them takes minutes.
        super().__init__(
            config, state_size(contract), contract.action.size, seed=seed, dtype=dtype, device=device, compile=False
        )
        self._encoder = self._critic[-num_parameters(self._encoder_shapes) :]
        self._acting_encoder = self._encoder.clone()

    def publish(self) -> None:
        """Let actor and encoder as they are now act."""
        super().publish()
        self._acting_encoder.copy_(self._encoder)

    def _shapes(self, observation_size: int, action_size: int) -> tuple[Shapes, Shapes]:
        actor, critic = super()._shapes(observation_size + self.pixels.latent_size, action_size)
        own = latent_shapes(self._images, self.pixels)
        return actor | own, critic | own | self._encoder_shapes

    def _prepared(self, batch: Batch) -> dict[str, Tensor]:
        """Stacks of both observations, shifted independently, still uint8."""
        frames = batch["frames"].to(self.device)
        prepared = super()._prepared({name: value for name, value in batch.items() if name != "frames"})
        for name, stacks in (("images", frames[:, :-1]), ("next_images", frames[:, 1:])):
            prepared[name] = random_shifts(stacks, self._images, self.pixels.shift_pad, self.generator)
        return prepared

    def _features(self, encoder: Parameters, frames: Tensor) -> Tensor:
        return encode(encoder, split_frames(frames, self._images))

    def _next_policy(self, batch: Batch) -> tuple[Tensor, Tensor]:
        rows = self.config.batch_size
        parts = [
            self._features(views(self._encoder, self._encoder_shapes), frames)
            for frames in torch.split(batch["next_images"], rows)  # one minibatch's activations at a time
        ]
        seen = fused(self.actor, batch["next_observations"], torch.cat(parts))
        return actor_forward(heads(self.actor), seen)

    def _critic_update(self, batch: dict[str, Tensor], subset: Tensor, corrections: Tensor) -> Metrics:
        config = self.config
        target = views(self._target, self._critic_shapes)
        seen = fused(target, batch["next_observations"], self._features(target, batch["next_images"]))
        target_q = critic_target(
            config,
            heads(target),
            {**batch, "next_observations": seen},
            batch["next_actions"],
            batch["entropy_bonus"],
            subset,
        )

        def loss(critic: Parameters) -> tuple[Tensor, Metrics]:
            observations = fused(critic, batch["observations"], self._features(critic, batch["images"]))
            return critic_loss(config, heads(critic), {**batch, "observations": observations}, target_q)

        gradients, metrics = value_gradient(loss, views(self._critic, self._critic_shapes))
        adam_step(config, config.critic_lr, self._critic, flatten(gradients), self._critic_adam, corrections)
        self._target.lerp_(self._critic, config.tau)
        return metrics | {"target_q": target_q}

    def _actor_update(self, batch: dict[str, Tensor], noise: Tensor, corrections: Tensor) -> Metrics:
        config = self.config
        critic = views(self._critic, self._critic_shapes)
        features = self._features(critic, batch["images"])
        seen_by_critic = fused(critic, batch["observations"], features)
        temperature = self.log_temperature.exp()

        def loss(actor: Parameters) -> tuple[Tensor, Metrics]:
            seen = {**batch, "observations": fused(actor, batch["observations"], features)}
            return actor_loss(config, heads(actor), seen, noise, heads(critic), temperature, seen_by_critic)

        gradients, metrics = value_gradient(loss, views(self._actor, self._actor_shapes))
        adam_step(config, config.actor_lr, self._actor, flatten(gradients), self._actor_adam, corrections)
        return metrics

    def _acting_policy(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        acting = self._acting_views | views(self._acting_encoder, self._encoder_shapes)
        return policy_forward(self.contract, self.pixels, acting, observations.to(self.device, self.dtype))


def make_learner(
    config: RLPDConfig,
    contract: PolicyContract,
    *,
    seed: int,
    device: str,
    compile: bool,  # noqa: A002
) -> RLPD:
    """The learner for a contract: with an encoder where `config.pixels` says so."""
    if config.pixels is not None:
        return PixelRLPD(config, contract, seed=seed, device=device)
    size, actions = contract.observation_size, contract.action.size
    return RLPD(config, size, actions, seed=seed, device=device, compile=compile)
