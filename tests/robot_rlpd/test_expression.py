import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rlpd.errors import ConfigError
from robot_rlpd.expression import Condition

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP = {"observation": np.arange(5.0), "goal": np.array([3.0, 4.0]), "done": np.array(True)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("observation[4] >= 4", True),
        ("observation[-1] > 4", False),
        ("norm(goal) == 5 and done", True),
        ("not done or abs(-goal[0]) < 3", False),
        ("0 < observation[1] < 2", True),
        ("max(observation[1:3]) == 2", True),
        ("sum(goal) / 7 == 1", True),
        ("norm(goal - observation[3:5]) < 0.1", True),
    ],
)
def test_conditions_mean_what_they_say(text: str, expected: bool) -> None:
    assert Condition(text)(STEP) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "observation[",
        "__import__('os')",
        "().__class__",
        "observation.shape",
        "[x for x in goal]",
        "lambda: 1",
        "open('x')",
        "2 ** 99999999",
        "'text' == 'text'",
        "goal @ goal",
        "f'{goal}'",
        "max(goal, key=abs)",
        "(" * 300 + "1" + ")" * 300,
    ],
)
def test_everything_else_is_refused_before_it_runs(text: str) -> None:
    with pytest.raises(ConfigError, match="success_when"):
        Condition(text)


def test_unknown_names_and_indices_are_told_with_what_exists() -> None:
    with pytest.raises(ConfigError, match="allowed: observation, goal, done"):
        Condition("hinge > 1").check_names(STEP)
    with pytest.raises(ConfigError, match="out of bounds"):
        Condition("observation[40] > 1")(STEP)
    with pytest.raises(ConfigError, match="shape"):
        Condition("observation > 1")(STEP)


CONDITIONS = [
    "observation[4] >= 4",
    "norm(goal) <= 5 and done",
    "not done or abs(-goal[0]) < 3",
    "0 < observation[1] < 2",
    "max(observation[1:3]) == 2 or 1 > 2",
    "sum(goal) / goal[1] == 1",
    "norm(goal - observation[3:5]) < 0.1",
    "observation[2] > 1 or observation[0] / goal[0] > 0",
    "min(goal) < 2.5 < 3",
    "1 < 2",
]


@given(st.sampled_from(CONDITIONS), st.integers(1, 30), st.integers(0, 10**6))
def test_many_steps_at_once_are_judged_like_one_by_one(text: str, num_steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps: dict[str, NDArray[Any]] = {
        "observation": rng.integers(0, 4, (num_steps, 5)).astype(np.float32),
        "goal": rng.integers(0, 4, (num_steps, 2)).astype(np.float64),
        "done": rng.random(num_steps) < 0.5,
    }
    condition = Condition(text)
    single = [condition({name: rows[t] for name, rows in steps.items()}) for t in range(num_steps)]
    assert condition.each(steps).tolist() == single


def test_entries_are_not_mistaken_for_steps() -> None:
    steps: dict[str, NDArray[Any]] = {"observation": np.zeros((3, 3)), "flag": np.zeros(3, np.bool_)}
    for text in ("observation > 1", "observation[0:2] < 1", "not observation", "flag and observation"):
        with pytest.raises(ConfigError, match="shape"):
            Condition(text).each(steps)
    with pytest.raises(ConfigError, match="too many indices"):
        Condition("flag[0]").each(steps)


@given(st.text(max_size=40))
def test_any_text_gives_a_condition_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert Condition(text).text == text
