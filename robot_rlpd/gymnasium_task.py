"""The task of a Gymnasium environment, judged from what is recorded of a step; needs no Gymnasium."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.errors import DataError
from robot_rlpd.expression import Condition
from robot_rlpd.outcomes import Columns, Outcomes
from robot_rlpd.task import Outcome, Signals, TaskOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.specs import RobotSpec
DEFAULT_EPISODE_STEPS = 1000
"""Where neither the environment nor anybody else says."""


class GymnasiumTask:
    """The task of a Gymnasium environment, judged from signals, or from a condition on the recorded step."""

    success_at_end = False

    def __init__(self, name: str, max_episode_steps: int, options: TaskOptions) -> None:
        self.name = name
        self.max_episode_steps = max_episode_steps
        self._reward = options.reward
        self._condition = Condition(options.success_when) if options.success_when else None

    def check_fields(self, spec: RobotSpec) -> None:
        """Refuse a condition on fields or entries that the robot does not have.

        Raises:
            ConfigError: Lists the fields, or names the index.
        """
        if self._condition is not None:
            self._condition.check_names([s.name for s in (*spec.observation, *spec.signals)] + ["action"])
            step = {s.name: np.zeros(s.shape, s.dtype) for s in (*spec.observation, *spec.signals)}
            with np.errstate(all="ignore"):
                self._condition({**step, "action": np.zeros(spec.action.size, np.float32)})

    def evaluate(
        self, observation: Observation, executed_action: Action, signals: Signals, next_observation: Observation
    ) -> Outcome:
        """Success by the condition on the next observation if there is one, else as signalled.

        With a condition and the sparse reward, an end without success truncates, live and recorded alike.
        """
        del observation
        if self._condition is None:
            success = bool(signals.get("success", False))
        else:
            success = self._condition({**signals, **next_observation, "action": executed_action})
        if self._reward != "sparse" and "reward" not in signals:
            raise DataError("the robot signals no reward", field="signals.reward", hint="use --reward sparse")
        reward = float(success) - 1.0 if self._reward == "sparse" else float(signals["reward"])
        ended = bool(signals.get("terminated", False))
        terminated = ended and (success or not self._redefines_the_end)
        return Outcome(
            reward=reward,
            terminated=terminated,
            success=success,
            truncated=bool(signals.get("truncated", False)) or (ended and not terminated),
        )

    def evaluate_many(
        self,
        observations: Columns,
        executed_actions: NDArray[np.float32],
        signals: Columns,
        next_observations: Columns,
    ) -> Outcomes:
        """`evaluate` for many steps."""
        del observations
        steps = len(executed_actions)
        never = np.zeros(steps, np.bool_)
        if self._condition is None:
            successes = np.asarray(signals.get("success", never), np.bool_)
        else:
            successes = self._condition.each({**signals, **next_observations, "action": executed_actions})
        if self._reward != "sparse" and "reward" not in signals:
            raise DataError("the robot signals no reward", field="signals.reward", hint="use --reward sparse")
        ended = np.asarray(signals.get("terminated", never), np.bool_)
        return Outcomes(
            rewards=np.asarray(successes - 1.0 if self._reward == "sparse" else signals["reward"], np.float32),
            terminated=ended & successes if self._redefines_the_end else ended,
            successes=successes,
        )

    @property
    def _redefines_the_end(self) -> bool:
        """Whether reward and success follow a condition alone, whatever goal the environment ended at.

        An end without success would be worth -1 in all if it were one of the MDP: better than anywhere but the goal.
        """
        return self._condition is not None and self._reward == "sparse"

    def check_recomputable(self, spec: RobotSpec, *, where: str) -> None:
        """A reward computed inside the environment cannot be recomputed; a success can, by signal or condition."""
        recorded = {s.name for s in spec.signals}
        if self._reward == "task":
            raise DataError(
                f"task '{self.name}' computes its reward inside the environment, so {where} cannot be relabelled",
                field="reward",
                found="task",
                allowed="--reward sparse (0 on success, else -1), or --reward stored (as recorded)",
            )
        if self._reward == "stored" and "reward" not in recorded:
            raise DataError(f"{where} holds no reward", field="signals.reward", hint="use --reward sparse")
        if self._reward == "sparse" and self._condition is None and "success" not in recorded:
            raise DataError(
                f"{where} does not say where the task was solved",
                field="signals.success",
                hint='say it with --success-when, for instance "observation[0] >= 1.0"',
            )
