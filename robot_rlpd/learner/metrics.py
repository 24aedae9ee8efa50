"""Metrics of a run: one JSON object per line, appended, readable while the run goes on."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any, Self

from robot_rlpd.errors import RunDirectoryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILE_NAME = "metrics.jsonl"


class MetricsLog:
    """Appends records to `metrics.jsonl`; every record has `kind`, `env_steps`, `gradient_steps` and `wall_s`.

    Args:
        run_dir: Directory of the run.
        wall_offset_s: Training time of earlier parts of the same run.
    """

    def __init__(self, run_dir: Path, *, wall_offset_s: float = 0.0) -> None:
        path = run_dir / FILE_NAME
        torn = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file = path.open("a")
        if torn:  # by a killed process: what follows starts a line of its own
            self._file.write("\n")
        self._started_s = time.monotonic() - wall_offset_s

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

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _jsonable(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(run_dir: Path, kind: str = "") -> Iterator[dict[str, Any]]:
    """The records of a run, of one kind if given; a torn last line is left out.

    Raises:
        RunDirectoryError: The directory holds no metrics.
    """
    path = run_dir / FILE_NAME
    if not path.is_file():
        raise RunDirectoryError("no metrics.jsonl", field=str(run_dir))
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if not kind or record["kind"] == kind:
            yield record
