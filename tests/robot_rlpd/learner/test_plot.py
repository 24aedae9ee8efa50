from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from robot_rlpd.errors import RunDirectoryError
from robot_rlpd.evaluation import wilson_interval
from robot_rlpd.learner.metrics import MetricsLog
from robot_rlpd.learner.plot import BAND_COLOURS, _band, group_runs, plot_curves
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.learner.run_directory import prepare_run_directory
from robot_rlpd.learner.session_config import SessionConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def run(path: Path, successes: Sequence[int], *, every: int = 100, shift: int = 0) -> Path:
    """A run directory with evaluations of 20 episodes each."""
    path.mkdir()
    with MetricsLog(path) as log:
        for i, solved in enumerate(successes, start=1):
            values = {"successes": solved, "episodes": 20, "success_rate": solved / 20}
            log.write("train", i * every, 0, {"q_mean": 0.0})
            log.write("evaluation", i * every + shift, 0, values)
    return path


def evaluations(successes: Sequence[int], steps: Sequence[int]) -> list[dict[str, float]]:
    return [
        {"env_steps": s, "successes": n, "episodes": 20, "success_rate": n / 20}
        for n, s in zip(successes, steps, strict=True)
    ]


def test_each_group_of_runs_is_one_line_in_its_own_colour(tmp_path: Path) -> None:
    seeds = [run(tmp_path / f"with-{i}", [0, 10 + i, 20], shift=i) for i in range(3)]
    plot_curves({"with": seeds, "without": [run(tmp_path / "without", [0, 1])]}, tmp_path / "curve.svg", title="reach")
    drawn = (tmp_path / "curve.svg").read_text()
    assert "<svg" in drawn
    for colour in BAND_COLOURS[:2]:
        assert drawn.count(f"fill: none; stroke: {colour}") == 2  # the curve and its sample in the legend
        assert drawn.count(f"fill: {colour}; fill-opacity: 0.15") == 1
    assert all(colour not in drawn for colour in BAND_COLOURS[2:])


@pytest.mark.parametrize("num_groups", [0, 7])
def test_any_number_of_groups_is_drawn(tmp_path: Path, num_groups: int) -> None:
    groups = {f"group {i}": [run(tmp_path / str(i), [i])] for i in range(num_groups)}
    plot_curves(groups, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_was_not_evaluated_yet_is_an_empty_line(tmp_path: Path) -> None:
    plot_curves({"new": [run(tmp_path / "new", [])]}, tmp_path / "curve.svg")
    assert "<svg" in (tmp_path / "curve.svg").read_text()


def test_a_directory_without_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"no metrics\.jsonl"):
        plot_curves({"none": [tmp_path]}, tmp_path / "curve.svg")


def test_the_band_of_a_single_run_is_the_interval_of_each_evaluation() -> None:
    steps, middle, low, high = _band([evaluations([0, 5, 20], [100, 200, 300])])
    assert steps.tolist() == [100, 200, 300]
    assert middle.tolist() == [0.0, 0.25, 1.0]
    bounds = [wilson_interval(n, 20) for n in (0, 5, 20)]
    np.testing.assert_allclose(np.stack([low, high], axis=1), bounds)


def test_the_band_of_several_runs_is_their_range_about_their_mean() -> None:
    runs = [evaluations([0, 10, 20], [100, 200, 300]), evaluations([0, 4, 8], [102, 198, 300])]
    steps, middle, low, high = _band(runs)
    assert steps.tolist() == [100, 200, 300]
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert (low[2], middle[2], high[2]) == (0.4, pytest.approx(0.7), 1.0)


def test_runs_that_differ_in_their_seeds_are_one_group_and_others_are_told_apart(tmp_path: Path) -> None:
    runs = {
        "a": SessionConfig(task="fake", seed=0, prior=(tmp_path / "demos-0.zarr",)),
        "b": SessionConfig(task="fake", seed=1, prior=(tmp_path / "demos-1.zarr",), robot="tcp://127.0.0.1:5555"),
        "c": SessionConfig(task="fake", seed=0),
        "d": SessionConfig(task="fake", seed=0, rlpd=RLPDConfig(layer_norm=False)),
    }
    for name, config in runs.items():
        prepare_run_directory(config, tmp_path / name)
    groups = group_runs([tmp_path / name for name in runs])
    assert {label: [path.name for path in paths] for label, paths in groups.items()} == {
        "prior yes, layer_norm True": ["a", "b"],
        "prior none, layer_norm True": ["c"],
        "prior none, layer_norm False": ["d"],
    }
    assert list(group_runs([tmp_path / "a", tmp_path / "b"])) == ["a"]
