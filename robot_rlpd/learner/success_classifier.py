"""A small network that tells from one observation whether the task is solved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.augmentation import random_shifts
from robot_rlpd.learner.encoders import (
    PixelConfig,
    encode,
    encoder_shapes,
    fused,
    images_of,
    latent_shapes,
    split_frames,
    state_contract,
)
from robot_rlpd.learner.networks import Parameters, Shapes, initialise, views
from robot_rlpd.progress import ProgressLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from robot_rlpd.learner.success_frames import Frames
    from robot_rlpd.specs import PolicyContract

SMOOTHING = 0.05
"""Part of a label that goes to the other side: probabilities stay where numbers of four bytes tell them apart."""
CHUNK = 256
"""Observations that are looked at together once training is over."""
SHOW_EVERY = 50


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """How a success classifier is trained."""

    hidden_dims: tuple[int, ...] = (64, 64)
    """Width of each hidden layer behind state and encoder; at least one, each >= 1."""
    pixels: PixelConfig = field(default_factory=lambda: PixelConfig(channels=(16, 32, 32), frame_stack=1))
    """How cameras are seen, one frame at a time."""
    gradient_steps: int = 1500
    """Updates, >= 1."""
    batch_size: int = 64
    """Observations per minibatch, half of them solved, >= 2."""
    learning_rate: float = 1e-3
    """Adam step size, > 0."""
    weight_decay: float = 1e-2
    """Pull of all parameters towards zero per unit of the step size, >= 0."""
    seed: int = 0
    """Decides everything random, >= 0."""

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigError: Names the field, the value and what is allowed.
        """
        object.__setattr__(self, "hidden_dims", tuple(self.hidden_dims))
        for name, least in (("gradient_steps", 1), ("batch_size", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(field=name, found=getattr(self, name), allowed=f">= {least}")
        if min(self.hidden_dims, default=0) < 1:
            raise ConfigError(field="hidden_dims", found=self.hidden_dims, allowed="one or more widths >= 1")
        if not 0.0 < self.learning_rate < float("inf") or not 0.0 <= self.weight_decay < float("inf"):
            raise ConfigError(field="learning_rate", found=self.learning_rate, allowed="> 0, weight_decay >= 0")


class Classifier:
    """Parameters and normaliser of the network.

    Args:
        contract: What it reads, images last.
        config: How it is made and trained.
        frames: Observations that it will learn from; mean and scale of the state are taken from them.

    Attributes:
        parameters: By name, for whoever writes them into a file.
        normalizer: Mean and scale of the flattened state, float32 `(S,)` each.
    """

    def __init__(self, contract: PolicyContract, config: ClassifierConfig, frames: Frames) -> None:
        self.contract, self.config = contract, config
        self._images = images_of(contract)
        self._generator = torch.Generator().manual_seed(config.seed)
        state = self._state(frames)
        std = state.std(axis=0)
        self.normalizer = state.mean(axis=0), np.where(std > 1e-6, std, 1.0).astype(np.float32)
        self._shapes = self._network_shapes(state.shape[1])
        self._flat = initialise(self._shapes, self._generator)
        self.parameters = views(self._flat, self._shapes)

    def fit(self, frames: Frames, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Train on balanced minibatches, for solved observations are few; on one torch thread where there is no camera.

        Args:
            frames: To learn from, solved and unsolved ones.
            should_stop: Ends early.
        """
        if not self._images:
            torch.set_num_threads(1)  # so small a network only waits for a second one
        sides = [torch.from_numpy(np.flatnonzero(frames.solved == side)) for side in (True, False)]
        state, images = self._inputs(frames)
        labels = torch.from_numpy(frames.solved.astype(np.float32)) * (1.0 - SMOOTHING) + SMOOTHING / 2.0
        weights = self._flat.requires_grad_(True)
        optimizer = torch.optim.AdamW([weights], self.config.learning_rate, weight_decay=self.config.weight_decay)
        half = self.config.batch_size // 2
        progress = ProgressLine(self.config.gradient_steps)
        for step in range(self.config.gradient_steps):
            if should_stop():
                break
            rows = torch.cat([side[self._drawn(len(side), half)] for side in sides])
            logits = self._logits(views(weights, self._shapes), state[rows], self._shifted(images[rows]))
            loss = F.binary_cross_entropy_with_logits(logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if (step + 1) % SHOW_EVERY == 0:
                progress.update(step + 1, f"loss {loss.item():.4f}")
        progress.close()
        self._flat = weights.detach()
        self.parameters = views(self._flat, self._shapes)

    @torch.inference_mode()
    def probabilities(self, frames: Frames) -> NDArray[np.float64]:
        """That the task is solved, `(N,)`."""
        state, images = self._inputs(frames)
        parts = [
            self._logits(self.parameters, state[start : start + CHUNK], images[start : start + CHUNK])
            for start in range(0, len(frames), CHUNK)
        ]
        return np.asarray(torch.cat(parts).double().sigmoid().numpy(), np.float64)

    def _network_shapes(self, state_size: int) -> Shapes:
        config, shapes = self.config, Shapes()
        width = state_size
        if self._images:
            shapes |= encoder_shapes(self._images, config.pixels) | latent_shapes(self._images, config.pixels)
            width += config.pixels.latent_size
        for i, hidden in enumerate(config.hidden_dims):
            shapes |= {f"dense{i}/kernel": (width, hidden), f"dense{i}/bias": (hidden,)}
            width = hidden
        return shapes | {"out/kernel": (width, 1), "out/bias": (1,)}

    def _state(self, frames: Frames) -> NDArray[np.float32]:
        """Flattened fields without images, `(N, S)`."""
        if len(self._images) == len(self.contract.observation):
            return np.zeros((len(frames), 0), np.float32)
        return state_contract(self.contract).flatten(frames.columns).reshape(len(frames), -1)

    def _inputs(self, frames: Frames) -> tuple[Tensor, Tensor]:
        mean, scale = self.normalizer
        images = [frames.columns[spec.name].reshape(len(frames), 1, -1) for spec in self._images]
        seen = np.concatenate(images, axis=2) if images else np.zeros((len(frames), 1, 0), np.uint8)
        return torch.from_numpy((self._state(frames) - mean) / scale), torch.from_numpy(seen)

    def _shifted(self, images: Tensor) -> Tensor:
        pad = self.config.pixels.shift_pad
        return random_shifts(images, self._images, pad, self._generator) if self._images else images

    def _drawn(self, count: int, size: int) -> Tensor:
        return torch.randint(count, (size,), generator=self._generator)

    def _logits(self, parameters: Parameters, state: Tensor, images: Tensor) -> Tensor:
        """`(B,)` from the normalised state `(B, S)` and frames `(B, 1, bytes)`."""
        x = state
        if self._images:
            x = fused(parameters, state, encode(parameters, split_frames(images, self._images)))
        for i in range(len(self.config.hidden_dims)):
            x = torch.relu(torch.addmm(parameters[f"dense{i}/bias"], x, parameters[f"dense{i}/kernel"]))
        return torch.addmm(parameters["out/bias"], x, parameters["out/kernel"])[:, 0]


def as_arrays(parameters: Parameters) -> dict[str, NDArray[Any]]:
    """Parameters as numpy arrays."""
    return {name: value.detach().numpy() for name, value in parameters.items()}
