"""What the cells of `benchmarks.sim_to_real` are made of: the policy from simulation, prior data, sessions."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from demos.recording.plan import Plan
from demos.recording.run import run as record
from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.config import write_text
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET, evaluate
from robot_rlpd.learner.checkpoint import BEST, LATEST, load_checkpoint
from robot_rlpd.learner.commands import TrainCommand
from robot_rlpd.learner.commands import resolve as resolve_training
from robot_rlpd.learner.corrector_device import CorrectorDevice
from robot_rlpd.learner.finetune_commands import FinetuneCommand
from robot_rlpd.learner.finetune_config import START, read_finetune_config
from robot_rlpd.learner.finetune_opening import open_session
from robot_rlpd.learner.finetune_resolve import resolve, steps_in
from robot_rlpd.learner.metrics import read_metrics
from robot_rlpd.learner.policy import open_policy
from robot_rlpd.learner.run_directory import CHECKPOINTS, prepare_run_directory, read_run_config
from robot_rlpd.learner.session import Session
from robot_rlpd.learner.success import SignalledTask
from robot_rlpd.safety import SafeRobot
from robot_rlpd.task import TaskOptions, load_task
from sim.calibrate import calibrate
from sim.served import find_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.robot import Robot

CONDITIONS = ("both", "scratch", "demonstrations", "own", "corrected", "needed")
FINAL_SEED = EVALUATION_SEED_OFFSET + 700_000
DEMONSTRATIONS = 20
CALIBRATED_BY = 10
"""Demonstrations that a calibration is found from."""
NOISE = 0.5
"""Mistakes of experts and person."""
EVALUATIONS = 10
"""During a session, the one before its first step not counted."""
RATE_POINTS = 10
"""Into how many parts of the session the rate of interventions is summed up."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured.

    Attributes:
        task: Name of the task.
        profile: Of the stand-in.
        minutes: Time on the stand-in [min].
        sim_steps: Environment steps in simulation.
        limit_steps: Time limit of an episode on the stand-in [control steps]; None for the task's own.
        utd_ratio: Critic updates per step on the stand-in; None for those in simulation.
        sim_share: Share of simulation among the prior data of `both`, `corrected` and `needed`, above 0 and below 1.
        previous_actions: How many actions before are observed, in simulation and on the stand-in.
        target_entropy: Of the policy, in simulation and on the stand-in; None for the preset's.
        calibrated: Whether the stand-in is calibrated first, by demonstrations that serve nothing else.
        pace: Of the stand-in.
        episodes: Of the measurements before and after.
        eval_episodes: Of each evaluation in between.
        root: Where everything is kept.
    """

    task: str
    profile: str
    minutes: float
    sim_steps: int
    limit_steps: int | None
    utd_ratio: int | None
    sim_share: float
    previous_actions: int
    target_entropy: float | None
    calibrated: bool
    pace: str
    episodes: int
    eval_episodes: int
    root: Path

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Of the simulated task and of the stand-in."""
        return {"previous_actions": self.previous_actions} if self.previous_actions else {}

    @property
    def standin_kwargs(self) -> dict[str, Any]:
        """Of the stand-in: as the simulated task, and calibrated where it is by now."""
        path = calibration_file(self)
        return self.env_kwargs | (json.loads(path.read_text()) if path.is_file() else {})

    def judge(self) -> SignalledTask:
        """The robot's signal says what is solved."""
        return SignalledTask(self.task, self.limit_steps or load_task(self.task).task.max_episode_steps)


def calibration_file(setting: Setting) -> Path:
    """What the stand-in is set to by its calibration, as its `--env-kwargs`."""
    return setting.root / "calibration.json"


def calibration(setting: Setting, address: str) -> bool:
    """The person demonstrates on the stand-in as it is, and what it is off by is found; whether that is known."""
    path, seen = calibration_file(setting), setting.root / "calibration.zarr"
    if not path.is_file() and demonstrated(setting, seen, CALIBRATED_BY, 30_000, address):
        with EpisodeStore.open(seen) as store:
            found = calibrate(find_task(setting.task, field="task"), store.load_all(), seed=0)
        write_text(path, json.dumps({"calibration": found.values}))
    return path.is_file()


def prepare(setting: Setting, seed: int, address: str, should_stop: Callable[[], bool]) -> bool:
    """Everything that the cells of a seed begin with; whether all of it is there."""
    return (
        simulation(setting, seed, should_stop)
        and demonstrations(setting, seed, address, should_stop)
        and before(setting, seed, address, should_stop)
        and own_rollouts(setting, seed, address, should_stop)
    )


def simulation(setting: Setting, seed: int, should_stop: Callable[[], bool]) -> bool:
    """The policy from simulation; whether it is there."""
    run_dir = setting.root / f"sim-{seed}"
    prior = setting.root / f"sim_demos-{seed}.zarr"
    options = TaskOptions(env_kwargs=setting.env_kwargs)
    setup = load_task(setting.task, options)
    if not prior.exists():
        plan = Plan(setup=setup, task_options=options, episodes=DEMONSTRATIONS, noise=NOISE, seed=1000 * seed)
        if not recorded(plan, prior):
            return False
    begun = (run_dir / CHECKPOINTS / LATEST).is_file()
    command = TrainCommand(
        task=setting.task,
        env_kwargs=json.dumps(setting.env_kwargs),
        prior=(prior,),
        preset="quickstart",
        target_entropy=setting.target_entropy,
        env_steps=setting.sim_steps,
        seed=seed,
        run_dir=run_dir,
    )
    config = read_run_config(run_dir) if begun else resolve_training(command)
    if begun and load_checkpoint(run_dir).env_steps >= config.env_steps:
        return True
    if not begun:
        prepare_run_directory(config, run_dir)
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
    return demonstrated(setting, path, DEMONSTRATIONS, 10_000 + 1000 * seed, address)


def demonstrated(setting: Setting, path: Path, episodes: int, seed: int, address: str) -> bool:
    """Record what the person shows on the stand-in; whether it is there."""
    options = TaskOptions(reward="stored", env_kwargs=setting.env_kwargs)
    plan = Plan(
        setup=load_task(setting.task, options),
        task_options=options,
        robot=address,
        device=f"demonstrator:{setting.profile}",
        episodes=episodes,
        noise=NOISE,
        seed=seed,
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


def cell_of(setting: Setting, condition: str, seed: int) -> Path:
    """Directory of a cell."""
    return setting.root / f"{condition}-{seed}"


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
    last = after and measure(setting, run_dir / CHECKPOINTS / LATEST, address, should_stop)
    if not after or not last:
        return  # cut off: the next call finds a finished session and measures it anew
    rate_hz = session.contract.control_rate_hz
    result = {
        "condition": condition,
        "seed": seed,
        "robot_min": session.env_steps / rate_hz / 60.0,
        "before": json.loads((setting.root / f"before-{seed}.json").read_text()),
        "after": after,
        "after_last": last,
        "interventions": intervention_rates(run_dir, session.env_steps, rate_hz),
        "summary": session.summary(reason),
        "machine": machine(),
    }
    write_text(cell_of(setting, condition, seed) / "result.json", json.dumps(result, indent=2))


def best_of(run_dir: Path) -> Path:
    """The best checkpoint by the session's own evaluations, the later one where two are equally good."""
    best = run_dir / CHECKPOINTS / BEST
    return best if best.is_file() else run_dir / CHECKPOINTS / START


def intervention_rates(run_dir: Path, env_steps: int, rate_hz: float) -> list[dict[str, float]]:
    """How much was taken over in equal parts of a session, as means over their episodes; empty where nobody could."""
    parts: list[list[dict[str, Any]]] = [[] for _ in range(RATE_POINTS)]
    for found in read_metrics(run_dir, "intervention"):
        parts[min(RATE_POINTS - 1, RATE_POINTS * found["env_steps"] // (env_steps + 1))].append(found)
    return [
        {
            "until_min": (index + 1) * env_steps / RATE_POINTS / rate_hz / 60.0,
            "rate": sum(found["rate"] for found in part) / len(part),
            "episodes_taken_over": sum(found["steps"] > 0 for found in part) / len(part),
            "episodes": len(part),
        }
        for index, part in enumerate(parts)
        if part
    ]


def scratch(setting: Setting, run_dir: Path, seed: int, address: str, robot: Robot) -> Session:
    """New networks, the demonstrations, and the same time."""
    begun = (run_dir / CHECKPOINTS / LATEST).is_file()
    env_steps = steps_in(setting.minutes, robot.spec.control_rate_hz)
    command = TrainCommand(
        task=setting.task,
        robot=address,
        prior=(setting.root / f"demos-{seed}.zarr",),
        preset="quickstart",
        utd_ratio=setting.utd_ratio,
        target_entropy=setting.target_entropy,
        max_episode_steps=setting.limit_steps,
        env_steps=env_steps,
        eval_every=max(1, env_steps // EVALUATIONS),
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
    env_steps = steps_in(setting.minutes, robot.spec.control_rate_hz)
    weights = () if condition in stores else (setting.sim_share, 1.0 - setting.sim_share)
    command = FinetuneCommand(
        start=setting.root / f"sim-{seed}",
        robot=address,
        prior=stores.get(condition, both),
        prior_weights=weights,
        success="robot",
        minutes=setting.minutes,
        wall_minutes=1e6,
        utd_ratio=setting.utd_ratio,
        max_episode_steps=setting.limit_steps,
        eval_every=max(1, env_steps // EVALUATIONS),
        eval_episodes=setting.eval_episodes,
        intervene=f"demonstrator:{setting.profile}" if condition in ("corrected", "needed") else "",
        takeover="stuck" if condition == "needed" else "late",
        seed=seed,
        run_dir=run_dir,
    )
    resumed = (run_dir / CHECKPOINTS / START).is_file()
    start = load_checkpoint(setting.root / f"sim-{seed}", prefer=BEST)
    if resumed:
        config, asked = replace(read_run_config(run_dir), robot=address), read_finetune_config(run_dir)
    else:
        config, asked = resolve(command, start)
    device = CorrectorDevice(asked, robot.spec, load_task(setting.task), seed=seed)
    return open_session(config, asked, run_dir, start, robot, setting.judge(), device, resumed=resumed)
