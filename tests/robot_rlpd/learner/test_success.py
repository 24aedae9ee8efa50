from __future__ import annotations

import numpy as np
import pytest

from robot_rlpd.episode import Ended
from robot_rlpd.errors import DataError, RobotError
from robot_rlpd.learner.buttons import Buttons
from robot_rlpd.learner.success import OperatorJudgedRobot, PromptedRobot, SignalledTask
from robot_rlpd.outcomes import judge_steps
from robot_rlpd.robot import Action, Observation, Source
from robot_rlpd.rollout import rollout
from robot_rlpd.testing import FakeRobot, RobotConformance, fake_spec

TASK = SignalledTask("fake", max_episode_steps=20)


class Pressing:
    """A policy that stands still, and whose operator presses a button in step `at`."""

    source = Source.POLICY

    def __init__(self, button: str, at: int) -> None:
        self._button, self._at, self._steps = button, at, 0

    def reset(self) -> None:
        self._steps = 0

    def poll(self) -> list[str]:
        return [self._button] if self._steps == self._at else []

    def __call__(self, observation: Observation) -> Action:
        self._steps += 1
        return np.zeros(2, np.float32)


class TestOperatorJudgedRobot(RobotConformance):
    def make_robot(self) -> OperatorJudgedRobot:
        return OperatorJudgedRobot(FakeRobot(), Buttons(list))


class TestPromptedRobot(RobotConformance):
    def make_robot(self) -> PromptedRobot:
        return PromptedRobot(FakeRobot(), lambda: True)


@pytest.mark.parametrize(
    ("button", "ended", "success"),
    [("success", Ended.TERMINATED, True), ("failure", Ended.TRUNCATED, False), ("pause", Ended.TRUNCATED, False)],
)
def test_the_operators_button_decides_how_an_episode_ends(button: str, ended: Ended, success: bool) -> None:
    policy = Pressing(button, at=4)
    robot = OperatorJudgedRobot(FakeRobot(), Buttons(policy.poll))
    episode = rollout(robot, policy, TASK, seed=0)
    assert (episode.info.ended, episode.info.success) == (ended, success)
    assert len(episode) == (20 if button == "pause" else 4)
    again = judge_steps(TASK, episode.observations, episode.executed_actions, episode.signals, episode.observations)
    assert again.successes.tolist() == [False] * (len(episode) - 1) + [success]


def test_what_was_pressed_before_an_episode_does_not_count() -> None:
    pressed = ["success"]
    robot = OperatorJudgedRobot(FakeRobot(), Buttons(lambda: [pressed.pop()] if pressed else []))
    robot.reset(seed=0)
    assert not robot.step(np.zeros(2, np.float32)).signals["success"]


def test_the_operator_is_believed_where_the_robots_own_signal_says_otherwise() -> None:
    robot = OperatorJudgedRobot(FakeRobot(), Buttons(list))
    first = robot.reset(seed=0).observation
    result = robot.step(first["target"] - first["position"])
    assert not result.signals["success"]


def test_a_reset_that_nobody_confirms_does_not_move_the_robot() -> None:
    inner = FakeRobot()
    inner.position += 1.0
    with pytest.raises(RobotError, match="not confirmed"):
        PromptedRobot(inner, lambda: False).reset(seed=0)
    assert inner.position.tolist() == [1.0, 1.0]


def test_a_robot_that_does_not_signal_success_is_refused() -> None:
    with pytest.raises(DataError, match=r"signals\.success"):
        TASK.evaluate({}, np.zeros(2, np.float32), {}, {})
    spec = fake_spec()
    TASK.check_recomputable(spec, where="store")
    bare = FakeRobot(spec).spec
    with pytest.raises(DataError, match="success"):
        TASK.check_recomputable(type(bare)(**{**vars(bare), "signals": ()}), where="store")
