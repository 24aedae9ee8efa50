"""A session that drives no robot: actors elsewhere record episodes, this one trains on them and gives them policies."""

from __future__ import annotations

import logging
import queue
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from robot_rlpd.bridge.episodes import Inbox
from robot_rlpd.bridge.learner_server import LearnerServer
from robot_rlpd.bridge.policies import PublishedPolicy, Shelf
from robot_rlpd.episode import Episode, Step
from robot_rlpd.learner import bridge_figures
from robot_rlpd.learner.checkpoint import Checkpoint
from robot_rlpd.learner.session import Session
from robot_rlpd.outcomes import judge_steps
from robot_rlpd.registry import load_entry_point
from robot_rlpd.robot import Source, StepResult
from robot_rlpd.task import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from robot_rlpd.learner.session_config import SessionConfig
    from robot_rlpd.robot import Robot
    from robot_rlpd.task import Task

_logger = logging.getLogger(__name__)
WAIT_S = 0.2
"""How long to wait for an episode before looking whether the session is to end."""


class ListeningSession(Session):
    """Trains at the pace of the environment steps that arrive: `utd_ratio` critic updates for each.

    An episode is on this machine's disk before its actor is told to forget it, and is trained on after that. A session
    that dies in between trains on it when it is resumed. A new policy is published after every episode.

    Args:
        config: What was asked for; `listen` is the address.
        run_dir: Exists already.
        robot: Gives the spec of what actors record; not driven for training.
        task: Judges the episodes of the actors.
        evaluated: The robot that evaluations run on, with whoever judges it there; `robot` itself by default.
        resume: Go on from the newest checkpoint and the recorded episodes.
    """

    def __init__(
        self,
        config: SessionConfig,
        run_dir: Path,
        robot: Robot,
        task: Task,
        *,
        evaluated: Robot | None = None,
        resume: bool = False,
    ) -> None:
        super().__init__(config, run_dir, robot, task, resume=resume)
        self.robot = evaluated or robot
        self._arrived: queue.SimpleQueue[Episode] = queue.SimpleQueue()
        self._shelf = Shelf()
        self._export: Callable[[Checkpoint], bytes] = load_entry_point("robot_rlpd.policy_exporters", "exploring")
        inbox = Inbox(
            self.contract,
            is_stored=lambda uuid: uuid in self.store,
            store=self.store.extend,
            received=self._arrived.put,
        )
        self.server = LearnerServer(
            config.listen, contract=self.contract, inbox=inbox, shelf=self._shelf, describe=self._describe
        )
        self.log.bridge = bridge_figures.of_server(self.server, self._arrived.qsize)
        key = f", key {self.server.public_key}" if self.server.public_key else ""
        _logger.info("listening for actors at %s%s", self.server.address, key)
        self._publish()

    def run(self, should_stop: Callable[[], bool]) -> str:
        """Train until `env_steps`, the time limit, or `should_stop`; then stop listening."""
        try:
            return super().run(should_stop)
        finally:
            self.server.close()

    def _train_episode(self, should_stop: Callable[[], bool]) -> None:
        while not should_stop():
            try:
                episode = self._arrived.get(timeout=WAIT_S)
            except queue.Empty:
                continue
            self.online.start_episode()
            success = False
            for step in steps_of(episode, self.task):
                success = step.outcome.success or (success and not self.task.success_at_end)
                self.on_step(step)
            self.on_end(replace(episode, info=replace(episode.info, success=success)))
            self._publish()
            return

    def _publish(self) -> None:
        """Random actions go on until the learner has learned something."""
        if not self.learner.gradient_steps:
            return
        checkpoint = Checkpoint(
            contract=self.contract,
            task=self.task.name,
            task_options=self.config.task_options(),
            max_episode_steps=self.task.max_episode_steps,
            config=self.config.rlpd,
            learner=self.learner.state_dict(),
            normalizer=self.normalizer,
            env_steps=self.env_steps,
            gradient_steps=self.learner.gradient_steps,
            run=self.run_dir.name,
            prior=self.prior_report.digests,
        )
        self._shelf.publish(PublishedPolicy(self.learner.gradient_steps, self._export(checkpoint)))

    def _describe(self) -> dict[str, Any]:
        return {
            "run": self.run_dir.name,
            "trained_env_steps": self.env_steps,
            "gradient_steps": self.learner.gradient_steps,
            "waiting_episodes": self._arrived.qsize(),
        }


def steps_of(episode: Episode, task: Task) -> Iterator[Step]:
    """What a listener of the loop would have been told, judged anew by `task`.

    Ends where the task says that the episode terminated, and before a step whose next observation is missing.
    """
    rows = len(episode) if episode.has_final_observation else len(episode) - 1
    observations = {name: array[:rows] for name, array in episode.observations.items()}
    followings = {name: array[1 : rows + 1] for name, array in episode.observations.items()}
    signals = {name: array[:rows] for name, array in episode.signals.items()}
    outcomes = judge_steps(task, observations, episode.executed_actions[:rows], signals, followings)
    for t in range(rows):
        observation, following, said = (
            {name: array[t] for name, array in part.items()} for part in (observations, followings, signals)
        )
        executed, terminated = episode.executed_actions[t], bool(outcomes.terminated[t])
        result = StepResult(following, executed, said, float(episode.robot_times_s[t + 1]))
        source, wall_time_s = Source(int(episode.sources[t])), float(episode.wall_times_s[t + 1])
        outcome = Outcome(reward=float(outcomes.rewards[t]), terminated=terminated, success=bool(outcomes.successes[t]))
        yield Step(observation, episode.actions[t], source, result, executed, outcome, wall_time_s)
        if terminated:
            return
