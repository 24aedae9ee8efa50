"""Success rates with n and an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.episode import Ended
from robot_rlpd.rollout import SilentListener, rollout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from robot_rlpd.episode import Episode, EpisodeInfo, Step
    from robot_rlpd.robot import Policy, Robot
    from robot_rlpd.rollout import Listener
    from robot_rlpd.task import Task

EVALUATION_SEED_OFFSET = 1_000_000
"""Evaluation resets use seeds from here on; training uses those below."""


def wilson_interval(successes: int, episodes: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson score interval for a proportion (Wilson 1927, equation for the 95 % case by default).

    Returns:
        Lower and upper bound in [0, 1]; (0, 1) without episodes.
    """
    if episodes == 0:
        return 0.0, 1.0
    p = successes / episodes
    centre = p + z * z / (2 * episodes)
    spread = z * math.sqrt(p * (1 - p) / episodes + z * z / (4 * episodes * episodes))
    scale = 1 + z * z / episodes
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return (0.0 if successes == 0 else max(0.0, low)), (1.0 if successes == episodes else min(1.0, high))


@dataclass
class Evaluation:
    """What a number of episodes showed.

    Attributes:
        task: Name of the task.
        successes: Episodes in which the task was solved.
        lengths: Steps of each episode.
        returns: Sum of the task's rewards of each episode.
        success_steps: Steps at which the task was solved, per episode (Adroit's "score" is their share).
        seeds: Reset seed of each episode.
        interrupted: Episodes that did not run to their end; counted as failures.
    """

    task: str
    successes: int = 0
    lengths: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    success_steps: list[int] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    interrupted: int = 0

    @property
    def episodes(self) -> int:
        """Number of episodes n."""
        return len(self.lengths)

    @property
    def success_rate(self) -> float:
        """Successes per episode; 0 without episodes."""
        return self.successes / self.episodes if self.episodes else 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields of `eval --json`, see docs/json.md."""
        low, high = wilson_interval(self.successes, self.episodes)
        steps = sum(self.lengths)
        return {
            "task": self.task,
            "successes": self.successes,
            "episodes": self.episodes,
            "success_rate": self.success_rate,
            "ci95": [low, high],
            "mean_return": float(np.mean(self.returns)) if self.returns else None,
            "mean_length": float(np.mean(self.lengths)) if self.lengths else None,
            "solved_step_share": sum(self.success_steps) / steps if steps else None,
            "interrupted": self.interrupted,
            "steps": steps,
            "seeds": [min(self.seeds), max(self.seeds)] if self.seeds else None,
        }

    def __str__(self) -> str:
        low, high = wilson_interval(self.successes, self.episodes)
        solved = (
            f"{self.successes}/{self.episodes} solved ({self.success_rate:.0%}, 95 % interval {low:.0%}-{high:.0%})"
        )
        return f"{solved}, mean return {np.mean(self.returns):.3g}" if self.returns else solved


def rank(evaluation: Mapping[str, Any] | None) -> tuple[float, float]:
    """What policies are compared by, of `Evaluation.to_json`: the success rate, then the mean return; none is last."""
    if evaluation is None:
        return -math.inf, -math.inf
    mean_return = evaluation.get("mean_return")
    return evaluation["success_rate"], -math.inf if mean_return is None else mean_return


def in_words(evaluation: Mapping[str, Any]) -> str:
    """The same in words, such as "3/20 solved, return -17.5"."""
    solved = f"{evaluation['successes']}/{evaluation['episodes']} solved"
    mean_return = evaluation.get("mean_return")
    return solved if mean_return is None else f"{solved}, return {mean_return:.3g}"


class _Tally(SilentListener):
    """Sums the rewards and the solved steps of one episode."""

    def __init__(self) -> None:
        self.total = 0.0
        self.solved = 0

    def on_step(self, step: Step) -> None:
        """Add up."""
        self.total += step.outcome.reward
        self.solved += int(step.outcome.success)


def evaluate(
    robot: Robot,
    policy: Policy,
    task: Task,
    *,
    episodes: int,
    first_seed: int = EVALUATION_SEED_OFFSET,
    info: EpisodeInfo | None = None,
    listeners: Sequence[Listener] = (),
    on_episode: Callable[[Evaluation, Episode], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Run `episodes` episodes, with reset seeds counted up from `first_seed`.

    Args:
        robot: Opened; left open.
        policy: Should act deterministically.
        task: Judges.
        episodes: How many.
        first_seed: Of the first reset.
        info: Recorded with each episode.
        listeners: As in `rollout`.
        on_episode: Called after each episode, for progress.
        should_stop: Ends early; the episode cut off is not counted.
    """
    evaluation = Evaluation(task.name)
    for index in range(episodes):
        if should_stop():
            break
        tally = _Tally()
        episode = rollout(
            robot,
            policy,
            task,
            seed=first_seed + index,
            info=info,
            listeners=(tally, *listeners),
            should_stop=should_stop,
        )
        if should_stop() and episode.info.ended is Ended.INTERRUPTED:
            break
        evaluation.successes += int(bool(episode.info.success))
        evaluation.lengths.append(len(episode))
        evaluation.returns.append(tally.total)
        evaluation.success_steps.append(tally.solved)
        evaluation.seeds.append(first_seed + index)
        evaluation.interrupted += int(episode.info.ended is Ended.INTERRUPTED)
        if on_episode is not None:
            on_episode(evaluation, episode)
    return evaluation
