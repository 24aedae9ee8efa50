"""RLPD's losses as pure functions `(parameters, batch, noise) -> (loss, metrics)`, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from robot_rlpd.learner.distributions import sample_squashed
from robot_rlpd.learner.networks import Parameters, actor_forward, critic_forward, select_members

if TYPE_CHECKING:
    from robot_rlpd.learner.rlpd import RLPDConfig

Batch = Mapping[str, Tensor]
"""observations [B, O], actions [B, A], rewards [B], masks [B] (1 - terminated) and next_observations [B, O]."""
Metrics = dict[str, Tensor]


def critic_target(
    config: RLPDConfig, target: Parameters, batch: Batch, next_actions: Tensor, entropy_bonus: Tensor, subset: Tensor
) -> Tensor:
    """Target y = r + discount * mask * (min over the subset of Q'(s', a') [+ entropy bonus with entropy backup]), [B].

    Args:
        config: Configuration.
        target: All E members of the target critic; only the Z members of `subset` are evaluated.
        batch: One minibatch.
        next_actions: The actor's actions at next_observations, [B, A].
        entropy_bonus: - temperature * log density of `next_actions`, [B].
        subset: Indices of distinct members, [Z].
    """
    chosen = select_members(target, subset)
    values = critic_forward(chosen, batch["next_observations"], next_actions, layer_norm_eps=config.layer_norm_eps)
    next_value = values.amin(dim=0)
    if config.backup_entropy:
        next_value = next_value + entropy_bonus
    return batch["rewards"] + config.discount * batch["masks"] * next_value


def critic_loss(config: RLPDConfig, critic: Parameters, batch: Batch, target_q: Tensor) -> tuple[Tensor, Metrics]:
    """Mean over members and transitions of (Q - y)^2, with the constant y [B] of `critic_target`."""
    q = critic_forward(critic, batch["observations"], batch["actions"], layer_norm_eps=config.layer_norm_eps)
    loss = (q - target_q).square().mean()
    return loss, {"critic_loss": loss, "q_mean": q.mean()}


def actor_loss(
    config: RLPDConfig,
    actor: Parameters,
    batch: Batch,
    noise: Tensor,
    critic: Parameters,
    temperature: Tensor,
    seen_by_critic: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """Mean of temperature * log density - mean over all E online critics of Q.

    `noise` [B, A] is standard normal. `seen_by_critic` are observations for the critic where they differ from the
    actor's.
    """
    actions, log_density = sample_squashed(*actor_forward(actor, batch["observations"]), noise)
    observations = batch["observations"] if seen_by_critic is None else seen_by_critic
    q = critic_forward(critic, observations, actions, layer_norm_eps=config.layer_norm_eps).mean(dim=0)
    loss = (temperature * log_density - q).mean()
    return loss, {"actor_loss": loss, "entropy": -log_density.mean()}


def temperature_loss(log_temperature: Tensor, entropy: Tensor, target_entropy: float) -> tuple[Tensor, Metrics]:
    """Temperature * (entropy - target entropy): too little entropy raises the temperature."""
    temperature = log_temperature.exp()
    loss = temperature * (entropy - target_entropy)
    return loss, {"temperature_loss": loss, "temperature": temperature}


def value_gradient(
    loss: Callable[[Parameters], tuple[Tensor, Metrics]], parameters: Parameters
) -> tuple[Parameters, Metrics]:
    """Gradient and metrics of a loss by named parameters; torch.compile traces it into one graph with Adam."""
    gradients, (_, metrics) = torch.func.grad_and_value(loss, has_aux=True)(parameters)
    return cast("Parameters", gradients), cast("Metrics", metrics)
