"""The numbers of a run as TensorBoard events, where tensorboardX is installed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from robot_rlpd.learner.csv_tables import COUNTERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tensorboardX import SummaryWriter

    Row = Mapping[str, Any]

DIRECTORY = "tensorboard"
FLUSH_S = 10
"""Longest time until events are on the disk [s]."""
_logger = logging.getLogger(__name__)


class EventFiles:
    """Writes each number of a row as the scalar `KIND/NAME` over environment steps.

    Args:
        writer: Open; taken over.
        began_s: Wall-clock time at which `wall_s` was 0 [s].
    """

    def __init__(self, writer: SummaryWriter, *, began_s: float) -> None:
        self._writer, self._began_s = writer, began_s

    def add(self, kind: str, row: Row) -> None:
        """Write the numbers of one row."""
        for name, value in row.items():
            if name not in COUNTERS and isinstance(value, int | float):
                self._writer.add_scalar(f"{kind}/{name}", value, row["env_steps"], self._began_s + row["wall_s"])

    def close(self) -> None:
        """Write what is not written yet."""
        self._writer.close()


def open_event_files(run_dir: Path, rows: Mapping[str, Sequence[Row]], *, began_s: float) -> EventFiles | None:
    """Begin a new event file in `tensorboard/`; None without tensorboardX.

    The new file begins with all that the run holds by now, and takes the place of earlier ones: a killed process took
    its last events with it.

    Args:
        run_dir: Directory of the run.
        rows: What the run holds by now, by kind.
        began_s: Wall-clock time at which `wall_s` was 0 [s].
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        _logger.info("no TensorBoard events are written; for them: pip install 'robot-rlpd[tensorboard]'")
        return None
    directory = run_dir / DIRECTORY
    count = len(list(directory.glob("*"))) if directory.is_dir() else 0
    writer = SummaryWriter(
        str(directory),
        purge_step=0 if count else None,
        max_queue=0,  # unbounded: training never waits for a slow or full disk
        flush_secs=FLUSH_S,
        filename_suffix=f".{count:04d}",  # the names differ and sort right even within one second
    )
    events = EventFiles(writer, began_s=began_s)
    for kind, known in rows.items():
        for row in known:
            events.add(kind, row)
    return events
