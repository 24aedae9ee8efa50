"""RLPD (Ball et al. 2023): soft actor-critic with a normalised critic ensemble and many critic updates per call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.adam import AdamState, adam_step, bias_corrections
from robot_rlpd.learner.compilation import compiled
from robot_rlpd.learner.distributions import sample_squashed
from robot_rlpd.learner.encoders import PixelConfig
from robot_rlpd.learner.losses import (
    Batch,
    Metrics,
    actor_loss,
    critic_loss,
    critic_target,
    temperature_loss,
    value_gradient,
)
from robot_rlpd.learner.networks import (
    Shapes,
    actor_forward,
    actor_shapes,
    critic_shapes,
    flatten,
    initialise,
    views,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, kw_only=True)
class RLPDConfig:
    """Everything that the update depends on; the defaults are the paper's."""

    hidden_dims: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of actor and critics; at least one, each >= 1."""
    ensemble_size: int = 10
    """Number of critics E, >= 1; all are trained, and the actor uses their mean."""
    subset_size: int = 2
    """Number of target critics Z whose minimum is the target, 1..ensemble_size; drawn once per minibatch."""
    utd_ratio: int = 20
    """Critic updates per environment step, >= 1."""
    batch_size: int = 256
    """Transitions per minibatch, >= 1."""
    offline_fraction: float = 0.5
    """Share of offline data in each minibatch, 0..1; rounded half up to whole transitions."""
    discount: float = 0.99
    """Discount per environment step, 0..1."""
    tau: float = 0.005
    """Weight of the critic in the target average after each critic update, 0..1."""
    actor_lr: float = 3e-4
    """Adam step size of the actor, > 0."""
    critic_lr: float = 3e-4
    """Adam step size of the critics, > 0."""
    temperature_lr: float = 3e-4
    """Adam step size of log temperature, > 0."""
    backup_entropy: bool = True
    """Whether the critic's target holds the entropy term; off for sparse rewards."""
    target_entropy: float | None = None
    """Entropy that the temperature aims at [nat]; None is minus half the number of action entries."""
    initial_temperature: float = 1.0
    """Starting weight of the entropy, > 0."""
    layer_norm: bool = True
    """Whether each hidden layer of the critics is normalised."""
    layer_norm_eps: float = 1e-6
    """Added to the variance inside the normalisation's square root, > 0."""
    adam_b1: float = 0.9
    """Decay of the gradient's running mean, 0 <= b1 < 1."""
    adam_b2: float = 0.999
    """Decay of the squared gradient's running mean, 0 <= b2 < 1."""
    adam_eps: float = 1e-8
    """Added to the square root in Adam's denominator, > 0."""
    pixels: PixelConfig | None = None
    """How camera images are seen; None reads no camera."""

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigError: Names the field, the value and what is allowed.
        """
        object.__setattr__(self, "hidden_dims", tuple(self.hidden_dims))
        _require("hidden_dims", self.hidden_dims, "one or more widths >= 1", min(self.hidden_dims, default=0) >= 1)
        for name in ("ensemble_size", "utd_ratio", "batch_size"):
            _require(name, getattr(self, name), ">= 1", getattr(self, name) >= 1)
        in_ensemble = 1 <= self.subset_size <= self.ensemble_size
        _require("subset_size", self.subset_size, f"1..ensemble_size ({self.ensemble_size})", in_ensemble)
        for name in ("offline_fraction", "discount", "tau"):
            _require(name, getattr(self, name), "0..1", 0.0 <= getattr(self, name) <= 1.0)
        for name in ("adam_b1", "adam_b2"):
            _require(name, getattr(self, name), "0 <= value < 1", 0.0 <= getattr(self, name) < 1.0)
        positive = ("actor_lr", "critic_lr", "temperature_lr", "initial_temperature", "layer_norm_eps", "adam_eps")
        for name in positive:
            _require(name, getattr(self, name), "> 0 and finite", 0.0 < getattr(self, name) < float("inf"))
        if self.target_entropy is not None:
            finite = abs(self.target_entropy) < float("inf")
            _require("target_entropy", self.target_entropy, "finite, or None", finite)

    def return_bounds(self, reward_min: float, reward_max: float) -> tuple[float, float]:
        """Range in which Q settles when rewards lie in [reward_min, reward_max], without entropy backup.

        An untrained critic starts outside, so only a sustained excess means anything.
        """
        horizon = 1.0 / (1.0 - self.discount) if self.discount < 1.0 else float("inf")
        low, high = min(reward_min, 0.0), max(reward_max, 0.0)  # a terminated episode adds zeros
        return (low * horizon if low else 0.0), (high * horizon if high else 0.0)


def _require(field: str, found: object, allowed: str, fulfilled: bool) -> None:
    if not fulfilled:
        raise ConfigError(field=field, found=found, allowed=allowed)


METRICS = (
    *("critic_loss", "q_mean", "actor_loss", "entropy", "temperature_loss", "temperature"),
    *("target_q_min", "target_q_max"),
)
"""What `RLPD.advance` tells of a call, in this order."""


class RLPD:
    """Actor, critic ensemble, target critics and temperature, and their update.

    Args:
        config: Configuration.
        observation_size: Number of observation entries O.
        action_size: Number of action entries A.
        seed: Seed of the starting parameters and of all noise drawn by `update`.
        dtype: Type of all parameters.
        device: Where parameters live and batches are expected.
        compile: Compile the update where that works; it is the same function either way.

    Attributes:
        gradient_steps: Number of critic updates so far.
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
        compile: bool = True,  # noqa: A002 - the name of torch.compile
    ) -> None:
        self.config = config
        self.action_size = action_size
        self.target_entropy = -action_size / 2 if config.target_entropy is None else config.target_entropy
        self.dtype = dtype
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._actor_shapes, self._critic_shapes = self._shapes(observation_size, action_size)
        self._actor = initialise(self._actor_shapes, self.generator, dtype=dtype)
        self._critic = initialise(self._critic_shapes, self.generator, dtype=dtype)
        self._target = self._critic.clone()
        self.log_temperature = torch.tensor(config.initial_temperature, dtype=dtype, device=self.device).log()
        self._actor_adam = AdamState.zeros_like(self._actor)
        self._critic_adam = AdamState.zeros_like(self._critic)
        self._temperature_adam = AdamState.zeros_like(self.log_temperature)
        self.actor = views(self._actor, self._actor_shapes)
        self._acting = self._actor.clone()
        self._acting_views = views(self._acting, self._actor_shapes)
        self.gradient_steps = 0
        self.critic = views(self._critic, self._critic_shapes)
        self.target = views(self._target, self._critic_shapes)
        self._critic_step = compiled(self._critic_update, self.device) if compile else self._critic_update
        self._actor_step = compiled(self._actor_update, self.device) if compile else self._actor_update

    def update(self, batch: Batch) -> dict[str, float]:
        """Do `utd_ratio` critic updates, then one actor and one temperature update on the last minibatch.

        Args:
            batch: `utd_ratio` minibatches of equal size, one after the other: minibatch i is rows i*B .. (i+1)*B-1.

        Returns:
            Metrics; those of the critics are means (and for target_q extremes) over the minibatches.
        """
        metrics = self.advance(batch)
        self.publish()
        return named_metrics(metrics)

    def advance(self, batch: Batch) -> Tensor:
        """`update` that neither waits for the device nor changes the actor that acts (see `publish`).

        Returns:
            The metrics in the order of `METRICS`, on the device.
        """
        config, generator = self.config, self.generator
        batch = self._prepared(batch)
        rows = batch["rewards"].shape[0]
        size = (rows, self.action_size)
        noise = torch.randn(size, generator=generator, dtype=self.dtype, device=self.device)
        actor_size = (rows // config.utd_ratio, self.action_size)
        actor_noise = torch.randn(actor_size, generator=generator, dtype=self.dtype, device=self.device)
        subsets = draw_subsets(config, generator)
        trace = self.update_with_noise(batch, noise.view(config.utd_ratio, -1, self.action_size), subsets, actor_noise)
        target_q = trace.pop("target_q")
        metrics = {name: value.mean() for name, value in trace.items()}
        metrics |= {"target_q_min": target_q.amin(), "target_q_max": target_q.amax()}
        return torch.stack([metrics[name] for name in METRICS])

    def publish(self) -> None:
        """Let the actor as it is now act: `sample_action` and `deterministic_action` use a copy of its own.

        So actions can be chosen while the next update runs in another thread or on the device.
        """
        self._acting.copy_(self._actor)

    @torch.no_grad()
    def update_with_noise(
        self,
        batch: Batch,
        critic_noise: Tensor,
        subsets: Tensor,
        actor_noise: Tensor,
        after_critic_update: Callable[[int], None] | None = None,
    ) -> Metrics:
        """`update` as a function of everything that is random.

        Args:
            batch: As for `update`.
            critic_noise: Standard normal noise of the next actions, [U, B, A].
            subsets: Target members of each critic update, distinct within a row, [U, Z].
            actor_noise: Standard normal noise of the actor update, [B, A].
            after_critic_update: Called with i after critic update i.

        Returns:
            critic_loss and q_mean [U], target_q [U, B], actor_loss, entropy, temperature_loss, temperature; each
            evaluated before the step that it causes.
        """
        # The actor and the temperature are frozen until the critics are done: one pass serves all minibatches.
        actions, log_density = sample_squashed(*self._next_policy(batch), critic_noise.flatten(0, 1))
        rows = {**batch, "next_actions": actions, "entropy_bonus": -self.log_temperature.exp() * log_density}
        num_updates = subsets.shape[0]
        split = {name: value.chunk(num_updates) for name, value in rows.items()}
        minibatch: dict[str, Tensor] = {}
        traces = []
        corrections = bias_corrections(self.config, self._critic_adam, num_updates)
        for i, subset in enumerate(subsets):
            minibatch = {name: parts[i] for name, parts in split.items()}
            traces.append(self._critic_step(minibatch, subset, corrections[i]))
            if after_critic_update is not None:
                after_critic_update(i)
        trace = {name: torch.stack([entry[name] for entry in traces]) for name in traces[0]}
        self.gradient_steps += num_updates
        trace |= self._actor_step(minibatch, actor_noise, bias_corrections(self.config, self._actor_adam)[0])
        return trace | self._temperature_update(trace["entropy"])

    def _shapes(self, observation_size: int, action_size: int) -> tuple[Shapes, Shapes]:
        """Names and shapes of the actor's and of the critic's parameters."""
        config = self.config
        critic = critic_shapes(
            observation_size, action_size, config.hidden_dims, config.ensemble_size, layer_norm=config.layer_norm
        )
        return actor_shapes(observation_size, action_size, config.hidden_dims), critic

    def _prepared(self, batch: Batch) -> dict[str, Tensor]:
        """The batch as the update reads it, on the device."""
        return {name: value.to(self.device, self.dtype) for name, value in batch.items()}

    def _next_policy(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and raw log_std of the next actions of all minibatches."""
        return actor_forward(self.actor, batch["next_observations"])

    def _critic_update(self, batch: dict[str, Tensor], subset: Tensor, corrections: Tensor) -> Metrics:
        config = self.config
        target = views(self._target, self._critic_shapes)
        target_q = critic_target(config, target, batch, batch["next_actions"], batch["entropy_bonus"], subset)
        gradients, metrics = value_gradient(
            lambda critic: critic_loss(config, critic, batch, target_q), views(self._critic, self._critic_shapes)
        )
        adam_step(config, config.critic_lr, self._critic, flatten(gradients), self._critic_adam, corrections)
        self._target.lerp_(self._critic, config.tau)
        return metrics | {"target_q": target_q}

    def _actor_update(self, batch: dict[str, Tensor], noise: Tensor, corrections: Tensor) -> Metrics:
        config = self.config
        critic = views(self._critic, self._critic_shapes)
        temperature = self.log_temperature.exp()
        gradients, metrics = value_gradient(
            lambda actor: actor_loss(config, actor, batch, noise, critic, temperature),
            views(self._actor, self._actor_shapes),
        )
        adam_step(config, config.actor_lr, self._actor, flatten(gradients), self._actor_adam, corrections)
        return metrics

    def _temperature_update(self, entropy: Tensor) -> Metrics:
        # Outside the compiled actor update: torch 2.13 loses these scalars' in-place changes there.
        config = self.config
        loss, metrics = temperature_loss(self.log_temperature, entropy, self.target_entropy)
        # d loss / d log temperature = loss
        corrections = bias_corrections(config, self._temperature_adam)[0]
        adam_step(config, config.temperature_lr, self.log_temperature, loss, self._temperature_adam, corrections)
        return metrics

    @torch.inference_mode()
    def sample_action(self, observations: Tensor, generator: torch.Generator) -> Tensor:
        """Stochastic actions in [-1, 1], [B, A], for observations [B, O]; `generator` gives the noise."""
        mean, log_std = self._acting_policy(observations)
        noise = torch.randn(mean.shape, generator=generator, dtype=self.dtype, device=generator.device)
        return sample_squashed(mean, log_std, noise.to(self.device))[0]

    @torch.inference_mode()
    def deterministic_action(self, observations: Tensor) -> Tensor:
        """The squashed mean, in [-1, 1], [B, A], for observations [B, O]."""
        return self._acting_policy(observations)[0].tanh()

    def _acting_policy(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        return actor_forward(self._acting_views, observations.to(self.device, self.dtype))

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all that a resumed learner needs, as plain tensors by name (for `torch.save`, weights only)."""
        state = {name: tensor.clone() for name, tensor in self._tensors().items()}
        return state | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state of `state_dict`, made with a configuration of the same network sizes.

        Raises:
            ConfigError: A name is missing or unknown, or a shape differs; nothing was changed then.
        """
        own = self._tensors()
        for name in sorted(own.keys() ^ state.keys() ^ {"generator"}):
            raise ConfigError(field=name, found="missing" if name not in state else "unknown", allowed="state_dict()")
        for name, tensor in own.items():
            if state[name].shape != tensor.shape:
                raise ConfigError(field=name, found=tuple(state[name].shape), allowed=f"shape {tuple(tensor.shape)}")
        for name, tensor in own.items():
            tensor.copy_(state[name])
        self.generator.set_state(state["generator"].cpu())
        self.gradient_steps = int(state["adam/critic/count"])
        self.publish()

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"log_temperature": self.log_temperature}
        adams = {"actor": self._actor_adam, "critic": self._critic_adam, "temperature": self._temperature_adam}
        shapes = {"actor": self._actor_shapes, "critic": self._critic_shapes}
        for group, parameters in (("actor", self.actor), ("critic", self.critic), ("target", self.target)):
            tensors |= {f"{group}/{name}": parameter for name, parameter in parameters.items()}
        for group, adam in adams.items():
            for moment, flat in (("mu", adam.mu), ("nu", adam.nu)):
                named = views(flat, shapes[group]) if group in shapes else {"": flat}
                tensors |= {f"adam/{group}/{moment}/{name}".rstrip("/"): tensor for name, tensor in named.items()}
            tensors[f"adam/{group}/count"] = adam.count
        return tensors


def named_metrics(values: Tensor) -> dict[str, float]:
    """Metrics in the order of `METRICS`, by name; waits for the device."""
    return dict(zip(METRICS, values.tolist(), strict=True))


def draw_subsets(config: RLPDConfig, generator: torch.Generator) -> Tensor:
    """Draw the target members of each minibatch of one call, without replacement within a row, [U, Z]."""
    order = torch.rand(config.utd_ratio, config.ensemble_size, generator=generator, device=generator.device)
    return order.argsort(dim=1)[:, : config.subset_size]
