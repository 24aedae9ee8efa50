from __future__ import annotations

import json
import re
from html import unescape
from typing import TYPE_CHECKING

import pytest

from robot_rlpd.cli import main
from robot_rlpd.errors import ConfigError, RunDirectoryError
from robot_rlpd.learner.metrics import FILE_NAME, MetricsLog
from robot_rlpd.learner.panels import BAND_COLOURS
from robot_rlpd.learner.plot import plot_curves
from robot_rlpd.learner.run_directory import prepare_run_directory
from robot_rlpd.learner.session_config import SessionConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def run(path: Path, successes: Sequence[int], *, every: int = 100, shift: int = 0, seed: int = 0) -> Path:
    """A run directory with evaluations of 20 episodes each."""
    prepare_run_directory(SessionConfig(task="fake", seed=seed), path)
    with MetricsLog(path) as log:
        for i, solved in enumerate(successes, start=1):
            values = {"successes": solved, "episodes": 20, "success_rate": solved / 20}
            log.write("train", i * every, 0, {"q_mean": 0.0})
            log.write("evaluation", i * every + shift, 0, values)
    return path


def texts(path: Path) -> list[str]:
    """What is written in a picture; matplotlib draws text as shapes and leaves it beside them as a comment."""
    return [unescape(text).strip() for text in re.findall(r"<!-- (.*?) -->", path.read_text(), re.DOTALL)]


def test_each_group_of_runs_is_one_line_in_its_own_colour(tmp_path: Path) -> None:
    seeds = [run(tmp_path / f"with-{i}", [0, 10 + i, 20], shift=i) for i in range(3)]
    plot_curves({"with": seeds, "without": [run(tmp_path / "without", [0, 1])]}, tmp_path / "curve.svg", title="reach")
    drawn = (tmp_path / "curve.svg").read_text()
    for colour in BAND_COLOURS[:2]:
        assert drawn.count(f"fill: none; stroke: {colour}") == 2  # the curve and its sample in the legend
        assert drawn.count(f"fill: {colour}; fill-opacity: 0.15") == 1
    assert all(colour not in drawn for colour in BAND_COLOURS[2:])


def test_the_picture_says_how_many_seeds_there_are_and_what_the_bands_are(tmp_path: Path) -> None:
    seeds = [run(tmp_path / "a", [0, 1, 2, 3, 4]), run(tmp_path / "b", [0, 2]), run(tmp_path / "c", [])]
    plot_curves({"many": seeds, "one": [run(tmp_path / "d", [5])]}, tmp_path / "curve.svg", title="reach")
    written = texts(tmp_path / "curve.svg")
    assert {"reach", "many (3 seeds)", "one (1 seed)", "environment steps", "success rate", "(evaluation)"} <= {
        *written
    }
    caption = " ".join(written)
    for note in (
        "line: mean of the seeds, band: their range",
        "band of a single run: 95 % Wilson interval",
        "pale: not every seed got so far",
        "success rate so far in 2 of 3 seeds: many",
    ):
        assert note in caption


@pytest.mark.parametrize(("wall_s", "label"), [(600.0, "training time [min]"), (20_000.0, "training time [h]")])
def test_each_metric_has_a_panel_over_one_axis(wall_s: float, label: str, tmp_path: Path) -> None:
    with MetricsLog(tmp_path, wall_offset_s=wall_s) as log:
        log.write("train", 100, 0, {"q_mean": -1.0, "temperature": 0.5})
        log.write("episode", 120, 0, {"success": True})
    names = ("q_mean", "temperature", "success")
    found = plot_curves({"run": [tmp_path]}, tmp_path / "curve.svg", metrics=names, x="wall_s", window=7)
    assert [str(metric) for metric in found] == ["train/q_mean", "train/temperature", "episode/success"]
    written = texts(tmp_path / "curve.svg")
    assert {"q mean", "temperature", "success", "(last 7 training episodes)", label} <= {*written}
    assert (written.count("(training)"), written.count(label)) == (2, 1)


@pytest.mark.parametrize("num_groups", [0, 7])
def test_any_number_of_groups_is_drawn(tmp_path: Path, num_groups: int) -> None:
    groups = {f"group {i} " + "long " * 30 * (i % 2): [run(tmp_path / str(i), [i])] for i in range(num_groups)}
    plot_curves(groups, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_was_not_evaluated_yet_is_an_empty_line(tmp_path: Path) -> None:
    plot_curves({"new": [run(tmp_path / "new", [])]}, tmp_path / "curve.svg")
    assert {"nothing yet", "no success rate yet: new", "new (1 seed)"} <= {*texts(tmp_path / "curve.svg")}


def test_a_directory_without_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"no metrics\.jsonl"):
        plot_curves({"none": [tmp_path]}, tmp_path / "curve.svg")


def test_another_ending_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out: found .*curve\.gif; allowed: .*\.svg, \.png, \.pdf"):
        plot_curves({}, tmp_path / "curve.gif")


def test_the_command_draws_a_run_that_is_being_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [run(tmp_path / "a", [1, 2], seed=0), run(tmp_path / "b", [1, 2, 3], seed=1)]
    file = paths[0] / FILE_NAME
    file.write_text(file.read_text()[:-5])
    words = ["plot", *map(str, paths), "--metric", "success_rate", "q_mean", "--out", str(tmp_path / "curve.pdf")]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "out": str(tmp_path / "curve.pdf"),
        "metrics": ["evaluation/success_rate", "train/q_mean"],
        "groups": {"a": [str(path) for path in paths]},
    }
    assert (tmp_path / "curve.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(("option", "told"), [("--metric foo", "train/q_mean"), ("--window 0", ">= 1 episode")])
def test_the_command_refuses_in_one_line(
    option: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run(tmp_path / "a", [1])
    assert main(["plot", str(path), "--out", str(tmp_path / "curve.svg"), *option.split()]) == 1
    (message,) = capsys.readouterr().err.splitlines()
    assert told in message
    assert not (tmp_path / "curve.svg").exists()


def test_time_on_the_robot_is_an_axis_and_who_was_never_corrected_is_named(tmp_path: Path) -> None:
    for name in ("corrected", "alone"):
        prepare_run_directory(SessionConfig(task="fake"), tmp_path / name)
        with MetricsLog(tmp_path / name) as log:
            log.write("start", 0, 0, {"control_rate_hz": 10.0})
            log.write("evaluation", 600, 0, {"successes": 1, "episodes": 2, "success_rate": 0.5})
            if name == "corrected":
                log.write("intervention", 600, 0, {"steps": 3, "rate": 0.5, "recent_rate": 0.5})
    groups = {name: [tmp_path / name] for name in ("corrected", "alone")}
    out = tmp_path / "curve.svg"
    plot_curves(groups, out, metrics=("success_rate", "intervention/rate"), x="robot_min")
    told = texts(out)
    assert "time on the robot [min]" in told
    assert any("nobody took over: alone" in text for text in told)
    assert any(text.startswith("intervention rate") for text in told)
