"""A task that is solved when an observation looks right: reward 0 there, -1 everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.errors import DataError
from robot_rlpd.task import Outcome, RewardKind, Signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.specs import RobotSpec


class GoalTask:
    """Terminates with success as soon as `is_solved(next_observation)`.

    Args:
        name: Name of the task.
        fields: The observation fields that `is_solved` reads.
        is_solved: A pure function of one observation.
        max_episode_steps: Time limit in control steps.
        reward: "stored" takes what the robot's side signalled: the reward, and end and success where it signals them;
            "task" and "sparse" are the same here.
    """

    success_at_end = False

    def __init__(
        self,
        name: str,
        *,
        fields: tuple[str, ...],
        is_solved: Callable[[Observation], bool],
        max_episode_steps: int,
        reward: RewardKind = "task",
    ) -> None:
        self.name = name
        self.max_episode_steps = max_episode_steps
        self._fields = fields
        self._is_solved = is_solved
        self._reward = reward

    def evaluate(
        self, observation: Observation, executed_action: Action, signals: Signals, next_observation: Observation
    ) -> Outcome:
        """Judge the observation that the step led to."""
        del observation, executed_action
        solved = self._is_solved(next_observation)
        if self._reward != "stored":
            return Outcome(reward=0.0 if solved else -1.0, terminated=solved, success=solved)
        if "reward" not in signals:
            raise DataError("no reward is stored", field="signals.reward", hint="use --reward task")
        return Outcome(
            reward=float(signals["reward"]),
            terminated=bool(signals.get("terminated", solved)),
            success=bool(signals.get("success", solved)),
        )

    def check_recomputable(self, spec: RobotSpec, *, where: str) -> None:
        """Needs the fields that decide success, and the reward signal if that is asked for."""
        observed = {field.name for field in spec.observation}
        for name in self._fields:
            if name not in observed:
                raise DataError(f"{where} lacks what {self.name} needs", field=f"observation.{name}", found=spec.name)
        if self._reward == "stored" and "reward" not in {signal.name for signal in spec.signals}:
            raise DataError(f"{where} holds no reward", field="signals.reward", hint="use --reward task")
