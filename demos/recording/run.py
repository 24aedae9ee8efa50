"""A recording session from its options to its report: opens robot, device and store, and closes them."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demos.recording.keeper import Keeper, NothingKept
from demos.recording.priority import real_time_priority
from demos.recording.recorder import Recorder, RecordOptions, RecordReport
from demos.recording.state_line import StateLine
from demos.recording.writer_process import WriterProcess
from demos.teleop.device import DeviceOptions, Watching
from robot_rlpd.bridge.robots import open_robot
from robot_rlpd.clock import MonotonicClock
from robot_rlpd.episode import EpisodeInfo
from robot_rlpd.errors import StoreError, UnknownNameError
from robot_rlpd.interrupt import stop_on_signals
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.registry import load_entry_point
from robot_rlpd.robot import Policy, Source
from robot_rlpd.safety import SafeRobot
from robot_rlpd.task import SignalTask, TaskOptions, TaskSetup
from robot_rlpd.watchdog import DRIVEN, watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from demos.recording.state import RecorderState
    from demos.teleop.device import Controls, MakeDevice
    from robot_rlpd.robot import Robot

UNLIMITED_STEPS = 10**9
INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is asked of a session; see the options of `record`.

    Attributes:
        setup: The task; None lets the robot's own signals judge, if it has any.
        task_options: What was said about the task.
        robot: As typed; empty for the task's own.
        device: NAME or NAME:ARGUMENT of a device.
        out: Directory of the store; None records nothing.
        append: Add to the store if it exists.
        resume: Likewise, and what it holds counts.
        episodes: To keep; None for no end.
        max_attempts: None for ten times `episodes`.
        noise: Of the scripted device.
        seed: Of the device and the first reset.
        keep_failures: Keep unsolved episodes too.
        reset_time_s: None waits for the operator where a person operates, and not at all elsewhere.
        operator: Who demonstrates.
        notes: Free text.
        real_time: Ask for real-time priority.
    """

    setup: TaskSetup | None
    task_options: TaskOptions
    robot: str = ""
    device: str = "scripted"
    out: Path | None = None
    append: bool = False
    resume: bool = False
    episodes: int | None = 20
    max_attempts: int | None = None
    noise: float = 0.0
    seed: int = 0
    keep_failures: bool = False
    reset_time_s: float | None = None
    operator: str = ""
    notes: str = ""
    real_time: bool = False


@dataclass(kw_only=True)
class Recorded:
    """What a session left.

    Attributes:
        report: What was recorded.
        wanted: Episodes that were to be kept, by this session alone; None for no end.
        out: The store; None without one.
        store_episodes: Episodes in it now.
        fingerprint: Of the robot's contract.
    """

    report: RecordReport
    wanted: int | None
    out: Path | None
    store_episodes: int
    fingerprint: str

    @property
    def status(self) -> int:
        """Exit status."""
        if self.wanted is None:
            return 0
        if self.report.interrupted:
            return INTERRUPTED
        return 0 if self.report.kept >= self.wanted else 1

    def to_json(self) -> dict[str, Any]:
        """The fields of `record --json`."""
        report = self.report
        return asdict(report) | {
            "episodes": report.kept,
            "success_rate": report.successes / report.attempts if report.attempts else None,
            "store": None if self.out is None else str(self.out),
            "store_episodes": self.store_episodes,
            "fingerprint": self.fingerprint,
        }


def run(
    plan: Plan,
    *,
    make_device: Callable[[DeviceOptions], Policy] | None = None,
) -> Recorded:
    """Run a session.

    Args:
        plan: What to do.
        make_device: Instead of the registered one that the plan names.

    Raises:
        StoreError: The store exists already, or cannot be written.
        UnknownNameError: No such device or robot.
    """
    if plan.out is not None and plan.out.exists() and not (plan.append or plan.resume):
        raise StoreError("exists already", field=str(plan.out), hint="choose another --out, or add to it: --append")
    name, _, argument = plan.device.partition(":")
    make: Any = make_device or load_entry_point("robot_rlpd.teleop", name, field="device")
    report = RecordReport()
    with contextlib.ExitStack() as stack:
        driver = open_robot(plan.robot, task_setup=plan.setup, options=plan.task_options)
        stack.callback(driver.close)
        setup = plan.setup or TaskSetup(task=_own_task(plan), spec=driver.spec, make_robot=lambda: driver)
        device = make(DeviceOptions(spec=driver.spec, setup=setup, argument=argument, noise=plan.noise, seed=plan.seed))
        if hasattr(device, "close"):
            stack.callback(device.close)
        by_person = device.source is Source.HUMAN
        in_real_time = by_person and not plan.robot.startswith(("tcp://", "ipc://"))
        safe = watched(PacedRobot(driver), DRIVEN) if in_real_time else SafeRobot(driver)
        robot: Robot = stack.enter_context(safe)
        keeper = _open_keeper(plan, robot, stack)
        already = keeper.episodes_before if plan.resume and isinstance(keeper, WriterProcess) else 0
        line = StateLine(MonotonicClock())
        stack.callback(line.close)
        watching = device if isinstance(device, Watching) else None

        def show(state: RecorderState) -> None:
            line.show(state)
            if watching is not None:
                watching.show(state)

        recorder = Recorder(
            robot,
            device,
            setup.task,
            keeper,
            _options(plan, keeper, already, device, name),
            controls=_terminal_controls(stack) if by_person and name != "keyboard" else [],
            path=plan.out,
            in_real_time=in_real_time or bool(plan.robot),
            report=report,
            on_state=show,
            listeners=[watching] if watching is not None else [],
            should_quit=stack.enter_context(stop_on_signals()),
        )
        if plan.real_time:
            stack.enter_context(real_time_priority())
        try:
            recorder.run()
        except KeyboardInterrupt:
            report.interrupted = True
        keeper.close()
        fingerprint = robot.spec.fingerprint
    wanted = None if plan.episodes is None else plan.episodes - already
    stored = keeper.episodes_stored if isinstance(keeper, WriterProcess) else 0
    return Recorded(report=report, wanted=wanted, out=plan.out, store_episodes=stored, fingerprint=fingerprint)


def summary(recorded: Recorded) -> str:
    """The session in one line."""
    report = recorded.report
    where = f" in {recorded.out}" if recorded.out is not None else ", not recorded"
    parts = [
        f"{report.kept} episodes ({report.steps} steps){where}; {report.successes} of {report.attempts} solved",
        *([f"{report.late_ticks} late ticks"] if report.late_ticks else []),
        *([f"{report.dropped_frames} dropped frames"] if report.dropped_frames else []),
    ]
    return "; ".join(parts)


def _make_device(make: MakeDevice, name: str, options: DeviceOptions) -> Policy:
    try:
        return make(options)
    except ModuleNotFoundError as error:
        raise UnknownNameError(
            f"device '{name}' needs the module '{error.name}', which is not installed",
            field="device",
            hint="pip install 'robot-rlpd[demos,teleop]'",
        ) from error


def _own_task(plan: Plan) -> SignalTask:
    return SignalTask(max_episode_steps=plan.task_options.max_episode_steps or UNLIMITED_STEPS)


def _open_keeper(plan: Plan, robot: Robot, stack: contextlib.ExitStack) -> Keeper:
    if plan.out is None:
        return NothingKept()
    keeper = WriterProcess(plan.out, robot.spec, exist_ok=plan.append or plan.resume)
    stack.callback(keeper.close)
    return keeper


def _options(plan: Plan, keeper: Keeper, already: int, device: Policy, name: str) -> RecordOptions:
    by_person = device.source is Source.HUMAN
    digest = str(getattr(device, "digest", ""))
    info = EpisodeInfo(device=name, policy=digest, operator=plan.operator, notes=plan.notes)
    options = RecordOptions(
        episodes=plan.episodes or sys.maxsize,
        already=already,
        max_attempts=plan.max_attempts or 10 * (plan.episodes or sys.maxsize),
        first_seed=plan.seed,
        keep_failures=plan.keep_failures,
        reset_time_s=plan.reset_time_s if plan.reset_time_s is not None or by_person else 0.0,
        info=info,
    )
    if plan.resume and isinstance(keeper, WriterProcess):
        options = replace(options, first_seed=max(plan.seed, keeper.last_seed + 1))
    return options


def _terminal_controls(stack: contextlib.ExitStack) -> list[Controls]:
    """The keyboard beside the device, if this process has one and stands in the foreground."""
    from demos.teleop.keyboard import CONTROLS_HELP, KeyboardControls, TerminalKeys

    if not sys.stdin.isatty() or os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
        return []
    controls = KeyboardControls(TerminalKeys(CONTROLS_HELP))
    stack.callback(controls.close)
    return [controls]
