"""A robot around a robot hides nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from robot_rlpd.bridge.statistics import Statistics
from robot_rlpd.clock import ManualClock
from robot_rlpd.holding import hold
from robot_rlpd.judging import JudgedRobot
from robot_rlpd.learner.bridge_figures import of_robot
from robot_rlpd.learner.buttons import Buttons
from robot_rlpd.learner.success import OperatorJudgedRobot, PromptedRobot
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.previous_actions import PreviousActions
from robot_rlpd.robot import StepResult, look_at
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.robot import Action, Robot


class Telling(FakeRobot):
    """Holds in a way of its own, can be looked at, and is served from elsewhere."""

    def __init__(self) -> None:
        super().__init__(fake_spec())
        self.statistics = Statistics(0.1, paced=True)
        self.told: list[str] = []

    def look(self) -> StepResult:
        self.told.append("look")
        return StepResult(self.reset(seed=0).observation)

    def hold(self, still: Action) -> str:
        del still
        self.told.append("hold")
        return "held"

    def stop(self, reason: str) -> None:
        self.told.append(f"stop {reason}")

    def close(self) -> None:
        self.told.append("close")


WRAPPERS: dict[str, Callable[[Robot], Robot]] = {
    "paced": lambda robot: PacedRobot(robot, ManualClock()),
    "judged": lambda robot: JudgedRobot(robot, FakeTask()),
    "remembering": lambda robot: PreviousActions(robot, 2),
    "prompted": lambda robot: PromptedRobot(robot, lambda: True),
    "operator": lambda robot: OperatorJudgedRobot(robot, Buttons(list)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_a_robot_can_do_it_can_do_behind_a_wrapper(name: str) -> None:
    inner = Telling()
    robot = WRAPPERS[name](inner)
    seen = look_at(robot)
    assert seen is not None
    assert set(seen.observation) >= {spec.name for spec in inner.spec.observation}
    assert hold(robot, np.zeros(robot.spec.action.size, np.float32)) == "held"
    robot.stop("enough")
    robot.close()
    assert inner.told == ["look", "hold", "stop enough", "close"]


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_bridge_of_a_served_robot_is_seen_through_a_wrapper(name: str) -> None:
    inner = Telling()
    inner.statistics.step(1.0, 1.02)
    values, text = of_robot(WRAPPERS[name](inner))()
    assert values["bridge_step_ms_p50"] == pytest.approx(20.0)
    assert text.startswith("bridge ")
