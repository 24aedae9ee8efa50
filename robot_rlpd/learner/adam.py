"""Adam on one flat tensor, without a single host synchronisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from robot_rlpd.learner.rlpd import RLPDConfig


@dataclass(frozen=True)
class AdamState:
    """Running moments of one tensor's gradient, without bias correction, and the number of steps; updated in place."""

    mu: Tensor
    nu: Tensor
    count: Tensor

    @classmethod
    def zeros_like(cls, parameter: Tensor) -> AdamState:
        """State before the first step."""
        count = torch.zeros((), dtype=torch.int64, device=parameter.device)
        return cls(torch.zeros_like(parameter), torch.zeros_like(parameter), count)


def adam_step(config: RLPDConfig, lr: float, parameter: Tensor, gradient: Tensor, state: AdamState) -> None:
    """Move `parameter` by one bias-corrected Adam step, in place (Kingma and Ba 2015, algorithm 1)."""
    count = state.count.add_(1).to(torch.float64)
    correction1 = (1.0 - config.adam_b1**count).to(parameter.dtype)
    correction2 = (1.0 - config.adam_b2**count).to(parameter.dtype)
    state.mu.lerp_(gradient, 1.0 - config.adam_b1)
    state.nu.mul_(config.adam_b2).addcmul_(gradient, gradient, value=1.0 - config.adam_b2)
    denominator = (state.nu / correction2).sqrt_().add_(config.adam_eps)
    parameter.addcdiv_(state.mu, denominator * correction1, value=-lr)
