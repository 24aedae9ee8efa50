"""Drive a robot with a policy: the start sequence, the loop, and its times. `run` is this with options and a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.runtime.control import RunControl, StoppedError
from deploy.runtime.real_time import loaded_objects_frozen, real_time_priority
from deploy.runtime.start import StartingPolicy
from deploy.runtime.timing import LoopTimes, TimedPolicy
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET, Evaluation, evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from robot_rlpd.episode import Episode
    from robot_rlpd.robot import Policy, Robot
    from robot_rlpd.rollout import Listener
    from robot_rlpd.task import Task


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a policy takes over at the beginning of each episode, and how the loop is scheduled."""

    hold_s: float = 0.0
    """Seconds for which the robot is held first."""
    ramp_s: float = 0.0
    """Seconds over which the policy's actions grow to their full size after a hold."""
    real_time_priority: int | None = None
    """Run the loop under SCHED_FIFO with this priority, 1 to 99."""


@dataclass(frozen=True, kw_only=True)
class Driven:
    """What came of it.

    Attributes:
        evaluation: Over the whole episodes.
        policy: With the time of each action.
        times: Of the control steps.
        stopped: Whether the end was asked for before all episodes were run.
    """

    evaluation: Evaluation
    policy: TimedPolicy
    times: LoopTimes
    stopped: bool


def drive(
    robot: Robot,
    policy: Policy,
    task: Task,
    *,
    episodes: int = 1,
    first_seed: int = EVALUATION_SEED_OFFSET,
    start: Start | None = None,
    control: RunControl | None = None,
    listeners: Sequence[Listener] = (),
    on_episode: Callable[[Evaluation, Episode], None] | None = None,
) -> Driven:
    """Run whole episodes, each begun by the start sequence.

    Args:
        robot: Opened, and wrapped in `SafeRobot` on its own side; left open.
        policy: Checked against the robot and warmed up, as `OnnxPolicy.check_robot` and its constructor do.
        task: Judges.
        episodes: How many.
        first_seed: Of the first reset.
        start: How the policy takes over.
        control: Pauses, resumes and stops the run from another thread.
        listeners: As in `rollout`.
        on_episode: Called after each episode.

    Raises:
        ConfigError: Real-time scheduling is not permitted.
        Exception: Whatever policy, listeners or robot raise, after the robot was stopped.
    """
    start, control = start or Start(), control or RunControl()
    timed = TimedPolicy(policy)
    starting = _starting(timed, robot, start, control)
    times = LoopTimes(robot.spec.control_rate_hz)
    done = [Evaluation(task.name)]

    def remember(evaluation: Evaluation, episode: Episode) -> None:
        done.append(evaluation)
        if on_episode is not None:
            on_episode(evaluation, episode)

    with loaded_objects_frozen(), real_time_priority(start.real_time_priority):
        try:
            evaluate(
                robot,
                starting,
                task,
                episodes=episodes,
                first_seed=first_seed,
                listeners=[times, *listeners],
                on_episode=remember,
                should_stop=lambda: control.stopped,
            )
        except StoppedError:
            robot.stop("asked to stop")
    stopped = control.stopped and done[-1].episodes < episodes
    return Driven(evaluation=done[-1], policy=timed, times=times, stopped=stopped)


def _starting(timed: TimedPolicy, robot: Robot, start: Start, control: RunControl) -> StartingPolicy:
    """The policy behind its start sequence; while paused between episodes the robot is stopped."""
    return StartingPolicy(
        timed,
        robot.spec,
        control,
        hold_s=start.hold_s,
        ramp_s=start.ramp_s,
        on_wait=lambda: robot.stop("paused between episodes"),
    )
