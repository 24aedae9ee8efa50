from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from robot_rlpd.classified import CLASSIFIED, PROBABILITY, ClassifiedRobot, ClassifiedTask, in_a_row
from robot_rlpd.episode import transitions
from robot_rlpd.errors import ConfigError, DataError, MismatchError
from robot_rlpd.rollout import rollout
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, RobotConformance, fake_spec

if TYPE_CHECKING:
    from robot_rlpd.robot import Observation
    from robot_rlpd.specs import PolicyContract


class NearTarget:
    """Sees how near the fake robot's point is to its target."""

    def __init__(self, in_a_row: int = 2, *, rate_hz: float = 10.0) -> None:
        self.contract: PolicyContract = fake_spec(rate_hz).contract(["position", "target"])
        self.threshold, self.in_a_row = 0.5, in_a_row

    def __call__(self, observation: Observation) -> float:
        return float(np.exp(-7.0 * np.linalg.norm(observation["position"] - observation["target"])))


class TestClassifiedRobot(RobotConformance):
    def make_robot(self) -> ClassifiedRobot:
        return ClassifiedRobot(FakeRobot(), NearTarget())


def still() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.zeros(2, np.float32)


def test_the_task_is_solved_after_so_many_observations_in_a_row() -> None:
    fake = FakeRobot()
    robot = ClassifiedRobot(fake, NearTarget(in_a_row=3))
    robot.reset(seed=1)
    said = []
    for there in (True, True, False, True, True, True, True):
        fake.position = fake.target.copy() if there else fake.target + np.float32(1.0)
        said.append(bool(robot.step(still()).signals[CLASSIFIED]))
    assert said == [False, False, False, False, False, True, True]


def test_a_reset_begins_to_count_anew() -> None:
    fake = FakeRobot()
    robot = ClassifiedRobot(fake, NearTarget(in_a_row=2))
    for _ in range(3):
        robot.reset(seed=1)
        fake.position = fake.target.copy()
        result = robot.step(still())
        assert not result.signals[CLASSIFIED]
        assert result.signals[PROBABILITY] == pytest.approx(1.0)


def test_the_last_observation_of_an_episode_needs_no_others() -> None:
    assert in_a_row(np.array([True, False, True]), 2).tolist() == [False, False, True]
    assert in_a_row(np.array([True, True, False]), 2).tolist() == [False, True, False]
    assert in_a_row(np.array([False]), 1).tolist() == [False]


def test_an_episode_ends_solved_where_the_classifier_says_so() -> None:
    classifier = NearTarget()
    task = ClassifiedTask("fake", 20, classifier)
    episode = rollout(ClassifiedRobot(FakeRobot(), classifier), FakePolicy(), task, seed=3)
    assert episode.info.success
    found = transitions(episode, task, ["position", "target"])
    assert found.rewards.tolist() == [-1.0] * (len(episode) - 1) + [0.0]
    assert found.masks.tolist() == [1.0] * (len(episode) - 1) + [0.0]


def test_what_was_recorded_with_it_is_not_judged_anew() -> None:
    classifier = NearTarget()
    task = ClassifiedTask("fake", 20, classifier)
    episode = rollout(ClassifiedRobot(FakeRobot(), classifier), FakePolicy(), task, seed=3)
    classifier.threshold = 2.0
    assert transitions(episode, task, ["position"]).successes.any()


def test_data_of_others_are_judged_by_it() -> None:
    task = ClassifiedTask("fake", 20, NearTarget())
    recorded = rollout(FakeRobot(), FakePolicy(), FakeTask(), seed=3)
    assert transitions(recorded, task, ["position"]).successes.tolist() == [False] * (len(recorded) - 1) + [True]


def test_live_a_step_that_nobody_classified_is_an_error() -> None:
    with pytest.raises(DataError, match="classified"):
        ClassifiedTask("fake", 20, NearTarget()).evaluate({}, still(), {}, {})


def test_the_verdict_can_be_the_word_of_a_robot_that_has_none() -> None:
    spec = fake_spec()
    silent = replace(spec, signals=tuple(signal for signal in spec.signals if signal.name != "success"))
    robot = ClassifiedRobot(FakeRobot(silent), NearTarget(), signal="success")
    assert "success" in {signal.name for signal in robot.spec.signals}
    with pytest.raises(ConfigError, match="classifier: the robot says it already"):
        ClassifiedRobot(FakeRobot(), NearTarget(), signal="success")


def test_a_classifier_of_another_robot_is_refused() -> None:
    with pytest.raises(MismatchError):
        ClassifiedRobot(FakeRobot(), NearTarget(rate_hz=20.0))
    with pytest.raises(MismatchError):
        ClassifiedTask("fake", 20, NearTarget(rate_hz=20.0)).check_recomputable(fake_spec(), where="store x")
