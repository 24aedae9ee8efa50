"""Actor and critic networks as pure functions over named parameters.

All parameters of a network live in one flat vector, and every named parameter is a view of it. Adam and the target
average are therefore a few operations on one vector, and the critic's ensemble is one batched product per layer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Parameters = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


def actor_shapes(observation_size: int, action_size: int, hidden_dims: Sequence[int]) -> Shapes:
    """Names and shapes of an actor: hidden layers, then one linear head each for mean and log_std.

    Args:
        observation_size: Number of observation entries.
        action_size: Number of action entries.
        hidden_dims: Width of each hidden layer.
    """
    shapes: Shapes = {}
    width = observation_size
    for i, hidden in enumerate(hidden_dims):
        shapes |= {f"dense{i}/kernel": (width, hidden), f"dense{i}/bias": (hidden,)}
        width = hidden
    shapes |= {"mean/kernel": (width, action_size), "log_std/kernel": (width, action_size)}
    return shapes | {"mean/bias": (action_size,), "log_std/bias": (action_size,)}


def critic_shapes(
    observation_size: int, action_size: int, hidden_dims: Sequence[int], ensemble_size: int, *, layer_norm: bool = True
) -> Shapes:
    """Names and shapes of a critic ensemble; the first axis of every parameter is the member.

    Args:
        observation_size: Number of observation entries.
        action_size: Number of action entries.
        hidden_dims: Width of each hidden layer.
        ensemble_size: Number of members E.
        layer_norm: Whether every hidden layer is normalised; each member has its own scale and bias.
    """
    shapes: Shapes = {}
    width = observation_size + action_size
    for i, hidden in enumerate(hidden_dims):
        shapes |= {f"dense{i}/kernel": (ensemble_size, width, hidden), f"dense{i}/bias": (ensemble_size, hidden)}
        if layer_norm:
            shapes |= {f"ln{i}/scale": (ensemble_size, hidden), f"ln{i}/bias": (ensemble_size, hidden)}
        width = hidden
    return shapes | {"out/kernel": (ensemble_size, width, 1), "out/bias": (ensemble_size, 1)}


def num_parameters(shapes: Shapes) -> int:
    """Length of the flat vector that holds these parameters."""
    return sum(math.prod(shape) for shape in shapes.values())


def views(flat: Tensor, shapes: Shapes) -> Parameters:
    """Name the parts of a flat vector; the result shares its memory."""
    parts = torch.split(flat, [math.prod(shape) for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def flatten(parameters: Mapping[str, Tensor]) -> Tensor:
    """Concatenate named parameters, in their order, into one new flat vector."""
    return torch.cat([parameter.reshape(-1) for parameter in parameters.values()])


def initialise(shapes: Shapes, generator: torch.Generator, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw starting parameters: Xavier-uniform kernels (each member by itself), zero biases, unit scales.

    Args:
        shapes: Names and shapes, as from `actor_shapes` or `critic_shapes`.
        generator: Source of randomness; its device is the device of the result.
        dtype: Type of the result.

    Returns:
        The flat vector.
    """
    flat = torch.zeros(num_parameters(shapes), dtype=dtype, device=generator.device)
    for name, parameter in views(flat, shapes).items():
        if name.endswith("/kernel"):
            bound = math.sqrt(6.0 / (parameter.shape[-2] + parameter.shape[-1]))
            parameter.uniform_(-bound, bound, generator=generator)
        elif name.endswith("/filters"):  # [out, in, height, width]
            bound = math.sqrt(6.0 / (parameter[0].numel() + parameter[:, 0].numel()))
            parameter.uniform_(-bound, bound, generator=generator)
        elif name.endswith("/scale"):
            parameter.fill_(1.0)
    return flat


def actor_forward(parameters: Parameters, observations: Tensor) -> tuple[Tensor, Tensor]:
    """Map observations [B, O] to the mean [B, A] and the raw, unclipped log_std [B, A] before squashing."""
    x = observations
    for i in range(_depth(parameters)):
        x = torch.relu(torch.addmm(parameters[f"dense{i}/bias"], x, parameters[f"dense{i}/kernel"]))
    mean = torch.addmm(parameters["mean/bias"], x, parameters["mean/kernel"])
    return mean, torch.addmm(parameters["log_std/bias"], x, parameters["log_std/kernel"])


def critic_forward(
    parameters: Parameters, observations: Tensor, actions: Tensor, *, layer_norm_eps: float = 1e-6
) -> Tensor:
    """Map observations [B, O] and actions [B, A] to the values [E, B] of every member held in `parameters`.

    Each hidden layer is Dense, LayerNorm (where `parameters` has one), ReLU. `layer_norm_eps` is added to the biased
    variance inside the square root.
    """
    x = torch.cat([observations, actions], dim=-1)
    x = x.expand(parameters["out/bias"].shape[0], *x.shape)
    for i in range(_depth(parameters)):
        x = torch.bmm(x, parameters[f"dense{i}/kernel"]) + parameters[f"dense{i}/bias"].unsqueeze(1)
        if f"ln{i}/scale" in parameters:
            x = F.layer_norm(x, x.shape[-1:], eps=layer_norm_eps)
            x = x * parameters[f"ln{i}/scale"].unsqueeze(1) + parameters[f"ln{i}/bias"].unsqueeze(1)
        x = torch.relu(x)
    # As a sum over the last axis, its gradient would be read down the columns where batch and layer are of one size.
    return torch.bmm(x, parameters["out/kernel"]).squeeze(-1) + parameters["out/bias"]


def select_members(parameters: Parameters, members: Tensor) -> Parameters:
    """Parameters of some members of a critic ensemble; `members` are their indices."""
    return {name: parameter.index_select(0, members) for name, parameter in parameters.items()}


def _depth(parameters: Parameters) -> int:
    return sum(name.startswith("dense") for name in parameters) // 2
