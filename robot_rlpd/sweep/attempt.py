"""What runs where Ray puts it: one try to bring a run or an actor to its end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import shlex
import shutil
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from robot_rlpd.cli import INTERRUPTED, main
from robot_rlpd.config import write_text
from robot_rlpd.errors import RobotRlpdError

BEGUN = "== "
"""How the line of the log begins that an attempt begins with."""


class AttemptError(RobotRlpdError):
    """A run or an actor ended before its end; another attempt may go on with it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command that is to come to its end, in as many attempts as it takes.

    Attributes:
        name: Tells it from the others.
        words: The command.
        folder: Where it is typed, absolute; on a cluster the same on every machine.
        notes: Where its log and its result are kept.
        run_dir: Of a run that is gone on with where it was; None for a command that is simply typed again.
    """

    name: str
    words: tuple[str, ...]
    folder: Path
    notes: Path
    run_dir: Path | None = None

    @property
    def log(self) -> Path:
        """What all attempts said."""
        return self.notes / f"{self.name}.log"

    @property
    def result(self) -> Path:
        """What the last attempt printed that came to its end, a JSON object."""
        return self.notes / f"{self.name}.json"

    @property
    def attempts(self) -> int:
        """How often it was begun or gone on with."""
        if not self.log.is_file():
            return 0
        with self.log.open(errors="replace") as lines:
            return sum(line.startswith(BEGUN) for line in lines)


def attempt(job: Job) -> None:
    """Run the command in this process, with everything that it says in its log.

    The first Ctrl-C that reaches this process ends it as it ends the command that is typed by hand: saved.

    Raises:
        AttemptError: It failed; says why in a line.
    """
    try:
        os.chdir(job.folder)
        file = job.log.open("a", buffering=1)
    except OSError as error:
        hint = "the machines of a cluster need the same folders"
        raise AttemptError(f"{error.strerror} on {platform.node()}", field=str(error.filename), hint=hint) from None
    printed = io.StringIO()
    with file, contextlib.redirect_stdout(printed), contextlib.redirect_stderr(file):
        words = _words(job)
        when, where = datetime.now(UTC).isoformat(timespec="seconds"), f"{platform.node()}, process {os.getpid()}"
        file.write(f"{BEGUN}{when} {where}: robot-rlpd {shlex.join(words)}\n")
        try:
            status = main([*words, "--json"])
        except Exception:
            traceback.print_exc(file=file)
            raise
    told = _last_object(printed.getvalue())
    if status not in (0, INTERRUPTED):
        raise AttemptError(told.get("error", {}).get("message", f"exit status {status}"))
    write_text(job.result, json.dumps(told) + "\n")


def _words(job: Job) -> tuple[str, ...]:
    """The command to type; a run that left no checkpoint to go on from is begun anew."""
    if job.run_dir is None or not job.run_dir.exists():
        return job.words
    from robot_rlpd.learner.checkpoint import LATEST
    from robot_rlpd.learner.run_directory import CHECKPOINTS, read_run_config

    if (job.run_dir / CHECKPOINTS / LATEST).is_file() and not read_run_config(job.run_dir).cloning_steps:
        return ("train", "--resume", str(job.run_dir))
    shutil.rmtree(job.run_dir)
    return job.words


def _last_object(printed: str) -> dict[str, Any]:
    lines = printed.splitlines()
    return dict(json.loads(lines[-1])) if lines else {}
