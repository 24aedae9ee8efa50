"""Camera images to features: convolutions shared by all networks, then a small normalised layer of each network's own.

As in the pixel runs of RLPD (Ball et al. 2023) after DrQ (Yarats et al. 2021): a stack of frames is one image with more
channels, 3x3 convolutions of stride 2 without padding follow, and every network has its own Dense, LayerNorm and tanh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.networks import Parameters, Shapes, actor_forward, actor_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from robot_rlpd.specs import ArraySpec, PolicyContract

KERNEL, STRIDE = 3, 2
EPS = 1e-6
"""Added to the variance inside the normalisation's square root."""
ENCODER = "encoder/"
"""Prefix of the parameters that all networks share and the critic loss alone trains."""
LATENT = "latent/"
"""Prefix of a network's own layer behind the encoder."""


@dataclass(frozen=True, kw_only=True)
class PixelConfig:
    """How images are seen; the defaults are the paper's."""

    channels: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of each convolution; at least one, each >= 1."""
    latent_size: int = 50
    """Width of each network's own layer behind the convolutions, >= 1."""
    frame_stack: int = 3
    """Newest frames that are seen together, >= 1; an episode's first frame stands in for those before it."""
    shift_pad: int = 4
    """Largest random shift of an image while training, in pixels to either side, >= 0."""

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigError: Names the field, the value and what is allowed.
        """
        object.__setattr__(self, "channels", tuple(self.channels))
        if min(self.channels, default=0) < 1:
            raise ConfigError(field="encoder_channels", found=self.channels, allowed="one or more widths >= 1")
        for name, least in (("latent_size", 1), ("frame_stack", 1), ("shift_pad", 0)):
            if getattr(self, name) < least:
                raise ConfigError(field=name, found=getattr(self, name), allowed=f">= {least}")


def images_of(contract: PolicyContract) -> tuple[ArraySpec, ...]:
    """The cameras that a policy reads."""
    return tuple(spec for spec in contract.observation if spec.is_image)


def state_size(contract: PolicyContract) -> int:
    """Number of entries of the fields that are no images."""
    return contract.observation_size - frame_bytes(images_of(contract))


def frame_bytes(images: Sequence[ArraySpec]) -> int:
    """Size of one frame of all cameras [byte]."""
    return sum(spec.size for spec in images)


def encoder_shapes(images: Sequence[ArraySpec], config: PixelConfig) -> Shapes:
    """Names and shapes of the convolutions, for each camera its own.

    Raises:
        ConfigError: An image is too small for so many convolutions.
    """
    shapes: Shapes = {}
    for spec in images:
        output_size(spec, config)
        width = spec.shape[2] * config.frame_stack
        for i, channels in enumerate(config.channels):
            name = f"{ENCODER}{spec.name}/conv{i}"
            shapes |= {f"{name}/filters": (channels, width, KERNEL, KERNEL), f"{name}/bias": (channels,)}
            width = channels
    return shapes


def latent_shapes(images: Sequence[ArraySpec], config: PixelConfig) -> Shapes:
    """Names and shapes of a network's own layer behind the encoder."""
    features = sum(config.channels[-1] * height * width for height, width in (output_size(s, config) for s in images))
    size = config.latent_size
    shapes: Shapes = {f"{LATENT}kernel": (features, size), f"{LATENT}bias": (size,)}
    return shapes | {f"{LATENT}scale": (size,), f"{LATENT}shift": (size,)}


def output_size(spec: ArraySpec, config: PixelConfig) -> tuple[int, int]:
    """Height and width behind the last convolution."""
    height, width = spec.shape[:2]
    for _ in config.channels:
        height, width = ((side - KERNEL) // STRIDE + 1 for side in (height, width))
        if min(height, width) < 1:
            raise ConfigError(
                f"too small for {len(config.channels)} convolutions",
                field=f"observation.{spec.name}",
                found=f"{spec.shape[1]}x{spec.shape[0]} pixels",
                allowed=f"{2 ** (len(config.channels) + 1) - 1} or more",
                hint="a larger image, or fewer --encoder-channels",
            )
    return height, width


def layer_sizes(spec: ArraySpec, config: PixelConfig) -> list[int]:
    """Entries of one stack of a camera, and of what each convolution makes of it."""
    sizes = [config.frame_stack * spec.size]
    for i, channels in enumerate(config.channels):
        height, width = output_size(spec, replace(config, channels=config.channels[: i + 1]))
        sizes.append(channels * height * width)
    return sizes


def split_frames(frames: Tensor, images: Sequence[ArraySpec]) -> dict[str, Tensor]:
    """Name the cameras in frames [..., frame bytes]: each [..., H, W, C]."""
    parts = torch.split(frames, [spec.size for spec in images], dim=-1)
    return {spec.name: part.reshape(*part.shape[:-1], *spec.shape) for spec, part in zip(images, parts, strict=True)}


def encode(parameters: Parameters, stacks: Mapping[str, Tensor]) -> Tensor:
    """Features [B, F] of stacks of frames, each camera [B, K, H, W, C] in 0..255, the oldest frame first."""
    features = []
    for camera, stack in stacks.items():
        x = stack.permute(0, 1, 4, 2, 3).flatten(1, 2).to(next(iter(parameters.values())).dtype) / 255.0
        i = 0
        while (name := f"{ENCODER}{camera}/conv{i}") + "/filters" in parameters:
            x = torch.relu(F.conv2d(x, parameters[f"{name}/filters"], parameters[f"{name}/bias"], stride=STRIDE))
            i += 1
        features.append(x.flatten(1))
    return torch.cat(features, dim=1)


def fused(parameters: Parameters, state: Tensor, features: Tensor) -> Tensor:
    """What a network sees [B, S + L]: the state [B, S], then its own view of the features [B, F]."""
    x = torch.addmm(parameters[f"{LATENT}bias"], features, parameters[f"{LATENT}kernel"])
    x = F.layer_norm(x, x.shape[-1:], parameters[f"{LATENT}scale"], parameters[f"{LATENT}shift"], eps=EPS)
    return torch.cat([state, x.tanh()], dim=1)


def heads(parameters: Parameters) -> Parameters:
    """The parameters of a network without those in front of it."""
    return {name: value for name, value in parameters.items() if not name.startswith((ENCODER, LATENT))}


def policy_shapes(contract: PolicyContract, hidden_dims: Sequence[int], config: PixelConfig | None) -> Shapes:
    """Names and shapes of all that it takes to act: the actor, and with cameras the encoder."""
    actions = contract.action.size
    if config is None:
        return actor_shapes(contract.observation_size, actions, hidden_dims)
    images = images_of(contract)
    width = state_size(contract) + config.latent_size
    own = actor_shapes(width, actions, hidden_dims) | latent_shapes(images, config)
    return own | encoder_shapes(images, config)


def policy_forward(
    contract: PolicyContract, config: PixelConfig | None, parameters: Parameters, observations: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and raw log_std [B, A] of the policy whose parameters `policy_shapes` names.

    Args:
        contract: What is read; images come last.
        config: None without cameras.
        parameters: By name.
        observations: [B, O], with cameras the state and then K frames, the oldest first, each of all cameras.
    """
    if config is None:
        return actor_forward(parameters, observations)
    images = images_of(contract)
    state, frames = torch.split(observations, [state_size(contract), config.frame_stack * frame_bytes(images)], dim=1)
    stacks = split_frames(frames.reshape(len(frames), config.frame_stack, -1), images)
    seen = fused(parameters, state, encode(parameters, stacks))
    return actor_forward(heads(parameters), seen)


def state_contract(contract: PolicyContract) -> PolicyContract:
    """The contract without its cameras."""
    return replace(contract, observation=tuple(spec for spec in contract.observation if not spec.is_image))
