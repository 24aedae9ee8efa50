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


def bias_corrections(config: RLPDConfig, state: AdamState, steps: int = 1) -> Tensor:
    """What the next steps divide the running means mu and nu by, [steps, 2]: 1 - b1^t and 1 - b2^t.

    Apart from `adam_step`, as a compiler would put the powers into its loop over all parameters.
    """
    counts = (state.count + torch.arange(1, steps + 1, device=state.count.device)).to(torch.float64)
    return (1.0 - torch.stack([config.adam_b1**counts, config.adam_b2**counts], dim=1)).to(state.mu.dtype)


def adam_step(
    config: RLPDConfig, lr: float, parameter: Tensor, gradient: Tensor, state: AdamState, corrections: Tensor
) -> None:
    """Move `parameter` by one bias-corrected Adam step, in place (Kingma and Ba 2015, algorithm 1).

    `corrections` are those of this step, [2], from `bias_corrections`.
    """
    state.count.add_(1)
    state.mu.lerp_(gradient, 1.0 - config.adam_b1)
    state.nu.mul_(config.adam_b2).addcmul_(gradient, gradient, value=1.0 - config.adam_b2)
    denominator = (state.nu / corrections[1]).sqrt_().add_(config.adam_eps)
    parameter.addcdiv_(state.mu, denominator * corrections[0], value=-lr)
