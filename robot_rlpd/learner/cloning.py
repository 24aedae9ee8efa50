"""Behaviour cloning with RLPD's actor network: the baseline that prior data alone give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robot_rlpd.learner.adam import AdamState, adam_step
from robot_rlpd.learner.compilation import compiled
from robot_rlpd.learner.losses import Batch, Metrics, value_gradient
from robot_rlpd.learner.networks import Parameters, actor_forward, actor_shapes, flatten, initialise, views

if TYPE_CHECKING:
    from collections.abc import Mapping

    from robot_rlpd.learner.rlpd import RLPDConfig


def cloning_loss(actor: Parameters, batch: Batch) -> tuple[Tensor, Metrics]:
    """Mean squared error of the deterministic action tanh(mean) against actions in [-1, 1]."""
    mean, _ = actor_forward(actor, batch["observations"])
    loss = (mean.tanh() - batch["actions"]).square().mean()
    return loss, {"cloning_loss": loss}


class BehaviourCloning:
    """An actor trained by regression on demonstrated actions; its log_std head is never trained.

    Args:
        config: Gives `hidden_dims`, `actor_lr` and Adam's numbers; the rest is not used.
        observation_size: Number of observation entries.
        action_size: Number of action entries.
        seed: Seed of the starting parameters.
        dtype: Type of all parameters.
        device: Where parameters live and batches are expected.
        compile: Compile the update where that works.
    """

    def __init__(
        self,
        config: RLPDConfig,
        observation_size: int,
        action_size: int,
        *,
        seed: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        compile: bool = False,  # noqa: A002 - the name of torch.compile
    ) -> None:
        self.config = config
        self.dtype = dtype
        self.device = torch.device(device)
        self._shapes = actor_shapes(observation_size, action_size, config.hidden_dims)
        generator = torch.Generator(self.device).manual_seed(seed)
        self._actor = initialise(self._shapes, generator, dtype=dtype)
        self._adam = AdamState.zeros_like(self._actor)
        self.actor = views(self._actor, self._shapes)
        self._step = compiled(self._update) if compile else self._update

    @property
    def gradient_steps(self) -> int:
        """Number of updates so far."""
        return int(self._adam.count)

    @torch.no_grad()
    def update(self, batch: Batch) -> dict[str, float]:
        """Do one Adam step on observations [B, O] and actions [B, A]; other entries of the batch are not used."""
        used = {name: batch[name] for name in ("observations", "actions")}
        return {name: float(value) for name, value in self._step(used).items()}

    def _update(self, batch: Mapping[str, Tensor]) -> Metrics:
        gradients, metrics = value_gradient(lambda actor: cloning_loss(actor, batch), views(self._actor, self._shapes))
        adam_step(self.config, self.config.actor_lr, self._actor, flatten(gradients), self._adam)
        return metrics

    @torch.inference_mode()
    def deterministic_action(self, observations: Tensor) -> Tensor:
        """The squashed mean, in [-1, 1], [B, A], for observations [B, O]."""
        return actor_forward(self.actor, observations.to(self.device, self.dtype))[0].tanh()
