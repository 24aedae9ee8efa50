"""How far the runs of a sweep are, read from their directories."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from robot_rlpd.errors import RunDirectoryError
from robot_rlpd.learner.metrics import END, FILE_NAME, START, read_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ENDED = ("finished", "time limit")
"""Ends after which a run is not gone on with."""
NEWEST_BYTES = 1 << 14
"""Of the end of a file of metrics that the newest record is looked for in."""


def result_of(run_dir: Path) -> dict[str, Any]:
    """What a run has come to; of one that was not begun there is little to tell."""
    try:
        records = read_metrics(run_dir)
    except RunDirectoryError:
        records = []
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    turns = [record for record in records if record["kind"] in (START, END)]
    reason = turns[-1].get("reason") if turns else None
    last = records[-1] if records else {}
    evaluation = evaluations[-1] if evaluations else {}
    return {
        "run_dir": str(run_dir),
        "state": "finished" if reason in ENDED else "begun" if records else "not begun",
        "env_steps": last.get("env_steps", 0),
        "gradient_steps": last.get("gradient_steps", 0),
        "trained_s": last.get("wall_s", 0.0),
        "successes": evaluation.get("successes"),
        "episodes": evaluation.get("episodes"),
        "success_rate": evaluation.get("success_rate"),
        "ci95": evaluation.get("ci95"),
        "best_success_rate": max((record["success_rate"] for record in evaluations), default=None),
    }


def is_finished(run_dir: Path) -> bool:
    """Whether a run came to its end."""
    return bool(result_of(run_dir)["state"] == "finished")


def steps_done(run_dir: Path, counter: str) -> int:
    """A counter of the newest record, without reading all of them; 0 where there is none yet."""
    try:
        with (run_dir / FILE_NAME).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - NEWEST_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)[counter])
        except (ValueError, KeyError):  # torn, as it is being written
            continue
    return 0


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as what is in them; the first row is their titles."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def told(results: Sequence[dict[str, Any]]) -> str:
    """The results of runs as a table."""
    rows = [("run", "state", "env_steps", "solved at last", "best", "minutes", "attempts")]
    for found in results:
        solved, best = "never evaluated", "-"
        if found["episodes"]:
            low, high = found["ci95"]
            solved = f"{found['successes']}/{found['episodes']} ({low:.0%}-{high:.0%})"
            best = f"{found['best_success_rate']:.0%}"
        minutes = f"{found['trained_s'] / 60.0:.1f}"
        steps, attempts = str(found["env_steps"]), str(found["attempts"])
        rows.append((found["name"], found["state"], steps, solved, best, minutes, attempts))
    reasons = [f"{found['name']}: {found['error']}\n" for found in results if found["error"]]
    return table(rows) + "".join(reasons)
