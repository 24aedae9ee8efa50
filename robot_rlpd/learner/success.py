"""Success where no simulator knows the truth: as the robot signals it, or as an operator says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.errors import DataError, RobotError
from robot_rlpd.outcomes import Columns, Outcomes
from robot_rlpd.specs import ArraySpec
from robot_rlpd.task import Outcome, Signals
from robot_rlpd.wrapping import WrappedRobot

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from robot_rlpd.learner.buttons import Buttons
    from robot_rlpd.robot import Action, Observation, Robot, StepResult
    from robot_rlpd.specs import RobotSpec

SUCCESS, TRUNCATED = "success", "truncated"
GIVEN_UP = ("failure", "stop", "discard")
"""Buttons that end an episode unsolved."""


class SignalledTask:
    """Solved where the signal `success` says so: reward 0 there, which ends the episode, and -1 elsewhere.

    Args:
        name: Name of the task.
        max_episode_steps: Time limit in control steps.
    """

    success_at_end = False

    def __init__(self, name: str, max_episode_steps: int) -> None:
        self.name, self.max_episode_steps = name, max_episode_steps

    def evaluate(
        self, observation: Observation, executed_action: Action, signals: Signals, next_observation: Observation
    ) -> Outcome:
        """Read the signals."""
        del observation, executed_action, next_observation
        if SUCCESS not in signals:
            raise DataError("the robot does not signal it", field="signals.success", hint="use --success task")
        solved = bool(signals[SUCCESS])
        cut_off = bool(signals.get(TRUNCATED, False)) and not solved
        return Outcome(reward=float(solved) - 1.0, terminated=solved, success=solved, truncated=cut_off)

    def evaluate_many(
        self,
        observations: Columns,
        executed_actions: NDArray[np.float32],
        signals: Columns,
        next_observations: Columns,
    ) -> Outcomes:
        """`evaluate` for many steps."""
        del observations, executed_actions, next_observations
        solved = np.asarray(signals[SUCCESS], np.bool_)
        return Outcomes(rewards=solved.astype(np.float32) - 1.0, terminated=solved, successes=solved)

    def check_recomputable(self, spec: RobotSpec, *, where: str) -> None:
        """Needs the signal."""
        if SUCCESS not in {signal.name for signal in spec.signals}:
            raise DataError(
                f"{where} does not say where the task was solved", field="signals.success", hint="use --success task"
            )


class OperatorJudgedRobot(WrappedRobot):
    """A robot whose operator says with a button that the task is solved; stored as the robot's signal.

    Args:
        robot: Closed with this one.
        buttons: `success` ends an episode as solved; `failure`, `stop` and `discard` end it unsolved.
    """

    def __init__(self, robot: Robot, buttons: Buttons) -> None:
        super().__init__(robot)
        self._buttons = buttons
        names = {signal.name for signal in robot.spec.signals}
        added = [ArraySpec(name=name, shape=(), dtype="bool") for name in (SUCCESS, TRUNCATED) if name not in names]
        self.spec = replace(robot.spec, signals=(*robot.spec.signals, *added))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Reset the robot; what was pressed before counts no more."""
        result = self._robot.reset(seed=seed, options=options)
        self._buttons.forget("success", *GIVEN_UP)
        return result

    def step(self, action: Action) -> StepResult:
        """Step the robot, and add what the operator said meanwhile."""
        result = self._robot.step(action)
        pressed = self._buttons.take("success", *GIVEN_UP)
        solved = "success" in pressed
        said = {SUCCESS: np.array(solved), TRUNCATED: np.array(bool(pressed) and not solved)}
        return replace(result, signals={**result.signals, **said})


class PromptedRobot(WrappedRobot):
    """A robot that is reset only after a person has put its scene in order and said so.

    Args:
        robot: Closed with this one.
        confirmed: Asks, and waits; False where the session is to end instead.
    """

    def __init__(self, robot: Robot, confirmed: Callable[[], bool]) -> None:
        super().__init__(robot)
        self._confirmed = confirmed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Ask, then reset.

        Raises:
            RobotError: Nobody confirmed.
        """
        if not self._confirmed():
            raise RobotError("the reset was not confirmed", field=f"robot '{self.spec.name}'")
        return self._robot.reset(seed=seed, options=options)

    def step(self, action: Action) -> StepResult:
        """Step the robot."""
        return self._robot.step(action)
