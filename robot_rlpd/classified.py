"""Success as a trained classifier sees it, several control steps in a row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.outcomes import Columns, Outcomes
from robot_rlpd.specs import ArraySpec, check_contract
from robot_rlpd.task import Outcome, Signals
from robot_rlpd.wrapping import WrappedRobot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.robot import Action, Observation, Robot, StepResult
    from robot_rlpd.specs import PolicyContract, RobotSpec

CLASSIFIED, PROBABILITY = "classified", "success_probability"
"""Signals that are added: whether the task counts as solved, and what the classifier says of this one observation."""


class SuccessClassifier(Protocol):
    """Sees from one observation whether the task is solved.

    Attributes:
        contract: The fields that it reads, of which robot.
        threshold: Probability from which an observation counts, 0 to 1.
        in_a_row: Observations in a row that have to count before the task is solved, >= 1.
    """

    contract: PolicyContract
    threshold: float
    in_a_row: int

    def __call__(self, observation: Observation) -> float:
        """Probability that the task is solved.

        Raises:
            SpecError: A field is missing or has another shape.
        """
        ...


class ClassifiedRobot(WrappedRobot):
    """A robot whose signals tell what a classifier makes of its observations.

    Args:
        robot: Closed with this one.
        classifier: Judges every observation but an episode's first.
        signal: Name of the verdict; "success" makes it the robot's own word.

    Raises:
        MismatchError: The classifier is for another robot; names the field.
        ConfigError: The robot has such a signal already.
    """

    def __init__(self, robot: Robot, classifier: SuccessClassifier, *, signal: str = CLASSIFIED) -> None:
        check_contract(classifier.contract, robot.spec, who=f"robot '{robot.spec.name}'")
        if signal in {known.name for known in robot.spec.signals}:
            raise ConfigError("the robot says it already", field="classifier", found=f"signal '{signal}'")
        super().__init__(robot)
        self._classifier, self._signal, self._row = classifier, signal, 0
        added = (ArraySpec(name=signal, shape=(), dtype="bool"), ArraySpec(name=PROBABILITY, shape=()))
        self.spec = replace(robot.spec, signals=(*robot.spec.signals, *added))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Reset the robot."""
        self._row = 0
        return self._robot.reset(seed=seed, options=options)

    def step(self, action: Action) -> StepResult:
        """Step the robot, and judge what it observes."""
        result = self._robot.step(action)
        probability = self._classifier(result.observation)
        self._row = self._row + 1 if probability >= self._classifier.threshold else 0
        said = {
            self._signal: np.array(self._row >= self._classifier.in_a_row),
            PROBABILITY: np.array(probability, np.float32),
        }
        return replace(result, signals={**result.signals, **said})


class ClassifiedTask:
    """Solved where `ClassifiedRobot` says so: reward 0 there, which ends the episode, and -1 elsewhere.

    Data without its signals are judged anew. A recorded episode often ends as soon as it is solved, so its last
    observation needs no others in a row.

    Args:
        name: Name of the task.
        max_episode_steps: Time limit in control steps.
        classifier: Judges data that were recorded without it.
    """

    success_at_end = False

    def __init__(self, name: str, max_episode_steps: int, classifier: SuccessClassifier) -> None:
        self.name, self.max_episode_steps, self._classifier = name, max_episode_steps, classifier

    def evaluate(
        self, observation: Observation, executed_action: Action, signals: Signals, next_observation: Observation
    ) -> Outcome:
        """Read the signal."""
        del observation, executed_action, next_observation
        if CLASSIFIED not in signals:
            raise DataError("nobody classified this step", field=f"signals.{CLASSIFIED}")
        solved = bool(signals[CLASSIFIED])
        return Outcome(reward=float(solved) - 1.0, terminated=solved, success=solved)

    def evaluate_many(
        self,
        observations: Columns,
        executed_actions: NDArray[np.float32],
        signals: Columns,
        next_observations: Columns,
    ) -> Outcomes:
        """`evaluate` for consecutive steps of one episode."""
        del observations, executed_actions
        if CLASSIFIED in signals:
            solved = np.asarray(signals[CLASSIFIED], np.bool_)
        else:
            solved = in_a_row(self._counting(next_observations), self._classifier.in_a_row)
        return Outcomes(rewards=solved.astype(np.float32) - 1.0, terminated=solved, successes=solved)

    def _counting(self, observations: Columns) -> NDArray[np.bool_]:
        fields = [spec.name for spec in self._classifier.contract.observation]
        steps = len(observations[fields[0]])
        found = [self._classifier({name: observations[name][t] for name in fields}) for t in range(steps)]
        return np.array(found) >= self._classifier.threshold

    def check_recomputable(self, spec: RobotSpec, *, where: str) -> None:
        """Needs the fields that the classifier reads.

        Raises:
            MismatchError: Names the one that is missing or another.
        """
        check_contract(self._classifier.contract, spec, who=where)


def in_a_row(counting: NDArray[np.bool_], needed: int) -> NDArray[np.bool_]:
    """Where the last `needed` entries of an episode all count, `(T,)`; at its last step it is enough that this does."""
    solved = np.zeros(len(counting), np.bool_)
    row = 0
    for step, counts in enumerate(counting):
        row = row + 1 if counts else 0
        solved[step] = row >= needed or (row > 0 and step == len(counting) - 1)
    return solved
