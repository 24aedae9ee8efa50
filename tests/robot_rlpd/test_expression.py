import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rlpd.errors import ConfigError
from robot_rlpd.expression import Condition

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


@given(st.text(max_size=40))
def test_any_text_gives_a_condition_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert Condition(text).text == text
