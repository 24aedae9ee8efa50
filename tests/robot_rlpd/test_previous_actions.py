"""A robot that observes what it was told last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from robot_rlpd.errors import ConfigError
from robot_rlpd.previous_actions import FIELD, PreviousActions, remembering, spec_with_previous_actions
from robot_rlpd.safety import SafeRobot
from robot_rlpd.task import TaskOptions, load_task
from robot_rlpd.testing import FakeRobot, RobotConformance, fake_spec

if TYPE_CHECKING:
    from robot_rlpd.robot import Robot


class TestConformance(RobotConformance):
    def make_robot(self) -> Robot:
        return PreviousActions(FakeRobot(fake_spec()), 2)


def ones(robot: Robot, value: float) -> np.ndarray:
    return np.full(robot.spec.action.size, value, np.float32)


def test_the_last_executed_actions_are_observed_the_oldest_first() -> None:
    with remembering(SafeRobot(FakeRobot(fake_spec())), 2) as robot:
        high = robot.spec.action.high
        robot.reset(seed=0)
        robot.step(ones(robot, 0.1))
        robot.step(ones(robot, 0.2))
        seen = robot.step(high + 100.0).observation[FIELD]  # held back to its bound
    np.testing.assert_array_equal(seen, np.concatenate([ones(robot, 0.2), high]).astype(np.float32))


def test_an_episode_begins_without_a_past() -> None:
    with remembering(FakeRobot(fake_spec()), 3) as robot:
        first = robot.reset(seed=0).observation[FIELD]
        robot.step(ones(robot, 0.5))
        again = robot.reset(seed=0).observation[FIELD]
    np.testing.assert_array_equal(first, again)
    low, high = robot.spec.action.low, robot.spec.action.high
    np.testing.assert_array_equal(first, np.tile(np.clip(0.0 * low, low, high), 3))


def test_what_was_observed_is_not_changed_later() -> None:
    with remembering(FakeRobot(fake_spec()), 1) as robot:
        robot.reset(seed=0)
        seen = robot.step(ones(robot, 0.25)).observation[FIELD]
        robot.step(ones(robot, 0.75))
    np.testing.assert_array_equal(seen, ones(robot, 0.25))


def test_no_memory_is_the_robot_itself() -> None:
    robot = FakeRobot(fake_spec())
    assert remembering(robot, 0) is robot
    assert spec_with_previous_actions(robot.spec, 0) is robot.spec


@pytest.mark.parametrize("count", [-1, 17, 2.0, "2", True])
def test_a_number_that_is_no_number_of_actions_is_refused(count: object) -> None:
    with pytest.raises(ConfigError, match=rf"previous_actions.*{count}.*0 to 16 actions"):
        spec_with_previous_actions(fake_spec(), count)  # type: ignore[arg-type]


def test_a_field_of_this_name_is_there_once() -> None:
    robot = remembering(FakeRobot(fake_spec()), 1)
    with pytest.raises(ConfigError, match="has this field already"):
        remembering(robot, 1)


def test_a_simulated_task_offers_it_behind_the_safety_filter() -> None:
    setup = load_task("reach", TaskOptions(env_kwargs={"previous_actions": 2}))
    with SafeRobot(setup.make_robot()) as robot:
        assert robot.spec.fingerprint == setup.spec.fingerprint
        robot.reset(seed=0)
        result = robot.step(robot.spec.action.high * 3.0)
        assert result.executed_action is not None
        np.testing.assert_array_equal(result.observation[FIELD][-robot.spec.action.size :], result.executed_action)
