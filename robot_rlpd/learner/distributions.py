"""The tanh-squashed Gaussian policy (Haarnoja et al. 2018, appendix C)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_STD_MIN = -20.0
LOG_STD_MAX = 2.0


def sample_squashed(mean: Tensor, raw_log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Turn standard normal noise into actions and their log density.

    Args:
        mean: Mean before squashing, [B, A].
        raw_log_std: Logarithm of the standard deviation before squashing, [B, A]; clipped to [-20, 2] here, with zero
            gradient outside.
        noise: Standard normal, [B, A].

    Returns:
        The actions in [-1, 1], [B, A], and the log density of each, [B].
    """
    log_std = raw_log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
    unsquashed = mean + log_std.exp() * noise
    log_density = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    return unsquashed.tanh(), (log_density - log_derivative_of_tanh(unsquashed)).sum(-1)


def log_derivative_of_tanh(unsquashed: Tensor) -> Tensor:
    """log(1 - tanh(u)^2) = 2 (log 2 - |u| - log(1 + exp(-2 |u|))), exact at both ends.

    Written in |u| because it is even, and without `softplus`, whose linear part above a threshold costs up to 4e-9.
    """
    magnitude = unsquashed.abs()
    return 2.0 * (math.log(2.0) - magnitude - torch.log1p(torch.exp(-2.0 * magnitude)))
