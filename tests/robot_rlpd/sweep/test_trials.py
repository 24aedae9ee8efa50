"""Which runs a sweep is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.commands import TrainCommand
from robot_rlpd.sweep.trials import trials_of

COMMON = ("--task", "reach")


def options(vary: list[str], seeds: tuple[int, ...] = (0,)) -> dict[str, tuple[str, ...]]:
    return {trial.name: trial.options for trial in trials_of(COMMON, seeds, vary, TrainCommand)}


def test_every_value_is_run_with_every_seed() -> None:
    assert options(["utd_ratio=4,20", "batch-size=64,128"], (0, 7)) == {
        f"utd_ratio-{ratio}_batch_size-{size}_seed-{seed}": (
            *COMMON,
            *("--utd-ratio", ratio, "--batch-size", size, "--seed", seed),
        )
        for ratio in ("4", "20")
        for size in ("64", "128")
        for seed in ("0", "7")
    }


def test_a_value_may_be_several_words_and_a_switch_is_typed_or_not() -> None:
    assert options(["hidden_dims=64 64", "no_layer_norm=yes,no"]) == {
        "hidden_dims-64+64_no_layer_norm-yes_seed-0": (
            *COMMON,
            *("--hidden-dims", "64", "64", "--no-layer-norm", "--seed", "0"),
        ),
        "hidden_dims-64+64_no_layer_norm-no_seed-0": (*COMMON, "--hidden-dims", "64", "64", "--seed", "0"),
    }


def test_a_name_is_a_folder_whatever_its_values_are() -> None:
    (name,) = options(["success_when=observation[0] > 1/2"])
    assert name == "success_when-observation_0_+_+1_2_seed-0"
    (trial,) = trials_of(COMMON, (0,), [], TrainCommand)
    assert trial.words(Path("/out")) == ("train", *COMMON, "--seed", "0", "--run-dir", "/out/seed-0")


@pytest.mark.parametrize(
    ("vary", "seeds", "told"),
    [
        (["nope=1"], (0,), "vary: no such option of train; found nope; allowed: task, prior"),
        (["seed=1,2"], (0,), "vary: no such option of train; found seed"),
        (["utd_ratio"], (0,), "vary: found utd_ratio; allowed: values, such as utd_ratio=A,B"),
        (["utd_ratio=4,"], (0,), "allowed: values"),
        (["no_layer_norm=maybe"], (0,), "vary no_layer_norm: found maybe; allowed: yes or no"),
        ([], (1, 1), "seeds: the same run twice; found seed-1"),
        (["utd_ratio=4,4"], (0,), "vary: the same run twice; found utd_ratio-4_seed-0"),
    ],
)
def test_what_cannot_be_run_is_refused(vary: list[str], seeds: tuple[int, ...], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(vary, seeds)
    assert told in str(caught.value)


@pytest.mark.parametrize("word", ["--seed", "--run-dir=x", "--resume", "--json"])
def test_what_the_sweep_gives_to_each_run_is_not_given_to_all(word: str) -> None:
    with pytest.raises(ConfigError, match="is given to each run by the sweep"):
        trials_of((*COMMON, word), (0,), [], TrainCommand)
