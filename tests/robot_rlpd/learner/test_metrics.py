import json
from pathlib import Path

import numpy as np
import pytest

from robot_rlpd.errors import RunDirectoryError
from robot_rlpd.learner.metrics import FILE_NAME, MetricsLog, flat, read_metrics


def test_every_record_names_its_kind_and_counters(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log.write("train", 100, 2000, {"q_mean": -3.5})
        log.write("episode", 120, 2400, {"success": True, "ended": "terminated"})
    first, second = read_metrics(tmp_path)
    assert first.pop("wall_s") >= 0.0
    assert first == {"kind": "train", "env_steps": 100, "gradient_steps": 2000, "q_mean": -3.5}
    assert (second["success"], second["ended"]) == (True, "terminated")


def test_records_are_read_while_the_run_goes_on(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log.write("start", 0, 0, {})
        assert [record["kind"] for record in read_metrics(tmp_path)] == ["start"]
        log.write("end", 1, 0, {})
        assert [record["kind"] for record in read_metrics(tmp_path)] == ["start", "end"]


def test_records_of_one_kind_are_found(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        for step in range(6):
            log.write("train" if step % 2 else "episode", step, 0, {})
    assert [record["env_steps"] for record in read_metrics(tmp_path, "train")] == [1, 3, 5]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_what_json_cannot_hold_becomes_null(tmp_path: Path, value: float) -> None:
    with MetricsLog(tmp_path) as log:
        log.write("train", 1, 0, {"critic_loss": value})
    text = (tmp_path / FILE_NAME).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["critic_loss"] is None


def test_a_resumed_run_appends_and_its_time_goes_on(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log.write("end", 10, 0, {})
    with MetricsLog(tmp_path, wall_offset_s=1000.0) as log:
        log.write("start", 10, 0, {})
    first, second = read_metrics(tmp_path)
    assert first["wall_s"] < 1000.0 <= second["wall_s"]


def test_a_torn_last_line_is_left_out_and_harms_no_later_record(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log.write("train", 1, 0, {})
        log.write("train", 2, 0, {})
    path = tmp_path / FILE_NAME
    path.write_text(path.read_text()[:-9])
    assert [record["env_steps"] for record in read_metrics(tmp_path)] == [1]
    with MetricsLog(tmp_path) as log:
        log.write("train", 3, 0, {})
    assert [record["env_steps"] for record in read_metrics(tmp_path)] == [1, 3]


def test_records_that_a_resumed_run_makes_again_count_once_and_steps_never_go_back(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log.write("start", 0, 0, {})
        for step in (100, 200, 300):
            log.write("train", step, 0, {"made": "first"})
            log.write("episode", step, 0, {})
    with MetricsLog(tmp_path) as log:
        log.write("start", 200, 0, {})
        log.write("train", 300, 0, {"made": "again"})
        log.write("train", 400, 0, {"made": "again"})
    made = [(record["env_steps"], record["made"]) for record in read_metrics(tmp_path, "train")]
    assert made == [(100, "first"), (200, "first"), (300, "again"), (400, "again")]
    assert [record["env_steps"] for record in read_metrics(tmp_path, "episode")] == [100, 200]
    assert len((tmp_path / FILE_NAME).read_text().splitlines()) == 10


def test_a_run_that_begins_anew_before_its_first_checkpoint_counts_nothing_from_before(tmp_path: Path) -> None:
    for _ in range(2):
        with MetricsLog(tmp_path) as log:
            log.write("start", 0, 0, {})
            log.write("train", 100, 0, {})
    assert [record["env_steps"] for record in read_metrics(tmp_path, "train")] == [100]


@pytest.mark.parametrize(
    ("name", "value", "columns"),
    [
        ("ci95", [0.25, 0.75], {"ci95_low": 0.25, "ci95_high": 0.75}),
        ("success", True, {"success": 1}),
        ("ended", "terminated", {"ended": "terminated"}),
        ("mean_return", None, {"mean_return": None}),
        ("lengths", [1, 2, 3], {}),
        ("nested", {"a": 1}, {}),
    ],
)
def test_what_fits_a_column_gets_one(name: str, value: object, columns: dict[str, object]) -> None:
    assert flat({"kind": "evaluation", name: value}) == columns


def test_a_directory_without_metrics_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=f"{tmp_path}: no metrics.jsonl"):
        list(read_metrics(tmp_path))
