"""Behaviour cloning with RLPD's actor network: the baseline that prior data alone give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robot_rlpd.learner.adam import AdamState, adam_step, bias_corrections
from robot_rlpd.learner.compilation import compiled
from robot_rlpd.learner.losses import Batch, Metrics, value_gradient
from robot_rlpd.learner.networks import Parameters, Shapes, actor_forward, actor_shapes, flatten, initialise, views

if TYPE_CHECKING:
    from collections.abc import Mapping

    from robot_rlpd.learner.rlpd import RLPDConfig


def cloning_loss(mean: Tensor, actions: Tensor) -> tuple[Tensor, Metrics]:
    """Mean squared error of the deterministic action tanh(mean) against actions in [-1, 1], both [B, A]."""
    loss = (mean.tanh() - actions).square().mean()
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
        self._shapes = self._network(observation_size, action_size)
        generator = torch.Generator(self.device).manual_seed(seed)
        self._actor = initialise(self._shapes, generator, dtype=dtype)
        self._adam = AdamState.zeros_like(self._actor)
        self.actor = views(self._actor, self._shapes)
        self._step = compiled(self._update, self.device) if compile else self._update

    @property
    def gradient_steps(self) -> int:
        """Number of updates so far."""
        return int(self._adam.count)

    @torch.no_grad()
    def update(self, batch: Batch) -> dict[str, float]:
        """Do one Adam step on observations [B, O] and actions [B, A], with cameras `frames` too; the rest is unused."""
        corrections = bias_corrections(self.config, self._adam)[0]
        return {name: float(value) for name, value in self._step(self._prepared(batch), corrections).items()}

    def _network(self, observation_size: int, action_size: int) -> Shapes:
        return actor_shapes(observation_size, action_size, self.config.hidden_dims)

    def _prepared(self, batch: Batch) -> dict[str, Tensor]:
        return {name: batch[name] for name in ("observations", "actions")}

    def _mean(self, actor: Parameters, observations: Tensor) -> Tensor:
        return actor_forward(actor, observations)[0]

    def _update(self, batch: Mapping[str, Tensor], corrections: Tensor) -> Metrics:
        def loss(actor: Parameters) -> tuple[Tensor, Metrics]:
            return cloning_loss(self._mean(actor, batch["observations"]), batch["actions"])

        gradients, metrics = value_gradient(loss, views(self._actor, self._shapes))
        adam_step(self.config, self.config.actor_lr, self._actor, flatten(gradients), self._adam, corrections)
        return metrics

    @torch.inference_mode()
    def deterministic_action(self, observations: Tensor) -> Tensor:
        """The squashed mean, in [-1, 1], [B, A], for observations [B, O]."""
        return self._mean(self.actor, observations.to(self.device, self.dtype)).tanh()
