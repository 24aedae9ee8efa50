"""Metrics of a run: one JSON object per line, appended, readable while the run goes on."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any, Protocol, Self

from robot_rlpd.errors import RunDirectoryError
from robot_rlpd.learner.csv_tables import CsvTables
from robot_rlpd.learner.event_files import open_event_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILE_NAME = "metrics.jsonl"
START, END = "start", "end"
RATE = "control_rate_hz"
"""In a start record: what environment steps are worth in time on the robot."""


class MetricsView(Protocol):
    """Shows the records of a run in another format."""

    def add(self, kind: str, row: Mapping[str, Any]) -> None:
        """Take one record, as `flat` gives it."""

    def close(self) -> None:
        """Write what is not written yet."""


class MetricsLog:
    """Appends records to `metrics.jsonl`; every record has `kind`, `env_steps`, `gradient_steps` and `wall_s`.

    The first record is of kind `start`, that of a resumed run too: its `env_steps` is where the run goes on, and
    records from beyond, made before it was cut off, no longer count. All that count, but for `start` and `end`, are
    also rows of `KIND.csv` and, with the extra `tensorboard`, TensorBoard events.

    Args:
        run_dir: Directory of the run.
        wall_offset_s: Training time of earlier parts of the same run.
    """

    def __init__(self, run_dir: Path, *, wall_offset_s: float = 0.0) -> None:
        self._run_dir = run_dir
        path = run_dir / FILE_NAME
        torn = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file = path.open("a")
        if torn:  # by a killed process: what follows starts a line of its own
            self._file.write("\n")
        self._started_s = time.monotonic() - wall_offset_s
        self._views: list[MetricsView] = []

    def write(self, kind: str, env_steps: int, gradient_steps: int, values: Mapping[str, Any]) -> None:
        """Append one record; numbers that JSON cannot hold become null."""
        record = {
            "kind": kind,
            "env_steps": env_steps,
            "gradient_steps": gradient_steps,
            "wall_s": round(time.monotonic() - self._started_s, 3),
            **{name: _jsonable(value) for name, value in values.items()},
        }
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if kind == START:
            self._open_views()
        elif kind != END:
            for view in self._views:
                view.add(kind, flat(record))

    def close(self) -> None:
        """Close all files."""
        self._file.close()
        while self._views:
            self._views.pop().close()

    def _open_views(self) -> None:
        """Anew from what counts: that repairs what a killed process left, and drops what will be made again."""
        rows: dict[str, list[dict[str, Any]]] = {record["kind"]: [] for record in _records(self._run_dir)}
        for record in read_metrics(self._run_dir):
            rows[record["kind"]].append(flat(record))
        rows = {kind: rows[kind] for kind in rows if kind not in (START, END)}
        self._views.append(CsvTables(self._run_dir, rows))
        events = open_event_files(self._run_dir, rows, began_s=time.time() - (time.monotonic() - self._started_s))
        if events is not None:
            self._views.append(events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _jsonable(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """What fits one column each: numbers, strings and None; a range `NAME` becomes `NAME_low` and `NAME_high`."""
    values: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, list | tuple) and len(value) == 2:
            values[f"{name}_low"], values[f"{name}_high"] = value
        elif value is None or isinstance(value, int | float | str):
            values[name] = int(value) if isinstance(value, bool) else value
    values.pop("kind", None)
    return values


def read_metrics(run_dir: Path, kind: str = "") -> list[dict[str, Any]]:
    """The records of a run, of one kind if given; a torn last line is left out.

    Also left out are records that a resumed run made again or went back behind, see `MetricsLog`.

    Raises:
        RunDirectoryError: The directory holds no metrics.
    """
    kept: list[dict[str, Any]] = []
    for record in _records(run_dir):
        if record["kind"] == START:
            kept = [earlier for earlier in kept if earlier["env_steps"] <= record["env_steps"]]
        kept.append(record)
    return [record for record in kept if not kind or record["kind"] == kind]


def _records(run_dir: Path) -> Iterator[dict[str, Any]]:
    path = run_dir / FILE_NAME
    if not path.is_file():
        raise RunDirectoryError("no metrics.jsonl", field=str(run_dir))
    with path.open() as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue
