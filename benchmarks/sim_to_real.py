"""From simulation to a stand-in of the real robot: success before and after some minutes on it, in resumable cells.

    python -m benchmarks.sim_to_real [--task pick_place] [--condition both scratch demonstrations own corrected]
        [--seeds 3] [--minutes 20] [--profile hard] [--for-minutes 10] [--table] [--plot FILE] [--json]

For each seed a policy is trained in simulation (the quickstart preset's networks and utd_ratio: lighter than the
paper's), and 20 demonstrations are recorded on the stand-in by the person who knows it. The policy's success on the
stand-in is measured (before), then each condition has the same time on it, counted in control steps; the stand-in is a
process of its own behind the bridge and may run faster than real time (`--pace real` does not). Success is the robot's
signal. Evaluations are not counted as time on the robot, and stated as such.

  both            RLPD from the simulation policy, prior data half simulation, half demonstrations
  demonstrations  the same with the demonstrations alone as prior data
  own             the same with the policy's own rollouts on the stand-in alone as prior data
  scratch         RLPD from new networks and random motion, with the same 20 demonstrations
  corrected       `both` with the person taking over in episodes that are not solved at half of their time limit

A cell is kept and goes on where it was: `--for-minutes` bounds one call. The best checkpoint of a finished cell is
measured on fresh starts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from demos.recording.plan import Plan
from demos.recording.run import run as record
from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.config import write_text
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET, evaluate
from robot_rlpd.interrupt import stop_on_signals
from robot_rlpd.learner import finetune_commands
from robot_rlpd.learner.checkpoint import BEST, load_checkpoint
from robot_rlpd.learner.commands import TrainCommand
from robot_rlpd.learner.commands import resolve as resolve_training
from robot_rlpd.learner.corrector_device import CorrectorDevice
from robot_rlpd.learner.finetune_commands import FinetuneCommand
from robot_rlpd.learner.finetune_config import START, read_finetune_config
from robot_rlpd.learner.metrics import read_metrics
from robot_rlpd.learner.policy import open_policy
from robot_rlpd.learner.run_directory import CHECKPOINTS, prepare_run_directory, read_run_config
from robot_rlpd.learner.session import Session
from robot_rlpd.learner.success import SignalledTask
from robot_rlpd.safety import SafeRobot
from robot_rlpd.task import TaskOptions, load_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from robot_rlpd.robot import Robot

CONDITIONS = ("both", "scratch", "demonstrations", "own", "corrected")
FINAL_SEED = EVALUATION_SEED_OFFSET + 700_000
DEMONSTRATIONS = 20
SIM_STEPS = {"reach": 6_000, "pick_place": 30_000}
"""Steps in simulation until the policy is at its plateau; others have the last number."""
NOISE = 0.5
"""Mistakes of experts and person."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured.

    Attributes:
        task: Name of the task.
        profile: Of the stand-in.
        minutes: Time on the stand-in [min].
        sim_steps: Environment steps in simulation.
        utd_ratio: Critic updates per step on the stand-in; None for those in simulation.
        pace: Of the stand-in.
        episodes: Of the measurements before and after.
        eval_episodes: Of each evaluation in between, eleven of them.
        root: Where everything is kept.
    """

    task: str
    profile: str
    minutes: float
    sim_steps: int
    utd_ratio: int | None
    pace: str
    episodes: int
    eval_episodes: int
    root: Path

    def judge(self) -> SignalledTask:
        """The robot's signal says what is solved."""
        return SignalledTask(self.task, load_task(self.task).task.max_episode_steps)


def main() -> int:
    """Go on with what is asked for, then show what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pick_place", help="default pick_place")
    parser.add_argument("--condition", nargs="+", choices=CONDITIONS, default=list(CONDITIONS), help="default all")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument("--first-seed", type=int, default=0, help="default 0")
    parser.add_argument("--minutes", type=float, default=20.0, help="time on the stand-in [min] (default 20)")
    parser.add_argument("--profile", default="hard", help="of the stand-in (default hard)")
    parser.add_argument("--sim-steps", type=int, help="steps in simulation (default until its plateau)")
    parser.add_argument("--utd-ratio", type=int, help="critic updates per step (default as in simulation)")
    parser.add_argument("--pace", choices=["fast", "real"], default="fast", help="of the stand-in (default fast)")
    parser.add_argument("--episodes", type=int, default=50, help="of the measurements (default 50)")
    parser.add_argument("--eval-episodes", type=int, default=20, help="of evaluations in between (default 20)")
    parser.add_argument("--for-minutes", type=float, default=float("inf"), help="end this call after so many minutes")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/sim_to_real"), help="where cells are kept")
    parser.add_argument("--table", action="store_true", help="train nothing, print what is there")
    parser.add_argument("--plot", type=Path, help="draw success over steps on the robot (.svg, .png)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    name = f"{asked.task}-{asked.profile.replace(':', '_')}-{asked.minutes:g}min-{asked.pace}"
    setting = Setting(
        task=asked.task,
        profile=asked.profile,
        minutes=asked.minutes,
        sim_steps=asked.sim_steps or SIM_STEPS.get(asked.task, 30_000),
        utd_ratio=asked.utd_ratio,
        pace=asked.pace,
        episodes=asked.episodes,
        eval_episodes=asked.eval_episodes,
        root=asked.run_dir / name,
    )
    if not asked.table:
        seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
        run_all(setting, seeds, asked.condition, deadline_s=time.monotonic() + 60.0 * asked.for_minutes)
    if asked.plot is not None:
        plot(setting, asked.plot)
    show(setting, as_json=asked.json)
    return 0


def run_all(setting: Setting, seeds: range, conditions: list[str], *, deadline_s: float) -> None:
    """Every cell that is not finished, as far as the time allows."""
    with stop_on_signals() as stopped, stand_in(setting) as address:

        def should_stop() -> bool:
            return stopped() or time.monotonic() > deadline_s

        for seed in seeds:
            prepare = (simulation, demonstrations, before, own_rollouts)
            if not all(step(setting, seed, address, should_stop) for step in prepare):
                return
            for condition in conditions:
                if not should_stop() and not (cell_of(setting, condition, seed) / "result.json").is_file():
                    sys.stderr.write(f"\n{cell_of(setting, condition, seed)}\n")
                    run_cell(setting, condition, seed, address, should_stop)


@contextlib.contextmanager
def stand_in(setting: Setting) -> Iterator[str]:
    """The stand-in, served by a process of its own; the address to reach it."""
    robot = f"standin:{setting.task}:{setting.profile}"
    words = ["serve", "--robot", robot, "--address", "tcp://127.0.0.1:0", "--pace", setting.pace, "--json"]
    program = [sys.executable, "-c", "from robot_rlpd.cli import main; raise SystemExit(main())", *words]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield str(json.loads(process.stdout.readline())["address"])
        finally:
            process.terminate()
            process.communicate()  # it says how it went


def cell_of(setting: Setting, condition: str, seed: int) -> Path:
    """Directory of a cell."""
    return setting.root / f"{condition}-{seed}"


def simulation(setting: Setting, seed: int, address: str, should_stop: Callable[[], bool]) -> bool:
    """The policy from simulation; whether it is there."""
    del address
    run_dir = setting.root / f"sim-{seed}"
    prior = setting.root / f"sim_demos-{seed}.zarr"
    if not prior.exists():
        setup, noise = load_task(setting.task), NOISE
        plan = Plan(setup=setup, task_options=TaskOptions(), episodes=DEMONSTRATIONS, noise=noise, seed=1000 * seed)
        if not recorded(plan, prior):
            return False
    begun = (run_dir / CHECKPOINTS / "latest.pt").is_file()
    command = TrainCommand(
        task=setting.task, prior=(prior,), preset="quickstart", env_steps=setting.sim_steps, seed=seed, run_dir=run_dir
    )
    config = read_run_config(run_dir) if begun else resolve_training(command)
    if begun and load_checkpoint(run_dir).env_steps >= config.env_steps:
        return True
    if not begun:
        prepare_run_directory(config, run_dir)
    setup = load_task(setting.task)
    with SafeRobot(setup.make_robot()) as robot:
        session = Session(config, run_dir, robot, setup.task, resume=begun)
        reason = session.run(should_stop)
        session.close()
    return reason == "finished"


def demonstrations(setting: Setting, seed: int, address: str, should_stop: Callable[[], bool]) -> bool:
    """What the person shows on the stand-in; whether it is there."""
    path = setting.root / f"demos-{seed}.zarr"
    if path.exists() or should_stop():
        return path.exists()
    options = TaskOptions(reward="stored")
    plan = Plan(
        setup=load_task(setting.task, options),
        task_options=options,
        robot=address,
        device=f"demonstrator:{setting.profile}",
        episodes=DEMONSTRATIONS,
        noise=NOISE,
        seed=10_000 + 1000 * seed,
    )
    return recorded(plan, path)


def recorded(plan: Plan, path: Path) -> bool:
    """Record a whole store; whether it is there."""
    part = path.with_name(f"part-{path.name}")
    shutil.rmtree(part, ignore_errors=True)
    if record(replace(plan, out=part)).status != 0:
        return False
    part.rename(path)
    return True


def before(setting: Setting, seed: int, address: str, should_stop: Callable[[], bool]) -> bool:
    """Success of the simulation policy on the stand-in; whether it is measured."""
    path = setting.root / f"before-{seed}.json"
    if not path.is_file() and not should_stop():
        measured = measure(setting, setting.root / f"sim-{seed}", address, should_stop)
        if measured is not None:
            write_text(path, json.dumps(measured))
    return path.is_file()


def own_rollouts(setting: Setting, seed: int, address: str, should_stop: Callable[[], bool]) -> bool:
    """As many episodes of the simulation policy on the stand-in as there are demonstrations; whether they are there."""
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.spool import StoreListener

    path = setting.root / f"own-{seed}.zarr"
    if path.exists() or should_stop():
        return path.exists()
    part = path.with_name(f"part-{path.name}")
    shutil.rmtree(part, ignore_errors=True)
    with RemoteRobot(address) as robot, EpisodeStore.create(part, robot.spec) as store:
        policy = open_policy(setting.root / f"sim-{seed}", robot.spec)
        seeds = 20_000 + 1000 * seed
        listeners = [StoreListener(store)]
        evaluate(robot, policy, setting.judge(), episodes=DEMONSTRATIONS, first_seed=seeds, listeners=listeners)
    part.rename(path)
    return True


def measure(setting: Setting, policy: Path, address: str, should_stop: Callable[[], bool]) -> dict[str, Any] | None:
    """Success on fresh starts; None when it was cut off."""
    with RemoteRobot(address) as robot:
        found = evaluate(
            robot,
            open_policy(policy, robot.spec),
            setting.judge(),
            episodes=setting.episodes,
            first_seed=FINAL_SEED,
            should_stop=should_stop,
        )
    return found.to_json() if found.episodes == setting.episodes else None


def run_cell(setting: Setting, condition: str, seed: int, address: str, should_stop: Callable[[], bool]) -> None:
    """Begin a cell or go on with it; a finished one is measured and its result kept."""
    run_dir = cell_of(setting, condition, seed) / "run"
    with RemoteRobot(address) as robot:
        session = scratch(setting, run_dir, seed, address, robot) if condition == "scratch" else None
        if session is None:
            session = finetuned(setting, condition, run_dir, seed, address, robot)
        reason = session.run(should_stop)
        session.close()
    if reason not in ("finished", "time limit"):
        return
    after = measure(setting, best_of(run_dir), address, should_stop)
    if after is None:
        return  # cut off: the next call finds a finished session and measures it anew
    result = {
        "condition": condition,
        "seed": seed,
        "robot_min": session.env_steps / session.contract.control_rate_hz / 60.0,
        "before": json.loads((setting.root / f"before-{seed}.json").read_text()),
        "after": after,
        "summary": session.summary(reason),
        "machine": machine(),
    }
    write_text(cell_of(setting, condition, seed) / "result.json", json.dumps(result, indent=2))


def best_of(run_dir: Path) -> Path:
    """The best checkpoint by the session's own evaluations, the later one where two are equally good."""
    best = run_dir / CHECKPOINTS / BEST
    return best if best.is_file() else run_dir / CHECKPOINTS / START


def scratch(setting: Setting, run_dir: Path, seed: int, address: str, robot: Robot) -> Session:
    """New networks, the demonstrations, and the same time."""
    begun = (run_dir / CHECKPOINTS / "latest.pt").is_file()
    env_steps = finetune_commands.steps_in(setting.minutes, robot.spec.control_rate_hz)
    command = TrainCommand(
        task=setting.task,
        robot=address,
        prior=(setting.root / f"demos-{seed}.zarr",),
        preset="quickstart",
        utd_ratio=setting.utd_ratio,
        env_steps=env_steps,
        eval_every=max(1, env_steps // 10),
        eval_episodes=setting.eval_episodes,
        seed=seed,
        run_dir=run_dir,
    )
    config = replace(read_run_config(run_dir), robot=address) if begun else resolve_training(command)
    if not begun:
        prepare_run_directory(config, run_dir)
    return Session(config, run_dir, robot, setting.judge(), resume=begun)


def finetuned(setting: Setting, condition: str, run_dir: Path, seed: int, address: str, robot: Robot) -> Session:
    """From the simulation policy, with the prior data of the condition."""
    stores = {
        "demonstrations": (setting.root / f"demos-{seed}.zarr",),
        "own": (setting.root / f"own-{seed}.zarr",),
    }
    both = (setting.root / f"sim-{seed}" / "episodes.zarr", setting.root / f"demos-{seed}.zarr")
    env_steps = finetune_commands.steps_in(setting.minutes, robot.spec.control_rate_hz)
    command = FinetuneCommand(
        start=setting.root / f"sim-{seed}",
        robot=address,
        prior=stores.get(condition, both),
        success="robot",
        minutes=setting.minutes,
        wall_minutes=1e6,
        utd_ratio=setting.utd_ratio,
        eval_every=max(1, env_steps // 10),
        eval_episodes=setting.eval_episodes,
        intervene=f"demonstrator:{setting.profile}" if condition == "corrected" else "",
        seed=seed,
        run_dir=run_dir,
    )
    resumed = (run_dir / CHECKPOINTS / START).is_file()
    start = load_checkpoint(setting.root / f"sim-{seed}", prefer=BEST)
    if resumed:
        config, asked = replace(read_run_config(run_dir), robot=address), read_finetune_config(run_dir)
    else:
        config, asked = finetune_commands.resolve(command, start)
    device = CorrectorDevice(asked, robot.spec, load_task(setting.task), seed=seed)
    return finetune_commands.open_session(
        config, asked, run_dir, start, robot, setting.judge(), device, resumed=resumed
    )


def plot(setting: Setting, out: Path) -> None:
    """Success over steps on the robot, one line per condition."""
    from robot_rlpd.learner.plot import plot_curves

    groups = {name: sorted(setting.root.glob(f"{name}-*/run")) for name in CONDITIONS}
    title = f"{setting.task}, stand-in {setting.profile}: {setting.minutes:g} min on the robot"
    plot_curves({name: runs for name, runs in groups.items() if runs}, out, title=title)


def show(setting: Setting, *, as_json: bool) -> None:
    """One line per cell, finished or not."""
    rows: list[dict[str, Any]] = []
    for run_dir in sorted(setting.root.glob("*/run")):
        condition, _, seed = run_dir.parent.name.rpartition("-")
        found = run_dir.parent / "result.json"
        curve = [
            {"env_steps": record["env_steps"], "successes": record["successes"], "episodes": record["episodes"]}
            for record in read_metrics(run_dir, "evaluation")
        ]
        result = json.loads(found.read_text()) if found.is_file() else None
        rows.append({"condition": condition, "seed": int(seed), "evaluations": curve, "result": result})
    if as_json:
        print(json.dumps({"cells": rows, "machine": machine()}))
        return
    for path in sorted(setting.root.glob("before-*.json")):
        print(f"{'before':<15} seed {path.stem.rpartition('-')[2]}: {rate(json.loads(path.read_text()))}")
    for row in rows:
        after = rate(row["result"]["after"]) if row["result"] else "not finished"
        told = ", ".join(f"{e['env_steps']}: {e['successes']}/{e['episodes']}" for e in row["evaluations"])
        print(f"{row['condition']:<15} seed {row['seed']}: {after}; {told}")


def rate(found: dict[str, Any]) -> str:
    """Successes with n and a 95 % interval."""
    low, high = (100 * bound for bound in found["ci95"])
    return f"{found['successes']}/{found['episodes']} ({low:.0f} to {high:.0f} %)"


if __name__ == "__main__":
    sys.exit(main())
