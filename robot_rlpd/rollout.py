"""The one loop: robot + policy + task -> Episode.

Recording, training, evaluation, deployment and the simulator all run it; they differ in robot, policy and listeners.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from robot_rlpd.episode import Ended, Episode, EpisodeBuilder, EpisodeInfo, Step
from robot_rlpd.errors import OutcomeUnknownError, RobotError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from robot_rlpd.robot import Observation, Policy, Robot, StepResult
    from robot_rlpd.specs import RobotSpec
    from robot_rlpd.task import Outcome, Task


class Listener(Protocol):
    """Whoever wants to know what happens while an episode runs. Called in the loop's thread; must be quick.

    An exception from a listener stops the robot and ends the episode as interrupted.
    """

    def on_start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """The reset is done."""
        ...

    def on_step(self, step: Step) -> None:
        """One step is done."""
        ...

    def on_end(self, episode: Episode) -> None:
        """The episode is over; also called for interrupted ones."""
        ...


class SilentListener:
    """A listener that does nothing; a base for those who need one method only."""

    def on_start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """Nothing."""

    def on_step(self, step: Step) -> None:
        """Nothing."""

    def on_end(self, episode: Episode) -> None:
        """Nothing."""


def rollout(
    robot: Robot,
    policy: Policy,
    task: Task,
    *,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
    info: EpisodeInfo | None = None,
    identity: str = "",
    listeners: Sequence[Listener] = (),
    should_stop: Callable[[], bool] = lambda: False,
    wall_clock: Callable[[], float] = time.time,
) -> Episode:
    """Run one episode.

    Tick k: observe, infer, act within the same tick; `robot.step` then holds the action for one control period, so a
    real or paced robot gives the rate and a simulator runs as fast as it can.

    Args:
        robot: Already opened; left open.
        policy: Reset first, then asked once per step.
        task: Judges every step.
        seed: Passed to the reset and recorded.
        options: Passed to the reset.
        info: What is known beforehand (device, operator ...); identity, task, seed and times are filled in.
        identity: UUID of the episode; a new one by default.
        listeners: Told of start, every step and the end, in order.
        should_stop: Asked after every step; True ends the episode as interrupted, after a stop of the robot.
        wall_clock: Unix time in seconds.

    Returns:
        The episode. A fault of the robot, or a step whose outcome is unknown, ends it as interrupted.

    Raises:
        Exception: Whatever policy, listeners or robot raise, after the robot was stopped and `on_end` was told of
            the interrupted episode.
    """
    policy.reset()
    first = robot.reset(seed=seed, options=options)
    started_s = wall_clock()
    info = _filled(info or EpisodeInfo(), identity, task.name, seed, started_s, first.randomization)
    builder = EpisodeBuilder(robot.spec, info)
    builder.start(first, started_s)
    judged = _Judged()
    try:
        for listener in listeners:
            listener.on_start(robot.spec, info, first, started_s)
        _run_steps(robot, policy, task, first.observation, builder, judged, listeners, should_stop, wall_clock)
    except BaseException as error:
        judged.ended = Ended.INTERRUPTED
        robot.stop(f"{type(error).__name__}: {error}")
        raise
    finally:
        episode = builder.finish(ended=judged.ended, success=judged.success, outcome_unknown=judged.outcome_unknown)
        for listener in listeners:
            listener.on_end(episode)
    return episode


@dataclass
class _Judged:
    """How the episode stands so far."""

    ended: Ended = Ended.INTERRUPTED
    success: bool = False
    outcome_unknown: bool = False


def _run_steps(
    robot: Robot,
    policy: Policy,
    task: Task,
    observation: Observation,
    builder: EpisodeBuilder,
    judged: _Judged,
    listeners: Sequence[Listener],
    should_stop: Callable[[], bool],
    wall_clock: Callable[[], float],
) -> None:
    while judged.ended is Ended.INTERRUPTED:
        action = policy(observation)
        try:
            result = robot.step(action)
        except OutcomeUnknownError:
            judged.outcome_unknown = True
            return
        wall_time_s = wall_clock()
        executed = action if result.executed_action is None else result.executed_action
        outcome = task.evaluate(observation, executed, result.signals, result.observation)
        step = Step(observation, action, policy.source, result, executed, outcome, wall_time_s)
        builder.step(action, policy.source, result, wall_time_s)
        judged.success = outcome.success or (judged.success and not task.success_at_end)
        judged.ended = _ended(outcome, len(builder), task)
        for listener in listeners:
            listener.on_step(step)
        observation = result.observation
        if result.fault:
            raise RobotError(result.fault, field=f"robot '{robot.spec.name}'")
        if judged.ended is Ended.INTERRUPTED and should_stop():
            robot.stop("asked to stop")
            return


def _filled(
    info: EpisodeInfo, identity: str, task: str, seed: int | None, started_s: float, drawn: dict[str, float]
) -> EpisodeInfo:
    return replace(
        info,
        uuid=identity or str(uuid.uuid4()),
        task=info.task or task,
        seed=seed,
        started_unix_s=started_s,
        randomization={**info.randomization, **drawn},
    )


def _ended(outcome: Outcome, steps: int, task: Task) -> Ended:
    if outcome.terminated:
        return Ended.TERMINATED
    if outcome.truncated or steps >= task.max_episode_steps:
        return Ended.TRUNCATED
    return Ended.INTERRUPTED
