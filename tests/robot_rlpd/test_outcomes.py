from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rlpd.environment_task import GymnasiumTask
from robot_rlpd.errors import DataError
from robot_rlpd.outcomes import Outcomes, judge_steps
from robot_rlpd.task import Outcome, TaskOptions
from robot_rlpd.testing import FakeTask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.task import Task

OPTIONS = [
    TaskOptions(reward="sparse"),
    TaskOptions(reward="stored"),
    TaskOptions(reward="sparse", success_when="norm(place - goal) < 0.5 and action[0] > 0"),
    TaskOptions(reward="stored", success_when="place[1] > 0.5 or reward > 0.5"),
]


def steps(num: int, seed: int) -> tuple[dict[str, NDArray[Any]], NDArray[Any], dict[str, NDArray[Any]]]:
    """Observations of num + 1 instants, actions and signals."""
    rng = np.random.default_rng(seed)
    observations: dict[str, NDArray[Any]] = {
        "place": rng.normal(size=(num + 1, 2)).astype(np.float32),
        "goal": np.zeros((num + 1, 2)),
    }
    signals: dict[str, NDArray[Any]] = {
        "reward": rng.random(num).astype(np.float32),
        "terminated": rng.random(num) < 0.1,
        "success": rng.random(num) < 0.3,
    }
    return observations, rng.normal(size=(num, 2)).astype(np.float32), signals


class OneByOne:
    """The task without its way of judging many steps."""

    def __init__(self, task: Task) -> None:
        self.evaluate = task.evaluate


@given(st.sampled_from(OPTIONS), st.integers(1, 40), st.integers(0, 10**6), st.booleans())
def test_many_steps_are_judged_like_one_by_one(options: TaskOptions, num: int, seed: int, signalled: bool) -> None:
    observations, actions, signals = steps(num, seed)
    if not signalled:
        signals = {"reward": signals["reward"]}
    columns = {name: rows[:-1] for name, rows in observations.items()}
    following = {name: rows[1:] for name, rows in observations.items()}
    task = GymnasiumTask("maze", 10, options)
    found = judge_steps(task, columns, actions, signals, following)
    expected = judge_steps(OneByOne(task), columns, actions, signals, following)  # type: ignore[arg-type]
    ends = np.flatnonzero(expected.terminated)
    kept = int(ends[0]) + 1 if len(ends) else num
    for name in ("rewards", "terminated", "successes"):
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype
        assert a.shape == b.shape == (num,)
        assert np.array_equal(a[:kept], b[:kept])


class Counting(FakeTask):
    """Terminates at the third step, and counts what it is asked."""

    asked = 0

    def evaluate(self, *step: Any) -> Outcome:
        del step
        self.asked += 1
        return Outcome(reward=-float(self.asked), terminated=self.asked == 3, success=self.asked == 2)


def test_nothing_is_asked_beyond_a_termination() -> None:
    observations, actions, signals = steps(8, 0)
    task = Counting()
    found = judge_steps(task, observations, actions, signals, observations)
    assert isinstance(found, Outcomes)
    assert task.asked == 3
    assert found.rewards[:3].tolist() == [-1.0, -2.0, -3.0]
    assert found.terminated.tolist() == [False, False, True, *[False] * 5]
    assert np.flatnonzero(found.successes).tolist() == [1]


def test_a_missing_signal_is_told_as_for_a_single_step() -> None:
    observations, actions, signals = steps(3, 0)
    del signals["reward"]
    task = GymnasiumTask("maze", 10, TaskOptions(reward="stored"))
    with pytest.raises(DataError, match="signals no reward"):
        judge_steps(task, observations, actions, signals, observations)
