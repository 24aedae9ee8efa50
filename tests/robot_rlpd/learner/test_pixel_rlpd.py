"""The pixel learner against the same update written with torch.nn modules and torch.optim.Adam, in float64."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.adam import bias_corrections
from robot_rlpd.learner.encoders import PixelConfig, encoder_shapes, frame_bytes, images_of, output_size
from robot_rlpd.learner.networks import initialise, views
from robot_rlpd.learner.pixel_rlpd import PixelRLPD
from robot_rlpd.specs import ArraySpec
from tests.robot_rlpd.learner.cameras import PIXELS, TINY, seeing_contract

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACT = seeing_contract()
IMAGES = images_of(CONTRACT)
ROWS = TINY.utd_ratio * TINY.batch_size


class Sight(nn.Module):
    """Convolutions of each camera, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.cameras = nn.ModuleList()
        for spec in IMAGES:
            layers: list[nn.Module] = []
            width = spec.shape[2] * PIXELS.frame_stack
            for channels in PIXELS.channels:
                layers += [nn.Conv2d(width, channels, 3, stride=2), nn.ReLU()]
                width = channels
            self.cameras.append(nn.Sequential(*layers, nn.Flatten()))

    def forward(self, frames: Tensor) -> Tensor:
        features, start = [], 0
        for spec, net in zip(IMAGES, self.cameras, strict=True):
            height, width, channels = spec.shape
            image = frames[:, :, start : start + spec.size].reshape(-1, PIXELS.frame_stack, height, width, channels)
            start += spec.size
            image = torch.cat([image[:, k].permute(0, 3, 1, 2) for k in range(PIXELS.frame_stack)], dim=1)
            features.append(net(image.double() / 255))
        return torch.cat(features, 1)


class Own(nn.Module):
    """A network's own layer, fused with the state."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(features, PIXELS.latent_size), nn.LayerNorm(PIXELS.latent_size, eps=1e-6)

    def forward(self, state: Tensor, features: Tensor) -> Tensor:
        return torch.cat([state, self.norm(self.dense(features)).tanh()], 1)


def mlp(width: int, *, norm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for hidden in TINY.hidden_dims:
        layers += [nn.Linear(width, hidden), *([nn.LayerNorm(hidden, eps=1e-6)] if norm else []), nn.ReLU()]
        width = hidden
    return layers


class Critic(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.own, self.sight = Own(features), Sight()
        width = 4 + PIXELS.latent_size + 2
        self.members = nn.ModuleList(
            nn.Sequential(*mlp(width, norm=True), nn.Linear(TINY.hidden_dims[-1], 1)) for _ in range(TINY.ensemble_size)
        )

    def forward(self, state: Tensor, features: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([self.own(state, features), action], 1)
        return torch.stack([member(x)[:, 0] for member in self.members])


class Actor(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.own, self.trunk = Own(features), nn.Sequential(*mlp(4 + PIXELS.latent_size, norm=False))
        self.mean, self.log_std = (nn.Linear(TINY.hidden_dims[-1], 2) for _ in range(2))

    def forward(self, state: Tensor, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(self.own(state, features))
        log_std = self.log_std(x).clamp(-20, 2)
        raw = self.mean(x) + log_std.exp() * noise
        log_density = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        return raw.tanh(), (log_density - torch.log(1 - raw.tanh() ** 2)).sum(1)


def names_of(module: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Our name of each parameter, and whether ours is transposed."""
    for name, parameter in module.named_parameters():
        parts = name.split(".")
        if parts[0] == "sight":
            kind = "filters" if parts[-1] == "weight" else "bias"
            yield f"encoder/{IMAGES[int(parts[2])].name}/conv{int(parts[3]) // 2}/{kind}", parameter, False
        elif parts[0] == "own":
            names = {"dense.weight": "kernel", "dense.bias": "bias", "norm.weight": "scale", "norm.bias": "shift"}
            yield f"latent/{names['.'.join(parts[1:])]}", parameter, name.endswith("dense.weight")
        elif parts[0] in ("mean", "log_std"):
            kernel = parts[1] == "weight"
            yield f"{parts[0]}/{'kernel' if kernel else 'bias'}", parameter, kernel
        elif parts[0] == "trunk":
            kernel = parts[2] == "weight"
            yield f"dense{int(parts[1]) // 2}/{'kernel' if kernel else 'bias'}", parameter, kernel
        else:
            layer, place = divmod(int(parts[2]), 3)
            kernel = parts[3] == "weight"
            if layer == len(TINY.hidden_dims):
                yield f"{parts[1]}:out/{'kernel' if kernel else 'bias'}", parameter, kernel
            elif place == 1:
                yield f"{parts[1]}:ln{layer}/{'scale' if kernel else 'bias'}", parameter, False
            else:
                yield f"{parts[1]}:dense{layer}/{'kernel' if kernel else 'bias'}", parameter, kernel


def ours(parameters: dict[str, Tensor], name: str) -> Tensor:
    member, _, rest = name.rpartition(":")
    return parameters[rest][int(member)] if member else parameters[name]


@torch.no_grad()
def take_over(module: nn.Module, parameters: dict[str, Tensor]) -> None:
    for name, parameter, transposed in names_of(module):
        value = ours(parameters, name)
        parameter.copy_(value.T if transposed else value)


@torch.no_grad()
def largest_difference(module: nn.Module, parameters: dict[str, Tensor]) -> float:
    found = [
        float(((p.T if transposed else p) - ours(parameters, name)).abs().max())
        for name, p, transposed in names_of(module)
    ]
    assert len(found) > 10
    return max(found)


def learner() -> PixelRLPD:
    made = PixelRLPD(TINY, CONTRACT, seed=1, dtype=torch.float64)
    for flat in (made._critic, made._actor):  # biases and scales that matter
        flat.add_(0.1 * torch.randn(flat.shape, generator=made.generator, dtype=flat.dtype))
    made._target.copy_(made._critic + 0.05 * torch.randn(made._critic.shape, generator=made.generator))
    return made


def batch(generator: torch.Generator) -> dict[str, Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    size = (ROWS, PIXELS.frame_stack, frame_bytes(IMAGES))
    images = [torch.randint(0, 256, size, generator=generator, dtype=torch.uint8) for _ in range(2)]
    return {
        "observations": normal(ROWS, 4),
        "next_observations": normal(ROWS, 4),
        "actions": normal(ROWS, 2).tanh(),
        "rewards": normal(ROWS),
        "masks": (normal(ROWS) > -1).double(),
        "images": images[0],
        "next_images": images[1],
    }


def test_two_calls_agree_with_plain_modules() -> None:
    agent = learner()
    features = agent.critic["latent/kernel"].shape[0]
    critic, actor = Critic(features).double(), Actor(features).double()
    take_over(critic, agent.critic)
    take_over(actor, agent.actor)
    target = copy.deepcopy(critic)
    take_over(target, agent.target)
    log_temperature = nn.Parameter(agent.log_temperature.clone())
    lrs = ((critic, TINY.critic_lr), (actor, TINY.actor_lr))
    adams = [torch.optim.Adam(module.parameters(), lr, eps=1e-8) for module, lr in lrs]
    adams.append(torch.optim.Adam([log_temperature], TINY.temperature_lr, eps=1e-8))
    generator = torch.Generator().manual_seed(2)
    for _ in range(2):
        rows = batch(generator)
        noise = torch.randn(TINY.utd_ratio, TINY.batch_size, 2, generator=generator, dtype=torch.float64)
        last_noise = torch.randn(TINY.batch_size, 2, generator=generator, dtype=torch.float64)
        subsets = torch.tensor([[0, 2], [1, 2]])
        agent.update_with_noise(rows, noise, subsets, last_noise)

        with torch.no_grad():
            next_actions, _ = actor(rows["next_observations"], critic.sight(rows["next_images"]), noise.flatten(0, 1))
        for i, part in enumerate(torch.arange(ROWS).chunk(TINY.utd_ratio)):
            one = {name: value[part] for name, value in rows.items()}
            with torch.no_grad():
                q = target(one["next_observations"], target.sight(one["next_images"]), next_actions[part])
                y = one["rewards"] + TINY.discount * one["masks"] * q[subsets[i]].amin(0)
            loss = (critic(one["observations"], critic.sight(one["images"]), one["actions"]) - y).square().mean()
            adams[0].zero_grad()
            loss.backward()
            adams[0].step()
            with torch.no_grad():
                for old, new in zip(target.parameters(), critic.parameters(), strict=True):
                    old.copy_((1 - TINY.tau) * old + TINY.tau * new)
        seen = critic.sight(one["images"]).detach()
        actions, log_density = actor(one["observations"], seen, last_noise)
        q = critic(one["observations"], seen, actions).mean(0)
        adams[1].zero_grad()
        (log_temperature.exp().detach() * log_density - q).mean().backward()
        adams[1].step()
        adams[2].zero_grad()
        (log_temperature.exp() * (-log_density.detach().mean() + 1.0)).backward()
        adams[2].step()
        for module, parameters in ((critic, agent.critic), (target, agent.target), (actor, agent.actor)):
            assert largest_difference(module, parameters) < 1e-10
        assert abs(float(log_temperature.detach() - agent.log_temperature)) < 1e-12


def test_the_actor_update_leaves_the_encoder_alone_and_the_critic_update_moves_it() -> None:
    agent = learner()
    generator = torch.Generator().manual_seed(3)
    rows = {name: value[: TINY.batch_size] for name, value in batch(generator).items()}
    before = agent._encoder.clone()
    noise = torch.randn(TINY.batch_size, 2, generator=generator, dtype=torch.float64)
    agent._actor_update(rows, noise, bias_corrections(agent.config, agent._actor_adam)[0])
    assert torch.equal(agent._encoder, before)
    values = {**rows, "next_actions": rows["actions"], "entropy_bonus": rows["rewards"]}
    agent._critic_update(values, torch.tensor([0]), bias_corrections(agent.config, agent._critic_adam)[0])
    for camera in IMAGES:
        name = f"encoder/{camera.name}/conv0/filters"
        own = views(before, encoder_shapes(IMAGES, PIXELS))
        assert not torch.equal(agent.critic[name], own[name])


def test_both_observations_are_shifted_independently() -> None:
    agent = learner()
    frames = torch.randint(0, 256, (50, 4, frame_bytes(IMAGES)), dtype=torch.uint8)
    still = frames[:, :1].expand_as(frames)
    plain = {"frames": still, "rewards": torch.zeros(50)}
    prepared = agent._prepared(plain)
    assert prepared["images"].shape == prepared["next_images"].shape == (50, 3, frame_bytes(IMAGES))
    assert prepared["images"].dtype == torch.uint8
    assert not torch.equal(prepared["images"], prepared["next_images"])
    assert "frames" not in prepared


def test_what_acts_is_the_encoder_of_the_last_publish() -> None:
    agent = learner()
    agent.publish()
    seen = torch.rand(1, 4 + 3 * frame_bytes(IMAGES), dtype=torch.float64)
    seen[:, 4:] *= 255
    before = agent.deterministic_action(seen)
    agent._encoder.mul_(1.5)
    assert torch.equal(agent.deterministic_action(seen), before)
    agent.publish()
    assert not torch.equal(agent.deterministic_action(seen), before)


def test_the_papers_encoder_makes_2304_features_of_64_pixels() -> None:
    spec = ArraySpec(name="camera", shape=(64, 64, 3), dtype="uint8", is_image=True)
    assert output_size(spec, PixelConfig()) == (3, 3)
    shapes = encoder_shapes([spec], PixelConfig())
    assert shapes["encoder/camera/conv0/filters"] == (32, 9, 3, 3)
    flat = views(initialise(shapes, torch.Generator().manual_seed(0)), shapes)
    for name, value in flat.items():
        if name.endswith("filters"):
            bound = math.sqrt(6 / (9 * (value.shape[0] + value.shape[1])))
            assert 0.95 * bound < float(value.abs().max()) <= bound
        else:
            assert not value.any()


def test_an_image_too_small_for_the_convolutions_is_refused() -> None:
    spec = ArraySpec(name="camera", shape=(30, 64, 3), dtype="uint8", is_image=True)
    with pytest.raises(ConfigError, match=r"observation.camera.*64x30 pixels; allowed: 31 or more"):
        encoder_shapes([spec], PixelConfig())


@pytest.mark.parametrize("wrong", [{"channels": ()}, {"channels": (8, 0)}, {"frame_stack": 0}, {"shift_pad": -1}])
def test_values_out_of_range_are_refused(wrong: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        PixelConfig(**wrong)  # type: ignore[arg-type]
