"""Sends the actions of a recorded episode to a robot again, and compares what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.errors import RobotError
from robot_rlpd.robot import Source
from robot_rlpd.rollout import SilentListener, rollout

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.episode import Episode, EpisodeInfo, Step
    from robot_rlpd.robot import Action, Observation, Robot, StepResult
    from robot_rlpd.specs import RobotSpec
    from robot_rlpd.task import Task


class RecordedActions:
    """A policy that gives the actions of an episode, one after the other."""

    def __init__(self, episode: Episode, *, executed: bool) -> None:
        self.source = Source.SCRIPTED
        self._actions = episode.executed_actions if executed else episode.actions
        self._next = 0

    def reset(self) -> None:
        """Begin with the first."""
        self._next = 0

    @property
    def is_over(self) -> bool:
        """Whether all were given."""
        return self._next >= len(self._actions)

    def __call__(self, observation: Observation) -> Action:
        """The next action."""
        del observation
        action: Action = self._actions[self._next]
        self._next += 1
        return action


@dataclass(kw_only=True)
class ReplayReport:
    """How a replay went beside the recording.

    Attributes:
        steps: Replayed.
        recorded_steps: In the episode.
        success: Whether the task was solved in the replay.
        recorded_success: As it was recorded.
        start_difference: Largest difference of the first observation, over all fields but images, in their units.
        differences: Largest difference of each field at any step, in its unit.
    """

    steps: int = 0
    recorded_steps: int = 0
    success: bool | None = None
    recorded_success: bool | None = None
    start_difference: float = 0.0
    differences: dict[str, float] = field(default_factory=dict)


def replay(
    robot: Robot,
    task: Task,
    episode: Episode,
    *,
    executed: bool = True,
    max_start_difference: float | None = None,
    on_step: Callable[[int], None] = lambda done: None,
) -> ReplayReport:
    """Reset the robot with the recorded seed and send it the recorded actions.

    Args:
        robot: Opened, with its safety around it.
        task: Judges the replay, and ends it where it terminates.
        episode: With at least one step.
        executed: Send the actions as they were executed, or as they were commanded.
        max_start_difference: Send nothing if an entry of the first observation differs by more than this from the
            recorded one.
        on_step: Told the number of steps done.

    Raises:
        RobotError: The robot starts somewhere else; names the field.
    """
    report = ReplayReport(recorded_steps=len(episode), recorded_success=episode.info.success)
    policy = RecordedActions(episode, executed=executed)
    listener = _Comparison(episode, report, max_start_difference, on_step)
    replayed = rollout(
        robot,
        policy,
        task,
        seed=episode.info.seed,
        listeners=[listener],
        should_stop=lambda: policy.is_over,
    )
    report.steps, report.success = len(replayed), replayed.info.success
    return report


class _Comparison(SilentListener):
    """Compares every observation with the recorded one."""

    def __init__(
        self, episode: Episode, report: ReplayReport, limit: float | None, on_step: Callable[[int], None]
    ) -> None:
        self._episode, self._report, self._limit, self._on_step = episode, report, limit, on_step
        self._fields = [s.name for s in episode.spec.observation if not s.is_image]
        self._row = 0

    def on_start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """Refuse another start before anything moves."""
        del spec, info, wall_time_s
        differences = self._compare(first.observation)
        self._report.start_difference = max(differences.values(), default=0.0)
        for name, difference in differences.items():
            if self._limit is not None and difference > self._limit:
                raise RobotError(
                    "starts somewhere else than the recording",
                    field=f"observation.{name}",
                    found=f"{difference:.4g} away",
                    allowed=f"at most {self._limit:g}",
                    hint="bring the robot and its scene there, or raise --max-start-difference",
                )

    def on_step(self, step: Step) -> None:
        """Remember the largest difference of each field."""
        self._compare(step.result.observation)
        self._on_step(self._row - 1)

    def _compare(self, observation: dict[str, Any]) -> dict[str, float]:
        recorded, row = self._episode.observations, self._row
        self._row += 1
        if row >= len(self._episode.robot_times_s):
            return {}
        found = {}
        for name in self._fields:
            difference = np.abs(np.asarray(observation[name], np.float64) - recorded[name][row])
            found[name] = float(difference.max()) if difference.size else 0.0
            self._report.differences[name] = max(found[name], self._report.differences.get(name, 0.0))
        return found
