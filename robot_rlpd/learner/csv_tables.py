"""The records of a run as CSV files, one per kind."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from robot_rlpd.config import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Row = Mapping[str, Any]

COUNTERS = ("env_steps", "gradient_steps", "wall_s")
"""First columns of every table."""


class CsvTables:
    """`KIND.csv` for each kind of record: a header, then a row per record, flushed one by one.

    Args:
        directory: Where the files are.
        rows: What each kind holds by now; existing files of these kinds are replaced.
    """

    def __init__(self, directory: Path, rows: Mapping[str, Sequence[Row]]) -> None:
        self._directory = directory
        self._tables = {kind: _Table(directory / f"{kind}.csv", known) for kind, known in rows.items()}

    def add(self, kind: str, row: Row) -> None:
        """Append a row to the table of `kind`."""
        if kind in self._tables:
            self._tables[kind].append(row)
        else:
            self._tables[kind] = _Table(self._directory / f"{kind}.csv", [row])

    def close(self) -> None:
        """Close the files."""
        for table in self._tables.values():
            table.close()


class _Table:
    """One file. It is written anew when a column is added, and else only grows."""

    def __init__(self, path: Path, rows: Sequence[Row]) -> None:
        self._path = path
        self._replace(rows)

    def append(self, row: Row) -> None:
        if row.keys() <= self._columns.keys():
            self._writer.writerow(row)
            self._file.flush()
            return
        self._file.close()
        with self._path.open(newline="") as file:
            earlier = list(csv.DictReader(file))
        self._replace([*earlier, row])

    def close(self) -> None:
        self._file.close()

    def _replace(self, rows: Sequence[Row]) -> None:
        self._columns = dict.fromkeys((*COUNTERS, *(name for row in rows for name in row)))
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self._columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self._path, text.getvalue())
        self._file = self._path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, list(self._columns), lineterminator="\n")
