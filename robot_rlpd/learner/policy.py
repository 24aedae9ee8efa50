"""The learner's actor as a `Policy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rlpd.learner.checkpoint import BEST, Checkpoint, load_checkpoint
from robot_rlpd.learner.networks import actor_forward
from robot_rlpd.robot import Action, Observation, Policy, Source
from robot_rlpd.specs import check_contract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.specs import PolicyContract, RobotSpec

Normalizer = tuple[NDArray[np.float32], NDArray[np.float32]]


class ActorPolicy:
    """Flattens the observation, normalises it, asks `act`, and scales the answer to robot units.

    Args:
        contract: What is read and commanded.
        act: Maps observations [1, O] to actions [1, A] in [-1, 1].
        normalizer: Mean and scale `(O,)`, or None.
    """

    source = Source.POLICY

    def __init__(
        self, contract: PolicyContract, act: Callable[[Tensor], Tensor], normalizer: Normalizer | None = None
    ) -> None:
        self._contract = contract
        self._act = act
        self._normalizer = normalizer

    def reset(self) -> None:
        """Nothing to forget."""

    def __call__(self, observation: Observation) -> Action:
        """The action in robot units."""
        flat = normalized(self._contract.flatten(observation), self._normalizer)
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


def checkpoint_policy(checkpoint: Checkpoint) -> ActorPolicy:
    """The deterministic policy of a checkpoint."""
    actor = checkpoint.actor

    @torch.inference_mode()
    def act(observations: Tensor) -> Tensor:
        return actor_forward(actor, observations)[0].tanh()

    return ActorPolicy(checkpoint.contract, act, checkpoint.normalizer)


def open_policy(path: Path, spec: RobotSpec) -> ActorPolicy:
    """Open the best checkpoint of a run directory, or a checkpoint file, for a robot.

    Raises:
        MismatchError: The policy was trained for another contract; names the differing field.
    """
    checkpoint = load_checkpoint(path, prefer=BEST)
    check_contract(checkpoint.contract, spec, who=f"robot '{spec.name}'")
    return checkpoint_policy(checkpoint)
