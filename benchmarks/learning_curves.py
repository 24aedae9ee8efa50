"""Learning curves with and without prior data, LayerNorm and the other choices; every run resumable.

    python -m benchmarks.learning_curves TASK [--condition rlpd no_prior no_layer_norm] [--seeds 1] [--full]
        [--device cuda] [--minutes 10] [--plot FILE] [--others FILE ...] [--json]

TASK is pick_place (embedded; no file needed), door, umaze or medium. Each condition is the run `rlpd` with one switch,
see `benchmarks/curve_tasks.py`. A run is kept in the run directory and goes on where it was, so that a table can be
filled in pieces: `--minutes` bounds one call, which ends with a checkpoint. The best checkpoint of a finished run is
measured on fresh episodes. `--table` and `--plot` alone show what is there; `--others` shows with it what `--json`
printed on another machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.curve_tasks import CONDITIONS, TASKS, Cell
from benchmarks.machine import machine
from robot_rlpd.config import write_text
from robot_rlpd.errors import TrainingError
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET, evaluate
from robot_rlpd.interrupt import stop_on_signals
from robot_rlpd.learner.checkpoint import load_checkpoint
from robot_rlpd.learner.cloning_session import CloningSession
from robot_rlpd.learner.commands import resolve
from robot_rlpd.learner.metrics import FILE_NAME, read_metrics
from robot_rlpd.learner.policy import open_policy
from robot_rlpd.learner.run_directory import prepare_run_directory, read_run_config
from robot_rlpd.learner.session import Session
from robot_rlpd.safety import SafeRobot
from robot_rlpd.task import load_task

if TYPE_CHECKING:
    from collections.abc import Callable

FINAL_SEED = EVALUATION_SEED_OFFSET + 500_000
DEFAULT_CONDITIONS = ["rlpd", "no_prior", "no_layer_norm"]


def main() -> int:
    """Go on with what is asked for, then show all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(TASKS), help="what is learned")
    parser.add_argument("--condition", nargs="+", choices=list(CONDITIONS), default=DEFAULT_CONDITIONS)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds (default 1)")
    parser.add_argument("--first-seed", type=int, default=0, help="default 0")
    parser.add_argument("--env-steps", type=int, help="budget of each run (default that of the setting)")
    parser.add_argument("--full", action="store_true", help="the full preset instead of the light setting")
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads of a run (default 1)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end this call after so many minutes")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/learning_curves"), help="where runs are kept")
    parser.add_argument("--table", action="store_true", help="train nothing, print what is there")
    parser.add_argument("--plot", type=Path, help="draw the curves of all runs there are (.svg, .png)")
    help_text = "runs of elsewhere, as --json printed them; shown where there is none of that condition and seed here"
    parser.add_argument("--others", type=Path, nargs="+", default=[], metavar="FILE", help=help_text)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    setting = "full" if arguments.full else "light"
    shown = {"task": arguments.task, "setting": setting}
    try:
        others = [row for path in arguments.others for row in _elsewhere(path, shown)]
    except ValueError as error:
        parser.error(f"--others: {error}")
    root = arguments.run_dir / f"{arguments.task}-{setting}"
    if not arguments.table:
        _train_all(arguments, root)
    rows = _table(root)
    for row in others:
        if all((row["condition"], row["seed"]) != (r["condition"], r["seed"]) for r in rows):
            rows.append(row)
    if arguments.plot is not None:
        _plot(rows, arguments.plot, title=f"{arguments.task}, {setting} setting")
    if arguments.json:
        sys.stdout.write(json.dumps({**shown, "runs": rows, "machine": machine()}) + "\n")
    else:
        _print(rows)
    return 0


def _train_all(arguments: argparse.Namespace, root: Path) -> None:
    deadline_s = time.monotonic() + 60.0 * arguments.minutes
    changes = {} if arguments.env_steps is None else {"env_steps": arguments.env_steps}
    with stop_on_signals() as stopped:

        def should_stop() -> bool:
            return stopped() or time.monotonic() > deadline_s

        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            for condition in arguments.condition:
                cell = Cell(
                    task=arguments.task,
                    condition=condition,
                    seed=seed,
                    root=root,
                    full=arguments.full,
                    device=arguments.device,
                    threads=arguments.threads,
                    changes=changes,
                )
                if not should_stop() and not (cell.directory / "result.json").is_file():
                    sys.stderr.write(f"\n{cell.directory}\n")
                    train(cell, should_stop)


def train(cell: Cell, should_stop: Callable[[], bool]) -> None:
    """Begin a run or go on with it; a finished one is measured and its result kept."""
    run_dir = cell.directory / "train"
    command = cell.command()
    begun = (run_dir / "checkpoints" / "latest.pt").is_file()
    config = read_run_config(run_dir) if begun else resolve(command)
    setup = load_task(config.task, config.task_options())
    if not begun:
        prepare_run_directory(config, run_dir)
    with SafeRobot(setup.make_robot()) as robot:
        session: Session | CloningSession
        if config.cloning_steps:
            session = CloningSession(config, run_dir, robot, setup.task)
        else:
            session = Session(config, run_dir, robot, setup.task, resume=begun)
        try:
            reason = session.run(should_stop)
        except TrainingError as error:  # it would end like this again
            ended = {"condition": cell.condition, "seed": cell.seed, "final": None, "ended": str(error)}
            write_text(cell.directory / "result.json", json.dumps(ended | {"machine": machine()}, indent=2))
            return
        finally:
            session.close()
        if reason != "finished":
            return
        policy = open_policy(run_dir, setup.spec)
        episodes = TASKS[cell.task].episodes
        final = evaluate(robot, policy, setup.task, episodes=episodes, first_seed=FINAL_SEED, should_stop=should_stop)
    if final.episodes < episodes:
        return  # cut off: the next call finds a finished run and measures it anew
    result = {
        "condition": cell.condition,
        "seed": cell.seed,
        "env_steps": session.summary(reason)["env_steps"],
        "gradient_steps": session.learner.gradient_steps,
        "trained_s": round(session.trained_s, 1),
        "best_at_env_steps": load_checkpoint(run_dir, prefer="best.pt").env_steps,
        "final": final.to_json(),
        "machine": machine(),
    }
    write_text(cell.directory / "result.json", json.dumps(result, indent=2))


def _table(root: Path) -> list[dict[str, Any]]:
    rows = []
    for run_dir in sorted(root.glob("*/train")):
        condition, _, seed = run_dir.parent.name.rpartition("-")
        records = read_metrics(run_dir)
        found = run_dir.parent / "result.json"
        rows.append(
            {
                "condition": condition,
                "seed": int(seed),
                "env_steps": records[-1]["env_steps"],
                "evaluations": [
                    {"env_steps": r["env_steps"], "successes": r["successes"], "episodes": r["episodes"]}
                    for r in records
                    if r["kind"] == "evaluation"
                ],
                "result": json.loads(found.read_text()) if found.is_file() else None,
            }
        )
    return rows


def _elsewhere(path: Path, shown: dict[str, str]) -> list[dict[str, Any]]:
    """The rows that `--json` printed.

    Raises:
        ValueError: No such file, another one, or of another task or setting.
    """
    try:
        told = json.loads(path.read_text())
        found = {name: told[name] for name in shown}
        rows: list[dict[str, Any]] = told["runs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what --json prints: {error!r}") from None
    if found != shown:
        raise ValueError(f"{path} is of {' '.join(found.values())}; allowed: {' '.join(shown.values())}")
    return rows


def _plot(rows: list[dict[str, Any]], out: Path, *, title: str) -> None:
    from robot_rlpd.learner.plot import plot_curves

    with tempfile.TemporaryDirectory() as folder:
        groups: dict[str, list[Path]] = {}
        for condition in CONDITIONS:
            runs = [row for row in rows if row["condition"] == condition and row["evaluations"]]
            if not runs or "cloning_steps" in CONDITIONS[condition]:  # that has no environment steps
                continue
            label = condition.replace("_", " ")
            if all(row["result"] and row["result"].get("ended") for row in runs):
                label += ", whose Q exploded"
            groups[label] = [_evaluations(row, Path(folder)) for row in runs]
        plot_curves(groups, out, title=title)


def _evaluations(row: dict[str, Any], folder: Path) -> Path:
    """A run directory that holds the evaluations of a row and nothing else."""
    run_dir = folder / f"{row['condition']}-{row['seed']}"
    run_dir.mkdir()
    records = [{"kind": "evaluation", "success_rate": e["successes"] / e["episodes"], **e} for e in row["evaluations"]]
    write_text(run_dir / FILE_NAME, "".join(json.dumps(record) + "\n" for record in records))
    return run_dir


def _print(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        curve = ", ".join(f"{e['env_steps']}: {e['successes']}/{e['episodes']}" for e in row["evaluations"])
        final = row["result"] and row["result"]["final"]
        told = row["result"]["ended"] if row["result"] and not final else "running"
        if final:
            told = f"best checkpoint {final['successes']}/{final['episodes']} {final['ci95']}"
        sys.stdout.write(f"{row['condition']} seed {row['seed']}, {row['env_steps']} steps: {told}; {curve}\n")


if __name__ == "__main__":
    sys.exit(main())
