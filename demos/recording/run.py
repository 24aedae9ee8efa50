"""A recording session from its plan to its report: opens robot, device and store, and closes them."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from demos.recording.keeper import Keeper, NothingKept
from demos.recording.options import RecordOptions, RecordReport
from demos.recording.plan import Plan, Recorded
from demos.recording.priority import real_time_priority
from demos.recording.recorder import Recorder
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
from robot_rlpd.robot import Policy, Robot, Source
from robot_rlpd.safety import SafeRobot
from robot_rlpd.task import SignalTask, Task, TaskSetup
from robot_rlpd.watchdog import DRIVEN, watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from demos.recording.state import RecorderState
    from demos.teleop.device import Controls, MakeDevice

UNLIMITED_STEPS = 10**9


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
    report = RecordReport()
    with contextlib.ExitStack() as stack:
        parts = _open(plan, make_device, stack)
        recorder = _recorder(plan, parts, report, stack)
        if plan.real_time:
            stack.enter_context(real_time_priority())
        try:
            recorder.run()
        except KeyboardInterrupt:
            report.interrupted = True
        parts.keeper.close()
    return Recorded(
        report=report,
        wanted=None if plan.episodes is None else plan.episodes - parts.already,
        out=plan.out,
        store_episodes=parts.keeper.episodes_stored if isinstance(parts.keeper, WriterProcess) else 0,
        fingerprint=parts.robot.spec.fingerprint,
    )


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What a session is made of, opened; closed by the stack it was opened with.

    Attributes:
        robot: With its safety around it.
        device: Drives it.
        name: Of the device.
        task: Judges.
        keeper: Keeps.
        in_real_time: Whether the robot keeps its control rate.
    """

    robot: Robot
    device: Policy
    name: str
    task: Task
    keeper: Keeper
    already: int
    in_real_time: bool

    @property
    def by_person(self) -> bool:
        """Whether a person operates."""
        return self.device.source is Source.HUMAN


def _open(plan: Plan, make_device: Callable[[DeviceOptions], Policy] | None, stack: contextlib.ExitStack) -> _Parts:
    name, _, argument = plan.device.partition(":")
    make: Any = make_device or load_entry_point("robot_rlpd.teleop", name, field="device")
    driver = open_robot(plan.robot, task_setup=plan.setup, options=plan.task_options)
    stack.callback(driver.close)
    setup = plan.setup or TaskSetup(task=_own_task(plan), spec=driver.spec, make_robot=lambda: driver)
    options = DeviceOptions(
        spec=driver.spec, setup=setup, argument=argument, noise=plan.noise, seed=plan.seed, robot=driver
    )
    device = _make_device(make, name, options)
    if hasattr(device, "close"):
        stack.callback(device.close)
    paced = device.source is Source.HUMAN and not plan.robot.startswith(("tcp://", "ipc://"))
    robot: Robot = stack.enter_context(watched(PacedRobot(driver), DRIVEN) if paced else SafeRobot(driver))
    keeper = _open_keeper(plan, robot, stack)
    return _Parts(
        robot=robot,
        device=device,
        name=name,
        task=setup.task,
        keeper=keeper,
        already=keeper.episodes_before if plan.resume and isinstance(keeper, WriterProcess) else 0,
        in_real_time=paced or bool(plan.robot),
    )


def _recorder(plan: Plan, parts: _Parts, report: RecordReport, stack: contextlib.ExitStack) -> Recorder:
    line = StateLine(MonotonicClock())
    stack.callback(line.close)
    watching = parts.device if isinstance(parts.device, Watching) else None

    def show(state: RecorderState) -> None:
        line.show(state)
        if watching is not None:
            watching.show(state)

    return Recorder(
        parts.robot,
        parts.device,
        parts.task,
        parts.keeper,
        _options(plan, parts),
        controls=_terminal_controls(stack) if parts.by_person and parts.name != "keyboard" else [],
        path=plan.out,
        in_real_time=parts.in_real_time,
        report=report,
        on_state=show,
        on_look=None if watching is None else watching.show_between,
        listeners=[watching] if watching is not None else [],
        should_quit=stack.enter_context(stop_on_signals()),
    )


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
    keeper = WriterProcess(plan.out, robot.spec, exist_ok=plan.append or plan.resume, codec=plan.codec)
    stack.callback(keeper.close)
    return keeper


def _options(plan: Plan, parts: _Parts) -> RecordOptions:
    digest = str(getattr(parts.device, "digest", ""))
    info = EpisodeInfo(device=parts.name, policy=digest, operator=plan.operator, notes=plan.notes)
    options = RecordOptions(
        episodes=plan.episodes or sys.maxsize,
        already=parts.already,
        max_attempts=plan.max_attempts or 10 * (plan.episodes or sys.maxsize),
        first_seed=plan.seed,
        keep_failures=plan.keep_failures,
        reset_time_s=plan.reset_time_s if plan.reset_time_s is not None or parts.by_person else 0.0,
        camera_timeout_s=plan.camera_timeout_s,
        info=info,
    )
    if plan.resume and isinstance(parts.keeper, WriterProcess):
        options = replace(options, first_seed=max(plan.seed, parts.keeper.last_seed + 1))
    return options


def _terminal_controls(stack: contextlib.ExitStack) -> list[Controls]:
    """The keyboard beside the device, if this process has one and stands in the foreground."""
    from demos.teleop.keyboard import CONTROLS_HELP, KeyboardControls, TerminalKeys

    if not sys.stdin.isatty() or os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
        return []
    controls = KeyboardControls(TerminalKeys(CONTROLS_HELP))
    stack.callback(controls.close)
    return [controls]
