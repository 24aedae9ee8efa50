"""The commands `sweep train` and `sweep actors`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from robot_rlpd.cli import GROUP, parse
from robot_rlpd.config import write_text
from robot_rlpd.errors import ConfigError, RunDirectoryError, StoreError
from robot_rlpd.interrupt import stop_on_signals
from robot_rlpd.progress import ProgressLine
from robot_rlpd.registry import load_entry_point
from robot_rlpd.store_lock import lock
from robot_rlpd.sweep.attempt import Job
from robot_rlpd.sweep.engine import Engine, Needs, check_address, check_installed
from robot_rlpd.sweep.results import is_finished, result_of, steps_done, table, told
from robot_rlpd.sweep.trials import Trial, trials_of
from robot_rlpd.task import load_task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from robot_rlpd.learner.commands import TrainCommand

NOTES = ".sweep"
"""Folder of logs and of what was asked for, hidden, so that `OUT/*` are the runs."""
TRIALS_FILE, RAY_LOG = "trials.json", "ray.log"


@dataclass(frozen=True, kw_only=True)
class SweepTrainCommand:
    """Options of `robot-rlpd sweep train`."""

    options: tyro.conf.Positional[tuple[str, ...]] = ()
    """After --, the options of robot-rlpd train that all runs have in common."""
    out: Path
    """Directory of the sweep; each run is a run directory in it. One that exists is gone on with."""
    seeds: tuple[int, ...] = (0,)
    """One run of everything for each of these seeds."""
    vary: tuple[str, ...] = ()
    """Options of train that vary, each NAME=VALUE,VALUE such as utd_ratio=4,20; words of one value with spaces between
    them, yes or no for a switch. All combinations are run."""
    cpus_per_trial: float = 1.0
    """Cores for each run, above 0; as many runs go on side by side as there are cores for."""
    gpus_per_trial: float = 0.0
    """GPUs for each run; a part such as 0.25 shares one."""
    retries: int = 3
    """How often a run that failed or was killed goes on from its checkpoint; -1 without end."""
    address: str = ""
    """Ray cluster to run on, HOST:PORT; empty runs on this machine. A cluster needs the same folders on all
    machines."""
    json: bool = False
    """Print one JSON object on standard output."""


def train(command: SweepTrainCommand) -> int:
    """Train with several seeds and settings, as many side by side as there is room for.

    Each run is a run directory like any other. One that fails or is killed goes on from its checkpoint, and does not
    end the others. Ctrl-C saves all and ends; the same command again goes on, and leaves out what is finished.
    """
    kind = load_entry_point(GROUP, "train")
    from robot_rlpd.learner.commands import DEFAULT_ENV_STEPS, TrainCommand

    needs = Needs(cpus=command.cpus_per_trial, gpus=command.gpus_per_trial, retries=command.retries)
    out = command.out.absolute()
    options = _with_threads(command.options, needs)
    trials = trials_of(options, command.seeds, command.vary, TrainCommand)
    asked: dict[str, TrainCommand] = {
        trial.name: parse(kind, "train", list(trial.words(out)[1:]), command.json) for trial in trials
    }
    check_installed()
    for one in asked.values():
        _check_run(one, needs)
    check_address(command.address)
    with _begun(out, trials) as notes:
        jobs = [_job(trial.name, trial.words(out), notes, out / trial.name) for trial in trials]
        left = [job for job in jobs if not is_finished(out / job.name)]
        before = {job.name: job.attempts for job in jobs}
        counters = {name: "gradient_steps" if one.cloning_steps else "env_steps" for name, one in asked.items()}
        total = sum(one.cloning_steps or one.env_steps or DEFAULT_ENV_STEPS for one in asked.values())
        failed: dict[str, str] = {}
        with contextlib.closing(ProgressLine(total, unit="steps")) as progress:

            def watch(not_done: int, stopping: bool) -> None:
                steps = sum(steps_done(out / name, counter) for name, counter in counters.items())
                what = "being saved" if stopping else f"of {len(jobs)} runs not finished"
                progress.update(steps, lambda: f"{not_done} {what} | {_again(left, before)}")

            if left:
                with Engine(command.address, notes / RAY_LOG) as engine, stop_on_signals() as should_stop:
                    failed = engine.run(left, needs, should_stop=should_stop, watch=watch)
        results = [
            {"name": job.name, **result_of(out / job.name), "attempts": job.attempts, "error": failed.get(job.name)}
            for job in jobs
        ]
    if command.json:
        sys.stdout.write(json.dumps({"out": str(command.out), "runs": results}) + "\n")
    else:
        sys.stdout.write(told(results))
        sys.stderr.write(_next(command.out, results))
    return 1 if failed else 0


@dataclass(frozen=True, kw_only=True)
class SweepActorsCommand:
    """Options of `robot-rlpd sweep actors`."""

    options: tyro.conf.Positional[tuple[str, ...]] = ()
    """After --, the options of robot-rlpd actor that all have in common, such as --robot sim:reach --pace fast."""
    learner: str
    """Where robot-rlpd train --listen listens: tcp://HOST:PORT or ipc://PATH."""
    out: Path
    """Directory of the outboxes, one for each actor; one that exists is gone on with."""
    count: int = 4
    """Number of actors, at least 1."""
    name: str = "actor"
    """What their names begin with; a number follows."""
    cpus_per_actor: float | None = None
    """Cores for each, above 0 (default: a share of this machine's, so that all act at once; 1 on a cluster)."""
    retries: int = 10
    """How often an actor that failed or was killed is started again; -1 without end."""
    address: str = ""
    """Ray cluster to run on, HOST:PORT; empty runs on this machine."""
    json: bool = False
    """Print one JSON object on standard output."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(field="count", found=self.count, allowed="at least 1")


def actors(command: SweepActorsCommand) -> int:
    """Start many simulated actors for one learner, and start again those that die.

    Each has a name, an outbox and random numbers of its own; what it recorded and could not deliver lies in its outbox
    for the next time. They act until Ctrl-C, or for --episodes each.
    """
    kind = load_entry_point(GROUP, "actor")
    share = 1.0 if command.address else min(1.0, (os.cpu_count() or 1) / command.count)
    cpus = share if command.cpus_per_actor is None else command.cpus_per_actor
    needs = Needs(cpus=cpus, gpus=0.0, retries=command.retries)
    out = command.out.absolute()
    names = [f"{command.name}-{number:0{len(str(command.count - 1))}d}" for number in range(command.count)]
    own = ("--learner", command.learner)
    words = {name: ("actor", *command.options, *own, "--outbox", str(out / name), "--name", name) for name in names}
    for typed in words.values():
        parse(kind, "actor", list(typed[1:]), command.json)
    check_installed()
    check_address(command.address)
    with _locked(out) as notes:
        jobs = [_job(name, typed, notes) for name, typed in words.items()]
        for job in jobs:
            job.result.unlink(missing_ok=True)
        before = {job.name: job.attempts for job in jobs}
        with contextlib.closing(ProgressLine(len(jobs))) as progress:

            def watch(not_done: int, stopping: bool) -> None:
                what = "delivering their last episodes" if stopping else "acting"
                progress.update(len(jobs) - not_done, lambda: f"{not_done} {what} | {_again(jobs, before)}")

            with Engine(command.address, notes / RAY_LOG) as engine, stop_on_signals() as should_stop:
                failed = engine.run(jobs, needs, should_stop=should_stop, watch=watch)
        results = [_acted(job, job.attempts - before[job.name], failed.get(job.name)) for job in jobs]
    if command.json:
        sys.stdout.write(json.dumps({"out": str(command.out), "actors": results}) + "\n")
    else:
        sys.stdout.write(_told_actors(results))
    return 1 if failed else 0


def _check_run(command: TrainCommand, needs: Needs) -> None:
    """Refuse before anything starts what a run would refuse at once; what lies elsewhere, as a device, is not seen."""
    from robot_rlpd.learner.commands import resolve

    config = resolve(command)
    load_task(config.task, config.task_options())
    for path in config.prior:
        if "://" not in str(path) and not path.exists():
            raise StoreError("no such store", field=str(path))
    if config.device != "cpu" and not needs.gpus:
        raise ConfigError(field="gpus_per_trial", found=0, allowed=f"> 0 with --device {config.device}")


def _with_threads(options: Sequence[str], needs: Needs) -> tuple[str, ...]:
    """A run takes as many cores as it was given, unless something else was typed."""
    if any(word.partition("=")[0] == "--threads" for word in options):
        return tuple(options)
    return (*options, "--threads", str(max(1, int(needs.cpus))))


def _again(jobs: Sequence[Job], before: Mapping[str, int]) -> str:
    """How often something died in this call and was begun again."""
    return f"started again {sum(max(0, job.attempts - before[job.name] - 1) for job in jobs)} times"


def _job(name: str, words: tuple[str, ...], notes: Path, run_dir: Path | None = None) -> Job:
    return Job(name=name, words=words, folder=Path.cwd(), notes=notes, run_dir=run_dir)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[Path]:
    """The folder of notes, for this process alone."""
    notes = out / NOTES
    notes.mkdir(parents=True, exist_ok=True)
    descriptor = lock(str(notes))
    try:
        yield notes
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _begun(out: Path, trials: Sequence[Trial]) -> Iterator[Path]:
    """As `_locked`, with what was asked for written down.

    Raises:
        RunDirectoryError: A run of that name is there and was asked for differently, or not by a sweep.
    """
    with _locked(out) as notes:
        file = notes / TRIALS_FILE
        known: dict[str, list[str]] = json.loads(file.read_text()) if file.is_file() else {}
        for trial in trials:
            if trial.name in known and known[trial.name] != list(trial.options):
                was = " ".join(known[trial.name])
                hint = "ask for the same, or choose another --out"
                raise RunDirectoryError(
                    "begun with other options",
                    field=str(out / trial.name),
                    found=" ".join(trial.options),
                    allowed=was,
                    hint=hint,
                )
            if trial.name not in known and (out / trial.name).exists():
                raise RunDirectoryError(
                    "exists already, and is not of this sweep", field=str(out / trial.name), hint="choose another --out"
                )
        write_text(file, json.dumps(known | {trial.name: list(trial.options) for trial in trials}, indent=1) + "\n")
        yield notes


def _next(out: Path, results: Sequence[dict[str, Any]]) -> str:
    missing = sum(found["state"] != "finished" for found in results)
    again = f"{missing} not finished; the same command goes on with them\n" if missing else ""
    return f"{again}next: robot-rlpd plot {out}/* --out curves.svg\n"


def _acted(job: Job, attempts: int, error: str | None) -> dict[str, Any]:
    """What an actor told in the end; the figures of attempts that were killed are not known."""
    found = json.loads(job.result.read_text()) if job.result.is_file() else {}
    names = ("episodes", "env_steps", "policies", "delivered", "pending")
    return {"name": job.name, **{name: found.get(name) for name in names}, "attempts": attempts, "error": error}


def _told_actors(results: Sequence[dict[str, Any]]) -> str:
    titles = ("name", "episodes", "env_steps", "policies", "delivered", "pending", "attempts")
    rows = [
        titles,
        *(tuple("-" if found[title] is None else str(found[title]) for title in titles) for found in results),
    ]
    reasons = [f"{found['name']}: {found['error']}\n" for found in results if found["error"]]
    return table(rows) + "".join(reasons)
