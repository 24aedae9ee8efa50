"""Somebody takes over from the policy in the middle of an episode, and gives back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from robot_rlpd.robot import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.episode import Episode, Step
    from robot_rlpd.learner.buttons import Buttons
    from robot_rlpd.robot import Action, Expert, Observation, Policy
    from robot_rlpd.specs import ActionSpec

INTERVENED = "intervened"
"""Signal of a robot at which a person takes over: the executed action was hers, whoever commanded."""
RELEASE_S = 0.5
"""A person who touches nothing for so long gives back [s]."""
PROGRESS_M = 0.005
"""A way that is shorter than ever by less than this is not progress [m]."""
GIVE_BACK = 0.5
"""Who took over gives back when so much of the way that was left then is left."""
TOUCHED = 1e-3
"""Part of a component's range that counts as a touch."""


class Corrector(Protocol):
    """Who may take over.

    Attributes:
        source: Marks the steps that were taken over.
    """

    source: Source

    def reset(self) -> None:
        """A new episode, which the policy begins."""
        ...

    def __call__(self, observation: Observation, proposed: Action) -> Action | None:
        """The action instead of `proposed`, both `(A,)` in robot units; None lets the policy act."""
        ...


class InterventionPolicy:
    """A policy that switches: its `source` says of every action who chose it.

    Args:
        policy: Acts as long as nobody takes over.
        corrector: Asked at every step.
    """

    def __init__(self, policy: Policy, corrector: Corrector) -> None:
        self._policy, self._corrector = policy, corrector
        self.source = policy.source

    def reset(self) -> None:
        """The policy begins."""
        self._policy.reset()
        self._corrector.reset()
        self.source = self._policy.source

    def __call__(self, observation: Observation) -> Action:
        """The action of who has taken over, else the policy's."""
        proposed = self._policy(observation)
        corrected = self._corrector(observation, proposed)
        self.source = self._policy.source if corrected is None else self._corrector.source
        return proposed if corrected is None else corrected


class LateCorrector:
    """A script takes over for the rest of an episode that was not solved in time; stands in for a person.

    Args:
        expert: Solves the task.
        after_steps: Steps that the policy has.
    """

    def __init__(self, expert: Policy, after_steps: int) -> None:
        self._expert, self._after_steps = expert, after_steps
        self.source = expert.source
        self._steps = 0

    def reset(self) -> None:
        """The policy has its steps anew."""
        self._steps = 0

    def __call__(self, observation: Observation, proposed: Action) -> Action | None:
        """The expert's action once it is late."""
        del proposed
        if self._steps == self._after_steps:
            self._expert.reset()
        self._steps += 1
        return self._expert(observation) if self._steps > self._after_steps else None


class StuckCorrector:
    """A script takes over where the policy makes no progress, and gives back when it has made some.

    Progress is a way to the end, as the script sees it, that is shorter than ever since the policy has acted. A policy
    that undoes what was done makes none either.

    Args:
        expert: Solves the task, and sees how far it is from that.
        patience_steps: Steps without progress that the policy has, at least 1.
    """

    def __init__(self, expert: Expert, patience_steps: int) -> None:
        self._expert, self._patience_steps = expert, patience_steps
        self.source = expert.source
        self.reset()

    def reset(self) -> None:
        """The policy acts, and has its patience anew."""
        self._least_m, self._idle = math.inf, 0
        self._driving, self._until_m = False, 0.0

    def __call__(self, observation: Observation, proposed: Action) -> Action | None:
        """The expert's action while the policy is stuck."""
        del proposed
        remaining_m = self._expert.remaining_m(observation)
        if self._driving and remaining_m <= self._until_m:
            self.reset()
        if not self._driving and self._is_stuck(remaining_m):
            self._expert.reset()
            self._driving, self._until_m = True, GIVE_BACK * remaining_m
        return self._expert(observation) if self._driving else None

    def _is_stuck(self, remaining_m: float) -> bool:
        if remaining_m < self._least_m - PROGRESS_M:
            self._least_m, self._idle = remaining_m, 0
        else:
            self._idle += 1
        return self._idle >= self._patience_steps


class HandsOn:
    """A person takes over by moving a device, and gives back by leaving it alone; or with its pause button, both ways.

    What a device does not move but holds, as a gripper, stays where the policy had it until the person switches it:
    a device knows nothing of what the policy did before.

    Args:
        device: Its actions hold the robot still while nobody touches it.
        action_spec: Delta components move; the others are held.
        control_rate_hz: Control steps per second.
        buttons: Of the device.
    """

    source = Source.HUMAN

    def __init__(self, device: Policy, action_spec: ActionSpec, control_rate_hz: float, buttons: Buttons) -> None:
        self._device, self._buttons, self._spec = device, buttons, action_spec
        self._moves = np.array([component.mode == "delta" for component in action_spec.components])
        self._least = TOUCHED * (action_spec.high - action_spec.low)
        self._release_steps = max(1, round(RELEASE_S * control_rate_hz))
        self.reset()

    def reset(self) -> None:
        """Nothing is touched."""
        self._device.reset()
        self._shown: Action | None = None
        self._held: Action | None = None
        self._idle, self._driving, self._kept = 0, False, False

    def __call__(self, observation: Observation, proposed: Action) -> Action | None:
        """The device's action as long as a person drives."""
        action = self._device(observation)
        switched = self._switched(action)
        if self._buttons.take("pause"):
            self._kept = not self._kept
            self._driving = self._kept
        touched = bool((np.abs(action) > self._least)[self._moves].any() or switched.any())
        self._idle = 0 if touched else self._idle + 1
        if self._moves.any() and touched:
            self._driving = True
        elif not self._kept and self._idle >= self._release_steps:
            self._driving = False
        if not self._driving:
            self._held = proposed.copy()
            return None
        return self._with_held(action, switched, proposed)

    def _switched(self, action: Action) -> NDArray[np.bool_]:
        before, self._shown = self._shown, action.copy()
        return ~self._moves & (action != before) if before is not None else np.zeros(len(action), np.bool_)

    def _with_held(self, action: Action, switched: NDArray[np.bool_], proposed: Action) -> Action:
        """Held components as the policy left them, or at the other bound after a switch."""
        if not self._moves.any():  # a device that leads the robot says where everything is to be
            return action
        held = proposed.copy() if self._held is None else self._held
        middle = (self._spec.low + self._spec.high) / 2.0
        held = np.where(switched, np.where(held > middle, self._spec.low, self._spec.high), held).astype(np.float32)
        self._held = held
        return np.where(self._moves, action, held).astype(np.float32)


def is_intervention(step: Step) -> bool:
    """Whether somebody else than the policy chose what was executed."""
    return step.source in (Source.HUMAN, Source.SCRIPTED) or bool(step.result.signals.get(INTERVENED, False))


def sources_of_interventions(episode: Episode) -> NDArray[np.bool_]:
    """`is_intervention` of every step of a recorded episode, `(T,)`."""
    chosen = np.isin(episode.sources, (Source.HUMAN, Source.SCRIPTED))
    return chosen | episode.signals[INTERVENED].astype(np.bool_) if INTERVENED in episode.signals else chosen
