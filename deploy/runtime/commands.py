"""The command `run`: a policy file on a robot, at its rate, with limits and watchdog."""

from __future__ import annotations

import contextlib
import json as json_format
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from deploy.runtime.control import RunControl
from deploy.runtime.drive import Driven, Start, drive
from deploy.runtime.keys import HELP, keys_control
from deploy.runtime.onnx_policy import OnnxPolicy, read_policy
from deploy.runtime.real_time import SpinningClock
from deploy.runtime.timing import EDGES_US
from robot_rlpd.clock import MonotonicClock
from robot_rlpd.config import parse_json_object
from robot_rlpd.episode import Episode
from robot_rlpd.errors import ConfigError
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET, Evaluation
from robot_rlpd.interrupt import stop_on_signals
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.progress import ProgressLine
from robot_rlpd.safety import SafeRobot
from robot_rlpd.specs import check_contract
from robot_rlpd.task import SignalTask, Task, TaskOptions, TaskSetup, load_task
from robot_rlpd.watchdog import AUTONOMOUS, watched

if TYPE_CHECKING:
    from robot_rlpd.robot import Robot
    from robot_rlpd.rollout import Listener

INTERRUPTED = 130
START_S = 0.5
HIGHEST_PRIORITY = 99
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
    hold_s: float | None = None
    """Seconds for which the robot is held at the start of an episode; default 0.5 for a robot that runs in real time in
    this process, else 0."""
    ramp_s: float | None = None
    """Seconds over which the policy's actions then grow to their full size; default as for --hold-s."""
    command_timeout_s: float = AUTONOMOUS.command_timeout_s or 0.0
    """Seconds that the policy may take over one action before the robot is stopped; 0 waits for ever. Real pace in this
    process only: a served robot's side has its own watchdog."""
    max_missed_ticks: int = AUTONOMOUS.max_missed_ticks or 0
    """Actions in a row that may come more than a period late before the robot is stopped; 0 for any number.
    Likewise."""
    real_time_priority: int | None = None
    """Run the loop under SCHED_FIFO with this priority, 1 to 99, waiting to the microsecond; needs permission."""
    max_episode_steps: int | None = None
    """Time limit of an episode in control steps, at least 1; default: that of the policy file."""
    env_kwargs: str = ""
    """JSON object: arguments of a gymnasium environment, or cameras, image_size, randomization,
    calibration, previous_actions of a simulated task; default: those of the policy file."""
    json: bool = False
    """Print one JSON object on standard output when done."""

    def __post_init__(self) -> None:
        least = {"episodes": 1, "seed": 0, "max_episode_steps": 1, "hold_s": 0, "ramp_s": 0}
        for name, lowest in (least | {"command_timeout_s": 0, "max_missed_ticks": 0, "real_time_priority": 1}).items():
            value = getattr(self, name)
            if value is not None and not (lowest <= value < math.inf):
                raise ConfigError(field=name, found=value, allowed=f"at least {lowest}")
        if self.real_time_priority is not None and self.real_time_priority > HIGHEST_PRIORITY:
            raise ConfigError(field="real_time_priority", found=self.real_time_priority, allowed="1 to 99")


def run(config: RunConfig) -> int:
    """Run an ONNX policy on a robot at its rate.

    Check, warm up, hold, ramp in, run. In a terminal, p or space pauses and resumes, q stops. The first Ctrl-C (or
    SIGTERM) stops the robot after the step that is running and reports what was done; the second interrupts at once.
    """
    started_s = time.perf_counter()
    policy = read_policy(config.policy)
    setup, task, options = _task(config, policy)
    progress, done = ProgressLine(config.episodes), Evaluation(task.name)

    def show(evaluation: Evaluation, episode: Episode) -> None:
        nonlocal done
        done = evaluation
        progress.update(evaluation.episodes, f"{episode.info.ended}, {len(episode)} steps; {_solved(evaluation)}")

    with contextlib.ExitStack() as stack:
        control = RunControl(stack.enter_context(stop_on_signals()))
        robot = stack.enter_context(_open(config, policy, options))
        policy.check_robot(robot.spec)
        if setup is not None:
            check_contract(setup.spec.contract(), robot.spec, who=f"for task '{task.name}', robot '{robot.spec.name}'")
        judged = bool(config.task) or "success" in {s.name for s in robot.spec.signals}
        if not judged:
            sys.stderr.write("the robot does not signal success: name a task with --task to have it judged\n")
        listeners = [] if config.record is None else [_recorder(config.record, robot, policy, stack)]
        if stack.enter_context(keys_control(control)):
            sys.stderr.write(f"{HELP}\n")
        try:
            driven = drive(
                robot,
                policy,
                task,
                episodes=config.episodes,
                first_seed=EVALUATION_SEED_OFFSET + SEEDS_APART * config.seed,
                start=_start(config),
                control=control,
                listeners=listeners,
                on_episode=show,
            )
        except BaseException:
            progress.close()
            sys.stderr.write(f"cut off after {done.episodes} whole episodes: {_solved(done)}\n")
            raise
        progress.close()
    report = {
        **_judged(done.to_json(), judged=judged),
        "policy": str(config.policy),
        "fingerprint": policy.contract.fingerprint,
        "digest": policy.digest,
        "robot": config.robot,
        **_timed(driven, robot, started_s),
        **_filtered(robot),
        "record": None if config.record is None else str(config.record),
        "torch_imported": "torch" in sys.modules,
        "stopped": driven.stopped,
    }
    held = robot.counts.held_back() if isinstance(robot, SafeRobot) else ""
    print(json_format.dumps(report) if config.json else _told(report, done, held))
    return INTERRUPTED if driven.stopped else 0


def _start(config: RunConfig) -> Start:
    default_s = START_S if _owns_the_pace(config) else 0.0
    return Start(
        hold_s=default_s if config.hold_s is None else config.hold_s,
        ramp_s=default_s if config.ramp_s is None else config.ramp_s,
        real_time_priority=config.real_time_priority,
    )


def _owns_the_pace(config: RunConfig) -> bool:
    """Whether the robot runs in real time in this process."""
    return config.pace == "real" and not _is_served(config)


def _is_served(config: RunConfig) -> bool:
    from robot_rlpd.bridge.robots import REMOTE

    return config.robot.startswith(REMOTE)


def _timed(driven: Driven, robot: Robot, started_s: float) -> dict[str, Any]:
    policy, times, first_s = driven.policy, driven.times, driven.policy.first_action_at_s
    return {
        "rate_hz": times.rate_hz,
        "wanted_rate_hz": robot.spec.control_rate_hz,
        "late_ticks": times.late_ticks,
        "latency_us": policy.latency_us(),
        "lateness_us": times.lateness_us(),
        "histogram": {"edges_us": list(EDGES_US), "latency": policy.histogram(), "lateness": times.histogram()},
        "first_action_s": None if first_s is None else round(first_s - started_s, 4),
    }


def _filtered(robot: Robot) -> dict[str, Any]:
    """What the safety filter changed; null where it works on a served robot's side."""
    names = ("clipped_actions", "limited_actions", "limited_by", "holds")
    counts = robot.counts.to_json() if isinstance(robot, SafeRobot) else dict.fromkeys(names)
    return {name: counts[name] for name in names}


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
    from robot_rlpd.bridge.robots import open_robot

    robot = open_robot(config.robot, options=options, contract=policy.contract)
    if _is_served(config):
        return robot  # limits and pace are on its own side
    if config.pace == "fast":
        return SafeRobot(robot)
    watch = replace(
        AUTONOMOUS,
        command_timeout_s=config.command_timeout_s or None,
        max_missed_ticks=config.max_missed_ticks or None,
    )
    clock = MonotonicClock() if config.real_time_priority is None else SpinningClock()
    return watched(PacedRobot(robot, clock), watch)


def _recorder(path: Path, robot: Robot, policy: OnnxPolicy, stack: contextlib.ExitStack) -> Listener:
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.spool import StoreListener

    def with_policy(episode: Episode) -> Episode:
        return replace(episode, info=replace(episode.info, policy=f"onnx:{policy.digest}"))

    store = stack.enter_context(EpisodeStore.create(path, robot.spec, exist_ok=True))
    return StoreListener(store, label=with_policy)


def _judged(result: dict[str, Any], *, judged: bool) -> dict[str, Any]:
    return result if judged else result | dict.fromkeys(("successes", "success_rate", "ci95", "solved_step_share"))


def _solved(evaluation: Evaluation) -> str:
    return f"solved {evaluation.successes} of {evaluation.episodes}"


def _told(report: dict[str, Any], done: Evaluation, held: str) -> str:
    outcome = f"{done.episodes} episodes, success unknown" if report["success_rate"] is None else str(done)
    lines = [f"{report['policy']} on {report['robot']}, task {report['task']}: {outcome}"]
    if report["latency_us"] is not None and report["rate_hz"] is not None:
        latency = report["latency_us"]
        lines.append(
            f"{report['rate_hz']:.1f} Hz of {report['wanted_rate_hz']:g} Hz, {report['late_ticks']} of "
            f"{report['steps']} steps late; inference {latency['p50']:.0f} us, 99 % within {latency['p99']:.0f} us"
        )
    if held:
        lines.append(held)
    if report["record"] is not None:
        lines.append(f"recorded in {report['record']}")
    return "\n".join(lines)
