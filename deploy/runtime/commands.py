"""The command `run`: a policy file on a robot, at its rate, with limits and watchdog."""

from __future__ import annotations

import contextlib
import gc
import json as json_format
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from deploy.runtime.onnx_policy import OnnxPolicy, read_policy
from deploy.runtime.timing import LoopTimes, TimedPolicy
from robot_rlpd.config import parse_json_object
from robot_rlpd.episode import Episode
from robot_rlpd.errors import ConfigError
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET, Evaluation, evaluate
from robot_rlpd.interrupt import stop_on_signals
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.progress import ProgressLine
from robot_rlpd.safety import SafeRobot
from robot_rlpd.specs import check_contract
from robot_rlpd.task import SignalTask, Task, TaskOptions, TaskSetup, load_task

if TYPE_CHECKING:
    from robot_rlpd.robot import Robot
    from robot_rlpd.rollout import Listener

INTERRUPTED = 130
SEEDS_APART = 10_000
"""Reset seeds between two values of `--seed`, as for `eval`."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Options of `run`."""

    policy: tyro.conf.Positional[Path]
    """Policy file, as written by `robot-rlpd export`."""
    robot: str
    """Robot: tcp://HOST:PORT or ipc://PATH of a served one, sim:TASK, gymnasium:ID, or a driver's NAME:ARGUMENT."""
    task: str = ""
    """Task that judges; default: the robot's own signals, with the time limit of the policy file."""
    episodes: int = 1
    """Number of episodes, at least 1."""
    seed: int = 0
    """Shifts the reset seeds, at least 0; the same seed resets as in `robot-rlpd eval`."""
    record: Path | None = None
    """Store to which every episode is added; made if it does not exist. Default: nothing is recorded."""
    pace: Literal["real", "fast"] = "real"
    """real: a step takes its control period; fast: a simulator in this process steps as fast as it can."""
    max_episode_steps: int | None = None
    """Time limit of an episode in control steps, at least 1; default: that of the policy file."""
    env_kwargs: str = ""
    """JSON object of keyword arguments for a gymnasium environment; default: those of the policy file."""
    json: bool = False
    """Print one JSON object on standard output when done."""

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("seed", 0), ("max_episode_steps", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(field=name, found=value, allowed=f"at least {least}")


def run(config: RunConfig) -> int:
    """Run an ONNX policy on a robot at its rate.

    The first Ctrl-C (or SIGTERM) stops the robot after the step that is running and reports what was done; the second
    interrupts at once.
    """
    started_s = time.perf_counter()
    policy = read_policy(config.policy)
    setup, task, options = _task(config, policy)
    timed = TimedPolicy(policy)
    progress = ProgressLine(config.episodes)
    done = Evaluation(task.name)

    def show(evaluation: Evaluation, episode: Episode) -> None:
        nonlocal done
        done = evaluation
        progress.update(evaluation.episodes, f"{episode.info.ended}, {len(episode)} steps; {_solved(evaluation)}")

    with contextlib.ExitStack() as stack:
        should_stop = stack.enter_context(stop_on_signals())
        robot = stack.enter_context(_open(config, policy, options))
        policy.check_robot(robot.spec)
        if setup is not None:
            check_contract(setup.spec.contract(), robot.spec, who=f"for task '{task.name}', robot '{robot.spec.name}'")
        judged = bool(config.task) or "success" in {s.name for s in robot.spec.signals}
        if not judged:
            sys.stderr.write("the robot does not signal success: name a task with --task to have it judged\n")
        times = LoopTimes(robot.spec.control_rate_hz)
        listeners: list[Listener] = [times]
        if config.record is not None:
            listeners.append(_recorder(config.record, robot, policy, stack))
        stack.enter_context(_loaded_objects_frozen())
        try:
            evaluate(
                robot,
                timed,
                task,
                episodes=config.episodes,
                first_seed=EVALUATION_SEED_OFFSET + SEEDS_APART * config.seed,
                listeners=listeners,
                on_episode=show,
                should_stop=should_stop,
            )
        except BaseException:
            progress.close()
            sys.stderr.write(f"cut off after {done.episodes} whole episodes: {_solved(done)}\n")
            raise
        progress.close()
        stopped = should_stop() and done.episodes < config.episodes
    first_s = timed.first_action_at_s
    report = {
        **_judged(done.to_json(), judged=judged),
        "policy": str(config.policy),
        "fingerprint": policy.contract.fingerprint,
        "digest": policy.digest,
        "robot": config.robot,
        "rate_hz": times.rate_hz,
        "wanted_rate_hz": robot.spec.control_rate_hz,
        "late_ticks": times.late_ticks,
        "latency_us": timed.latency_us(),
        "first_action_s": None if first_s is None else round(first_s - started_s, 4),
        "clipped_actions": robot.counts.clipped_steps if isinstance(robot, SafeRobot) else None,
        "record": None if config.record is None else str(config.record),
        "torch_imported": "torch" in sys.modules,
        "stopped": stopped,
    }
    print(json_format.dumps(report) if config.json else _told(report, done))
    return INTERRUPTED if stopped else 0


def _task(config: RunConfig, policy: OnnxPolicy) -> tuple[TaskSetup | None, Task, TaskOptions]:
    """The named task, who judges, and the options for the task and for a robot that is made of it."""
    told = policy.metadata
    limit = config.max_episode_steps or told.max_episode_steps
    options = replace(told.task_options, max_episode_steps=limit)
    if config.env_kwargs:
        options = replace(options, env_kwargs=parse_json_object(config.env_kwargs, field="env_kwargs"))
    if config.task:
        setup = load_task(config.task, options)
        return setup, setup.task, options
    return None, SignalTask(told.task or "signals", limit), options


def _open(config: RunConfig, policy: OnnxPolicy, options: TaskOptions) -> Robot:
    from robot_rlpd.bridge.robots import REMOTE, open_robot

    robot = open_robot(config.robot, options=options, contract=policy.contract)
    if config.robot.startswith(REMOTE):
        return robot  # limits and pace are on its own side
    return SafeRobot(PacedRobot(robot) if config.pace == "real" else robot)


def _recorder(path: Path, robot: Robot, policy: OnnxPolicy, stack: contextlib.ExitStack) -> Listener:
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.spool import StoreListener

    def with_policy(episode: Episode) -> Episode:
        return replace(episode, info=replace(episode.info, policy=f"onnx:{policy.digest}"))

    store = stack.enter_context(EpisodeStore.create(path, robot.spec, exist_ok=True))
    return StoreListener(store, label=with_policy)


@contextlib.contextmanager
def _loaded_objects_frozen() -> Iterator[None]:
    """The garbage collector does not look again at what is loaded by now, which can take longer than a period."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _judged(result: dict[str, Any], *, judged: bool) -> dict[str, Any]:
    return result if judged else result | dict.fromkeys(("successes", "success_rate", "ci95", "solved_step_share"))


def _solved(evaluation: Evaluation) -> str:
    return f"solved {evaluation.successes} of {evaluation.episodes}"


def _told(report: dict[str, Any], done: Evaluation) -> str:
    outcome = f"{done.episodes} episodes, success unknown" if report["success_rate"] is None else str(done)
    lines = [f"{report['policy']} on {report['robot']}, task {report['task']}: {outcome}"]
    if report["latency_us"] is not None and report["rate_hz"] is not None:
        latency = report["latency_us"]
        lines.append(
            f"{report['rate_hz']:.1f} Hz of {report['wanted_rate_hz']:g} Hz, {report['late_ticks']} of "
            f"{report['steps']} steps late; inference {latency['p50']:.0f} us, 99 % within {latency['p99']:.0f} us"
        )
    if report["record"] is not None:
        lines.append(f"recorded in {report['record']}")
    return "\n".join(lines)
