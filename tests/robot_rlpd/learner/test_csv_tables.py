from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest

from robot_rlpd.learner.csv_tables import CsvTables
from robot_rlpd.learner.metrics import MetricsLog

if TYPE_CHECKING:
    from pathlib import Path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def row(env_steps: int, **values: float) -> dict[str, float]:
    return {"env_steps": env_steps, "gradient_steps": 2 * env_steps, "wall_s": 0.5, **values}


def test_each_kind_is_a_table_that_is_read_while_the_run_goes_on(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log.write("start", 0, 0, {"prior": "none"})
        log.write("train", 100, 200, {"q_mean": -3.5})
        assert (tmp_path / "train.csv").read_text().startswith("env_steps,gradient_steps,wall_s,q_mean\n100,200,")
        log.write("train", 200, 400, {"q_mean": float("nan")})
        log.write("evaluation", 200, 400, {"ci95": [0.25, 1.0], "task": "reach, far"})
        assert [(row["env_steps"], row["q_mean"]) for row in rows(tmp_path / "train.csv")] == [
            ("100", "-3.5"),
            ("200", ""),
        ]
        (evaluation,) = rows(tmp_path / "evaluation.csv")
        assert (evaluation["ci95_low"], evaluation["ci95_high"], evaluation["task"]) == ("0.25", "1.0", "reach, far")
        log.write("end", 200, 400, {"reason": "finished"})
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["evaluation.csv", "train.csv"]


def test_a_column_that_comes_later_is_added_and_is_empty_before(tmp_path: Path) -> None:
    tables = CsvTables(tmp_path, {})
    tables.add("train", row(1, rate=5.0))
    tables.add("train", row(2, rate=4.0, q_mean=-1.5))
    tables.add("train", row(3, q_mean=-2.5))
    tables.close()
    assert (tmp_path / "train.csv").read_text().splitlines() == [
        "env_steps,gradient_steps,wall_s,rate,q_mean",
        "1,2,0.5,5.0,",
        "2,4,0.5,4.0,-1.5",
        "3,6,0.5,,-2.5",
    ]


@pytest.mark.parametrize("cut", [0, 1, 4])
def test_a_resumed_run_repairs_a_torn_row_and_has_no_row_twice(cut: int, tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log.write("start", 0, 0, {})
        for step in (100, 200, 300):
            log.write("train", step, 0, {"made": "first"})
        log.write("evaluation", 300, 0, {"success_rate": 1.0})
    table = tmp_path / "train.csv"
    table.write_text(table.read_text()[: len(table.read_text()) - cut])
    with MetricsLog(tmp_path) as log:
        log.write("start", 200, 0, {})
        assert [row["env_steps"] for row in rows(table)] == ["100", "200"]
        assert rows(tmp_path / "evaluation.csv") == []
        log.write("train", 300, 0, {"made": "again"})
        log.write("evaluation", 300, 0, {"success_rate": 0.5})
    assert [(row["env_steps"], row["made"]) for row in rows(table)] == [
        ("100", "first"),
        ("200", "first"),
        ("300", "again"),
    ]
    assert [row["success_rate"] for row in rows(tmp_path / "evaluation.csv")] == ["0.5"]


def test_a_run_that_has_only_its_metrics_gets_its_tables_when_it_goes_on(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log.write("start", 0, 0, {})
        log.write("episode", 10, 0, {"success": True})
    (tmp_path / "episode.csv").unlink()
    with MetricsLog(tmp_path) as log:
        log.write("start", 10, 0, {})
    assert [row["success"] for row in rows(tmp_path / "episode.csv")] == ["1"]
