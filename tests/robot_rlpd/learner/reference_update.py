"""One RLPD call, slowly and one thing at a time: an independent statement of what the fast update has to equal.

Written from the paper (Ball et al. 2023; signs and weights as in its authors' code, not as printed in algorithm 1) and
from the conventions of the recorded updates. It shares nothing with the learner but the names of parameters and of
configuration fields: each critic is a network of its own in a Python loop, normalisation, density, Adam and target
average are written out, nothing is flattened, batched over members or computed ahead.

Each method is one statement of the algorithm, so that a test makes one known mistake by overriding one method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from robot_rlpd.learner.rlpd import RLPD, RLPDConfig

Named = dict[str, Tensor]


class Reference:
    """A learner's state and the update of it, in float64.

    Args:
        config: Configuration.
        state: As from `RLPD.state_dict`; copied.
    """

    def __init__(self, config: RLPDConfig, state: Mapping[str, Tensor]) -> None:
        self.config = config
        self.state = {name: tensor.clone() for name, tensor in state.items() if name != "generator"}

    def after(self, inputs: Inputs) -> Named:
        """Do one call; the state after it and its trace, by name."""
        trace = self.call(inputs)
        return {**self.state, **trace}

    def call(self, inputs: Inputs) -> Named:
        """All critic updates, then one of the actor and one of the temperature; the trace as the learner returns it."""
        minibatches = inputs.minibatches()
        steps = []
        for minibatch, noise, subset in zip(minibatches, inputs.critic_noise, inputs.subsets, strict=True):
            steps.append(self.critic_update(minibatch, noise, subset.tolist()))
        trace = {name: torch.stack([step[name] for step in steps]) for name in steps[0]}
        trace |= self.actor_update(minibatches[-1], inputs.actor_noise)
        return trace | self.temperature_update(trace["entropy"])

    # Critic

    def critic_update(self, batch: Named, noise: Tensor, subset: Sequence[int]) -> Named:
        """One step of every member on one minibatch, then the target average."""
        target_q = self.target_q(batch, noise, subset)
        values, losses, gradients = [], [], []
        for critic in self.members("critic"):
            for parameter in critic.values():
                parameter.requires_grad_()
            q = self.value(critic, batch["observations"], batch["actions"])
            loss = self.member_loss(q, target_q)
            gradients.append(dict(zip(critic, torch.autograd.grad(loss, list(critic.values())), strict=True)))
            values.append(q.detach())
            losses.append(loss.detach())
        stacked = {name: torch.stack([gradient[name] for gradient in gradients]) for name in gradients[0]}
        self.adam("critic", stacked, self.config.critic_lr)
        self.average_targets()
        return {"critic_loss": torch.stack(losses).sum(), "q_mean": torch.stack(values).mean(), "target_q": target_q}

    def target_q(self, batch: Named, noise: Tensor, subset: Sequence[int]) -> Tensor:
        """y = r + discount * mask * (the subset's smallest target value [+ entropy term])."""
        with torch.no_grad():
            actions, log_density = self.sample(self.actor(), batch["next_observations"], noise)
            values = [self.value(member, batch["next_observations"], actions) for member in self.members("target")]
            following = self.smallest([values[member] for member in subset])
            if self.config.backup_entropy:
                following = following + self.entropy_term(log_density)
            return batch["rewards"] + self.config.discount * batch["masks"] * following

    def smallest(self, values: list[Tensor]) -> Tensor:
        """Entry by entry, the smallest of the values of the members of a subset."""
        return torch.stack(values).min(dim=0).values

    def entropy_term(self, log_density: Tensor) -> Tensor:
        """What entropy backup adds to the next value: unlikely actions are worth more."""
        return -self.temperature() * log_density

    def member_loss(self, q: Tensor, target_q: Tensor) -> Tensor:
        """One member's part of the mean over members and rows of (Q - y)^2."""
        return ((q - target_q) ** 2).sum() / (self.config.ensemble_size * len(q))

    def average_targets(self) -> None:
        """target = (1 - tau) * target + tau * critic, with the critic after its step."""
        tau = self.config.tau
        for name in self.names("critic"):
            old, new = self.state[f"target/{name}"], self.state[f"critic/{name}"]
            self.state[f"target/{name}"] = (1.0 - tau) * old + tau * new

    # Actor and temperature

    def actor_update(self, batch: Named, noise: Tensor) -> Named:
        """One step of the actor: mean of temperature * log density - mean of all online critics."""
        actor = self.actor()
        for parameter in actor.values():
            parameter.requires_grad_()
        actions, log_density = self.sample(actor, batch["observations"], noise)
        values = [self.value(member, batch["observations"], actions) for member in self.actors_critics()]
        loss = (self.temperature() * log_density - self.actors_value(values)).mean()
        gradients = dict(zip(actor, torch.autograd.grad(loss, list(actor.values())), strict=True))
        self.adam("actor", gradients, self.config.actor_lr)
        return {"actor_loss": loss.detach(), "entropy": -log_density.detach().mean()}

    def actors_critics(self) -> list[Named]:
        """Who judges the actor's actions."""
        return self.members("critic")

    def actors_value(self, values: list[Tensor]) -> Tensor:
        """What the actor maximises, [B]."""
        return torch.stack(values).mean(dim=0)

    def temperature_update(self, entropy: Tensor) -> Named:
        """One step of log temperature; its gradient is the loss itself."""
        temperature = self.temperature()
        loss = temperature * (entropy - self.target_entropy())
        self.adam("temperature", {"": loss}, self.config.temperature_lr)
        return {"temperature_loss": loss, "temperature": temperature}

    def temperature(self) -> Tensor:
        """The present temperature."""
        return torch.exp(self.state["log_temperature"])

    def target_entropy(self) -> float:
        """As given, or minus half the number of action entries."""
        given = self.config.target_entropy
        return -0.5 * len(self.state["actor/mean/bias"]) if given is None else given

    # Networks

    def sample(self, actor: Named, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions tanh(mean + std * noise) and their log density, by the change of variables from the noise."""
        x = observations
        for i in range(len(self.config.hidden_dims)):
            x = relu(x @ actor[f"dense{i}/kernel"] + actor[f"dense{i}/bias"])
        mean = x @ actor["mean/kernel"] + actor["mean/bias"]
        raw = x @ actor["log_std/kernel"] + actor["log_std/bias"]
        low, high = torch.full_like(raw, -20.0), torch.full_like(raw, 2.0)
        log_std = torch.where(raw < low, low, torch.where(raw > high, high, raw))
        unsquashed = mean + torch.exp(log_std) * noise
        log_derivative = log_std - 2.0 * torch.log(torch.cosh(unsquashed))  # d tanh(u) / du = 1 / cosh(u)^2
        log_normal = -(noise**2) / 2.0 - math.log(math.sqrt(2.0 * math.pi))
        return torch.tanh(unsquashed), (log_normal - log_derivative).sum(dim=1)

    def value(self, critic: Named, observations: Tensor, actions: Tensor) -> Tensor:
        """One member's Q, [B]: Dense, LayerNorm, ReLU for every hidden layer, then one linear output."""
        x = torch.cat([observations, actions], dim=1)
        for i in range(len(self.config.hidden_dims)):
            x = x @ critic[f"dense{i}/kernel"] + critic[f"dense{i}/bias"]
            if self.config.layer_norm:
                x = self.layer_norm(x) * critic[f"ln{i}/scale"] + critic[f"ln{i}/bias"]
            x = relu(x)
        return (x @ critic["out/kernel"] + critic["out/bias"])[:, 0]

    def layer_norm(self, x: Tensor) -> Tensor:
        """Each row minus its mean, divided by the root of its biased variance plus epsilon."""
        width = x.shape[1]
        centred = x - x.sum(dim=1, keepdim=True) / width
        variance = (centred**2).sum(dim=1, keepdim=True) / width
        return centred / torch.sqrt(variance + self.config.layer_norm_eps)

    # State

    def names(self, group: str) -> list[str]:
        """Names of the parameters of a group; the temperature's is empty."""
        return [name.removeprefix(f"{group}/") for name in self.state if name.startswith(f"{group}/")] or [""]

    def actor(self) -> Named:
        """A copy of the actor's parameters."""
        return {name: self.state[f"actor/{name}"].clone() for name in self.names("actor")}

    def members(self, group: str) -> list[Named]:
        """A copy of each member's own parameters."""
        names, count = self.names(group), self.config.ensemble_size
        return [{name: self.state[f"{group}/{name}"][member].clone() for name in names} for member in range(count)]

    def adam(self, group: str, gradients: Named, lr: float) -> None:
        """One step of Kingma and Ba's algorithm 1 for every parameter of a group."""
        b1, b2 = self.config.adam_b1, self.config.adam_b2
        count = int(self.state[f"adam/{group}/count"]) + 1
        self.state[f"adam/{group}/count"] = torch.tensor(count)
        for name, g in gradients.items():
            of_parameter = "log_temperature" if group == "temperature" else f"{group}/{name}"
            of_m, of_v = (f"adam/{group}/{moment}/{name}".rstrip("/") for moment in ("mu", "nu"))
            m = b1 * self.state[of_m] + (1.0 - b1) * g
            v = b2 * self.state[of_v] + (1.0 - b2) * g * g
            step = lr * self.adam_direction(m / (1.0 - b1**count), v / (1.0 - b2**count))
            self.state |= {of_m: m, of_v: v, of_parameter: self.state[of_parameter] - step}

    def adam_direction(self, m_hat: Tensor, v_hat: Tensor) -> Tensor:
        """Epsilon is added after the bias correction, outside the root."""
        return m_hat / (torch.sqrt(v_hat) + self.config.adam_eps)


def relu(x: Tensor) -> Tensor:
    """The positive part."""
    return torch.where(x > 0.0, x, torch.zeros_like(x))


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything that one call is given: U minibatches one after the other, and what is random."""

    batch: Named
    critic_noise: Tensor
    subsets: Tensor
    actor_noise: Tensor

    @classmethod
    def draw(cls, config: RLPDConfig, observation_size: int, action_size: int, seed: int) -> Inputs:
        """Random inputs in float64; about a third of the masks are 0."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        updates, rows = config.utd_ratio, config.utd_ratio * config.batch_size
        orders = [torch.randperm(config.ensemble_size, generator=generator) for _ in range(updates)]
        return cls(
            batch={
                "observations": normal(rows, observation_size),
                "actions": torch.tanh(normal(rows, action_size)),
                "rewards": normal(rows),
                "masks": (torch.rand(rows, generator=generator) < 0.67).double(),
                "next_observations": normal(rows, observation_size),
            },
            critic_noise=normal(updates, config.batch_size, action_size),
            subsets=torch.stack([order[: config.subset_size] for order in orders]),
            actor_noise=normal(config.batch_size, action_size),
        )

    def minibatches(self) -> list[Named]:
        """Minibatch i is rows i*B .. (i+1)*B-1."""
        size, count = len(self.actor_noise), len(self.subsets)
        return [{name: rows[i * size : (i + 1) * size] for name, rows in self.batch.items()} for i in range(count)]

    def to(self, dtype: torch.dtype) -> Inputs:
        """The same in another precision."""
        batch = {name: rows.to(dtype) for name, rows in self.batch.items()}
        critic_noise, actor_noise = self.critic_noise.to(dtype), self.actor_noise.to(dtype)
        return Inputs(batch=batch, critic_noise=critic_noise, subsets=self.subsets, actor_noise=actor_noise)


def scrambled(state: Mapping[str, Tensor], seed: int, *, moments: bool = False) -> Named:
    """A state with no parameter where it starts: scales off 1, biases off 0, targets apart from critics.

    Args:
        state: As from `RLPD.state_dict`.
        seed: Of the noise.
        moments: Whether Adam's moments and counts are those of a learner in the middle of its training, too.
    """
    generator = torch.Generator().manual_seed(seed)
    moved = dict(state)
    for name, tensor in state.items():
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if name.startswith(("actor/", "critic/", "target/")):
            moved[name] = tensor + 0.1 * noise
        elif moments and "/mu" in name:
            moved[name] = 0.02 * noise
        elif moments and "/nu" in name:
            moved[name] = (0.02 * noise) ** 2 + 1e-6
        elif moments and name.endswith("/count"):
            moved[name] = torch.full_like(tensor, 17)
    return moved


def learner_after(learner: RLPD, inputs: Inputs) -> Named:
    """Do one call of the learner under test; the state after it and its trace, by name."""
    trace = learner.update_with_noise(inputs.batch, inputs.critic_noise, inputs.subsets, inputs.actor_noise)
    return {**learner.state_dict(), **trace}


def largest_differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest absolute difference by name of everything expected; infinite where it is missing, misshaped or NaN."""
    worst = {}
    for name, tensor in expected.items():
        other = found.get(name, torch.empty(0))
        largest = float((other - tensor).abs().max()) if other.shape == tensor.shape else math.inf
        worst[name] = math.inf if math.isnan(largest) else largest
    return worst
