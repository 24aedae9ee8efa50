"""A robot that knows its task: reward, terminated, truncated and success as signals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.wrapping import WrappedRobot

if TYPE_CHECKING:
    from robot_rlpd.robot import Action, Observation, Robot, StepResult
    from robot_rlpd.task import Task


class JudgedRobot(WrappedRobot):
    """Lets a task overwrite what the robot signals, so that a policy can run and be judged without naming the task.

    Args:
        robot: Declares the signals reward, terminated, truncated and success.
        task: Judges every step; its time limit truncates.
    """

    def __init__(self, robot: Robot, task: Task) -> None:
        super().__init__(robot)
        self._task = task
        self._steps = 0
        self._observation: Observation = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Reset the robot; the time limit counts from here."""
        result = self._robot.reset(seed=seed, options=options)
        self._steps, self._observation = 0, result.observation
        return result

    def step(self, action: Action) -> StepResult:
        """Step the robot and judge."""
        result = self._robot.step(action)
        executed = action if result.executed_action is None else result.executed_action
        outcome = self._task.evaluate(self._observation, executed, result.signals, result.observation)
        self._steps, self._observation = self._steps + 1, result.observation
        late = self._steps >= self._task.max_episode_steps
        signals = {
            "reward": np.array(outcome.reward, np.float32),
            "terminated": np.array(outcome.terminated),
            "truncated": np.array((outcome.truncated or late) and not outcome.terminated),
            "success": np.array(outcome.success),
        }
        return replace(result, signals={**result.signals, **signals})
