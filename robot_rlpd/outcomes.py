"""What many recorded steps meant for a task, at once where the task can, else one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from robot_rlpd.task import Task

Columns = Mapping[str, NDArray[Any]]
"""Arrays by name, with the steps as the first axis of each."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """`Outcome` for T steps."""

    rewards: NDArray[np.float32]
    """`(T,)`."""
    terminated: NDArray[np.bool_]
    """`(T,)`."""
    successes: NDArray[np.bool_]
    """`(T,)`."""


@runtime_checkable
class ManyStepsTask(Protocol):
    """A task that judges many steps at once, which loading a million of them asks for."""

    def evaluate_many(
        self,
        observations: Columns,
        executed_actions: NDArray[np.float32],
        signals: Columns,
        next_observations: Columns,
    ) -> Outcomes:
        """The same as `evaluate` step by step; every array has the steps as its first axis.

        Raises:
            DataError: A signal that the task needs is missing.
        """
        ...


def judge_steps(
    task: Task,
    observations: Columns,
    executed_actions: NDArray[np.float32],
    signals: Columns,
    next_observations: Columns,
) -> Outcomes:
    """Reward, termination and success of T consecutive steps; those after a termination are not to be used.

    Args:
        task: Judges.
        observations: Before each step, `(T, *shape)` by field.
        executed_actions: `(T, A)`.
        signals: `(T, *shape)` by name.
        next_observations: After each step, `(T, *shape)` by field.

    Raises:
        DataError: A signal that the task needs is missing.
    """
    if isinstance(task, ManyStepsTask):
        return task.evaluate_many(observations, executed_actions, signals, next_observations)
    steps = len(executed_actions)
    found = Outcomes(
        rewards=np.zeros(steps, np.float32), terminated=np.zeros(steps, np.bool_), successes=np.zeros(steps, np.bool_)
    )
    for t in range(steps):
        outcome = task.evaluate(
            {name: array[t] for name, array in observations.items()},
            executed_actions[t],
            {name: array[t] for name, array in signals.items()},
            {name: array[t] for name, array in next_observations.items()},
        )
        found.rewards[t], found.terminated[t], found.successes[t] = outcome.reward, outcome.terminated, outcome.success
        if outcome.terminated:
            break
    return found
