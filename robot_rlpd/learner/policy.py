"""The learner's actor as a `Policy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rlpd.learner.checkpoint import BEST, Checkpoint, load_checkpoint
from robot_rlpd.learner.distributions import sample_squashed
from robot_rlpd.learner.encoders import policy_forward, state_size
from robot_rlpd.learner.frame_history import FrameHistory
from robot_rlpd.robot import Action, Observation, Policy, Source
from robot_rlpd.specs import check_contract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.learner.encoders import PixelConfig
    from robot_rlpd.specs import PolicyContract, RobotSpec

Normalizer = tuple[NDArray[np.float32], NDArray[np.float32]]


class ActorPolicy:
    """Flattens the observation, normalises it, asks `act`, and scales the answer to robot units.

    Args:
        contract: What is read and commanded.
        act: Maps observations [1, O] to actions [1, A] in [-1, 1].
        normalizer: Mean and scale `(O,)`, or None.
        pixels: How images are seen, or None; `act` then gets the state and the last frames, the oldest first.
    """

    source = Source.POLICY

    def __init__(
        self,
        contract: PolicyContract,
        act: Callable[[Tensor], Tensor],
        normalizer: Normalizer | None = None,
        pixels: PixelConfig | None = None,
    ) -> None:
        self._contract = contract
        self._act = act
        self._normalizer = normalizer
        self._history = FrameHistory(state_size(contract), pixels.frame_stack) if pixels else None

    def reset(self) -> None:
        """Forget the frames of the last episode."""
        if self._history is not None:
            self._history.reset()

    def __call__(self, observation: Observation) -> Action:
        """The action in robot units."""
        flat = normalized(self._contract.flatten(observation), self._normalizer)
        if self._history is not None:
            flat = self._history(flat)
        unit = self._act(torch.from_numpy(flat)[None])[0]
        return self._contract.action.from_unit(unit.cpu().numpy())


class WarmUpPolicy:
    """One policy as long as `first_acts` says so, then the other, also within an episode.

    Args:
        first: Acts at the beginning, such as a random policy.
        then: Acts from then on.
        first_acts: Asked before every action.
    """

    def __init__(self, first: Policy, then: Policy, first_acts: Callable[[], bool]) -> None:
        self._first, self._then, self._first_acts = first, then, first_acts
        self.source = first.source

    def reset(self) -> None:
        """Reset both."""
        self._first.reset()
        self._then.reset()

    def __call__(self, observation: Observation) -> Action:
        """The action of whose turn it is."""
        chosen = self._first if self._first_acts() else self._then
        self.source = chosen.source
        return chosen(observation)


def normalized(flat: NDArray[np.float32], normalizer: Normalizer | None) -> NDArray[np.float32]:
    """Subtract the mean and divide by the scale, in float32; unchanged without a normalizer."""
    return flat if normalizer is None else (flat - normalizer[0]) / normalizer[1]


def checkpoint_policy(checkpoint: Checkpoint, *, noise: float = 0.0, seed: int = 0) -> ActorPolicy:
    """The policy of a checkpoint.

    Args:
        checkpoint: With the actor.
        noise: Share of its exploration that it keeps: 0 is deterministic, 1 explores as in training.
        seed: Of that noise.

    Raises:
        ConfigError: Noise is asked of a policy that was cloned.
    """
    if noise:
        checkpoint.check_explores(field="noise")
    actor, contract, pixels = checkpoint.actor, checkpoint.contract, checkpoint.config.pixels
    generator = torch.Generator().manual_seed(seed)

    @torch.inference_mode()
    def act(observations: Tensor) -> Tensor:
        mean, log_std = policy_forward(contract, pixels, actor, observations)
        if not noise:
            return mean.tanh()
        return sample_squashed(mean, log_std, noise * torch.randn(mean.shape, generator=generator))[0]

    return ActorPolicy(contract, act, checkpoint.normalizer, pixels)


def open_policy(path: Path, spec: RobotSpec, *, noise: float = 0.0) -> ActorPolicy:
    """Open the best checkpoint of a run directory, or a checkpoint file, for a robot.

    Args:
        path: Run directory or checkpoint.
        spec: Of the robot.
        noise: As for `checkpoint_policy`.

    Raises:
        MismatchError: The policy was trained for another contract; names the differing field.
        ConfigError: As `checkpoint_policy`.
    """
    checkpoint = load_checkpoint(path, prefer=BEST)
    check_contract(checkpoint.contract, spec, who=f"robot '{spec.name}'")
    return checkpoint_policy(checkpoint, noise=noise)
