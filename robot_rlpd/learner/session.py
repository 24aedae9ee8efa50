"""One training session: RLPD against a robot, with its run directory."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from robot_rlpd.episode import Episode, EpisodeInfo, Step
from robot_rlpd.errors import BridgeError, RobotError, RobotRlpdError, TrainingError
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET, evaluate, rank
from robot_rlpd.learner import bridge_figures
from robot_rlpd.learner.allocator import keep_freed_memory
from robot_rlpd.learner.checkpoint import BEST, LATEST, Checkpoint, load_checkpoint, save_checkpoint
from robot_rlpd.learner.fields import policy_contract
from robot_rlpd.learner.pixel_rlpd import make_learner
from robot_rlpd.learner.policy import ActorPolicy, Normalizer, WarmUpPolicy, normalized
from robot_rlpd.learner.prior import PriorReport, fill_replay, fit_normalizer, judged, load_prior
from robot_rlpd.learner.run_directory import CHECKPOINTS, EPISODES
from robot_rlpd.learner.session_config import SessionConfig, thread_choices
from robot_rlpd.learner.session_log import SessionLog
from robot_rlpd.learner.session_replay import session_replay
from robot_rlpd.learner.updater import Updater
from robot_rlpd.progress import ProgressLine
from robot_rlpd.robot import RandomPolicy
from robot_rlpd.rollout import SilentListener, rollout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.evaluation import Evaluation
    from robot_rlpd.robot import Policy, Robot, StepResult
    from robot_rlpd.specs import PolicyContract, RobotSpec
    from robot_rlpd.task import Task

EXPLORATION_STREAM = 1 << 40
"""Added to the seed, so that exploration noise and minibatches are drawn from streams of their own."""
PATIENCE = 3
"""Interrupted episodes in a row after which the session gives up."""
_logger = logging.getLogger(__name__)


class Session(SilentListener):
    """Trains while an episode runs: every step is stored, then learned from, before the next action.

    The exact RLPD setting: after `start_training` steps of uniform random actions, `utd_ratio` critic updates per
    environment step. Evaluation acts deterministically on seeds of its own and does not count as environment steps.

    Args:
        config: What was asked for.
        run_dir: Exists already; holds what `prepare_run_directory` wrote.
        robot: Opened; left open.
        task: Judges every step, and the prior data anew.
        resume: Go on from the newest checkpoint and the recorded episodes of the run directory.
    """

    def __init__(self, config: SessionConfig, run_dir: Path, robot: Robot, task: Task, *, resume: bool = False) -> None:
        threads = thread_choices(config)
        torch.set_num_threads(threads[0])
        torch.set_float32_matmul_precision(config.matmul_precision)
        keep_freed_memory()
        self.config, self.run_dir, self.robot, self.task = config, run_dir, robot, task
        self.contract = self._policy_contract(robot.spec)
        stores, self.prior_report = load_prior(config.prior, task, self.contract)
        found = [part for store in stores for part in store]
        checkpoint = load_checkpoint(run_dir) if resume else None
        self.normalizer: Normalizer | None = None
        if config.normalize and found:
            self.normalizer = fit_normalizer(found, self.contract)
        if checkpoint is not None:
            self.normalizer = checkpoint.normalizer
        self.learner = make_learner(
            config.rlpd, self.contract, seed=config.seed, device=config.device, compile=config.compile_update
        )
        self.exploration = torch.Generator().manual_seed(EXPLORATION_STREAM + config.seed)
        self.online, sampler = session_replay(
            config, self.contract, stores, self.normalizer, spare_rows=self._spare_rows()
        )
        self.updater = Updater(self.learner, sampler, seed=config.seed, overlap=config.overlap, threads=threads)
        self.log = SessionLog(config, run_dir)
        self.log.bridge = bridge_figures.of_robot(robot)
        for part in found:
            self.log.alarm.see(*part.rewards.tolist())
        self.env_steps = self.episodes = 0
        self.evaluation: dict[str, Any] | None = None
        self.best_evaluation: dict[str, Any] | None = None
        self._failures = 0
        self.trained_s = 0.0
        self._saved_s = time.monotonic()
        self._next_evaluation = config.eval_every
        self.store = self._open_store(resume)
        if checkpoint is not None:
            self._restore(checkpoint)

    def _policy_contract(self, spec: RobotSpec) -> PolicyContract:
        """What the policy reads and commands."""
        return policy_contract(spec, self.config.cameras, self.config.state_fields)

    def _spare_rows(self) -> int:
        """Room in the last buffer for transitions that it is to get while the session runs."""
        return 0

    @property
    def owed_calls(self) -> int:
        """Calls of `utd_ratio` critic updates that the environment steps so far are worth and that were not made."""
        return max(0, self.env_steps - self.config.start_training) - self.updater.calls

    def run(self, should_stop: Callable[[], bool]) -> str:
        """Train until `env_steps`, the time limit, or `should_stop`; returns why it ended.

        Raises:
            TrainingError: A loss is not finite or Q explodes; the newest checkpoint is from before that.
        """
        started_s = time.monotonic() - self.trained_s

        def finished() -> str:
            self.trained_s = time.monotonic() - started_s
            if should_stop():
                return "stopped"
            if self.env_steps >= self.config.env_steps:
                return "finished"
            over = self.config.time_limit_min is not None and self.trained_s > 60.0 * self.config.time_limit_min
            return "time limit" if over else ""

        with self.log.opened(self.env_steps, self.trained_s):
            rate_hz = self.contract.control_rate_hz
            self.log.start(self.env_steps, self.learner.gradient_steps, self.prior_report, rate_hz=rate_hz)
            self.save(LATEST)  # a run that is killed early can be resumed
            try:
                self.updater.warm_up()
                self._begin(should_stop)
                while not (reason := finished()):
                    self._patiently(lambda: self._train_episode(lambda: bool(finished())))
                    if self._next_evaluation and self.env_steps >= self._next_evaluation:
                        self._patiently(lambda: self._evaluate(should_stop))
            except TrainingError:
                raise
            except BaseException:
                self._save_if_possible()
                raise
            finally:
                self.updater.close()
            self.save(LATEST)
            self.log.write("end", self.env_steps, self.learner.gradient_steps, {"reason": reason})
        return reason

    def summary(self, reason: str) -> dict[str, Any]:
        """What `train --json` prints, see docs/json.md."""
        return {
            "run_dir": str(self.run_dir),
            "ended": reason,
            "env_steps": self.env_steps,
            "gradient_steps": self.learner.gradient_steps,
            "episodes": self.episodes,
            "trained_s": round(self.trained_s, 3),
            "utd_ratio": self.learner.gradient_steps / max(1, self.env_steps - self.config.start_training),
            "prior": dataclasses.asdict(self.prior_report),
            "evaluation": self.evaluation,
            "best_success_rate": self.best_evaluation and self.best_evaluation["success_rate"],
        }

    def close(self) -> None:
        """Close the store of episodes."""
        self.store.close()

    def save(self, name: str) -> Path:
        """Write a checkpoint; one that exists stays as it is where the learner is not sound."""
        path = self.run_dir / CHECKPOINTS / name
        learner = self.learner.state_dict()
        if self.log.alarm.exploding or not all(bool(tensor.isfinite().all()) for tensor in learner.values()):
            _logger.warning("parameters or Q are out of bounds; %s is not written", path)
            return path
        save_checkpoint(
            path,
            Checkpoint(
                contract=self.contract,
                task=self.task.name,
                task_options=self.config.task_options(),
                max_episode_steps=self.task.max_episode_steps,
                config=self.config.rlpd,
                learner=learner,
                normalizer=self.normalizer,
                env_steps=self.env_steps,
                gradient_steps=self.learner.gradient_steps,
                episodes=self.episodes,
                evaluation=self.evaluation,
                run=self.run_dir.name,
                prior=self.prior_report.digests,
                trained_s=self.trained_s,
                sampling=self.updater.generator.get_state(),
                exploration=self.exploration.get_state(),
            ),
        )
        self._saved_s = time.monotonic()
        return path

    def _save_if_possible(self) -> None:
        """On the way out of an error, which must not be hidden by another one."""
        try:
            self.updater.finish()
            self.save(LATEST)
        except (RobotRlpdError, OSError) as error:
            _logger.warning("the last checkpoint stays as it was: %s", error)

    def _begin(self, should_stop: Callable[[], bool]) -> None:
        """What comes before the first episode."""
        self._catch_up(should_stop)

    def _catch_up(self, should_stop: Callable[[], bool]) -> None:
        """Make the updates that recorded steps are worth: those after the checkpoint that a run is resumed from."""
        owed = self.owed_calls
        if owed <= 0:
            return
        _logger.info("catching up: %d recorded steps were not trained on yet", owed)
        with contextlib.closing(ProgressLine(owed)) as progress:
            for done in range(owed):
                if should_stop():
                    return
                self.updater.start()
                self.updater.finish()
                progress.update(done + 1, "steps caught up")

    def _patiently(self, drive: Callable[[], None]) -> None:
        """A robot that stopped or went away gets a few resets before the session gives up."""
        try:
            drive()
            self._failures = 0
        except (BridgeError, RobotError) as error:
            self._failures += 1
            if self._failures >= PATIENCE:
                raise
            _logger.warning("episode interrupted (%s); trying another reset", error)

    def _train_episode(self, should_stop: Callable[[], bool]) -> None:
        from robot_rlpd.spool import StoreListener

        seed = int(np.random.SeedSequence([self.config.seed, self.episodes]).generate_state(1)[0])
        seed %= EVALUATION_SEED_OFFSET
        rollout(
            self.robot,
            self._training_policy(seed),
            self.task,
            seed=seed,
            info=EpisodeInfo(policy=f"{self.run_dir.name}@{self.env_steps}"),
            identity=self._identity(),
            listeners=(StoreListener(self.store), self),
            should_stop=should_stop,
        )

    def _training_policy(self, seed: int) -> Policy:
        """Who acts in the next episode: chance until `start_training`, then the actor with its noise."""
        policy = self._acting_policy()
        if self.env_steps >= self.config.start_training:
            return policy
        random = RandomPolicy(self.robot.spec, np.random.default_rng(seed))
        return WarmUpPolicy(random, policy, lambda: self.env_steps < self.config.start_training)

    def _identity(self) -> str:
        """A simulated episode that is run again after a crash is the same episode, and stored once."""
        run = self.config.run_id
        return str(uuid.uuid5(uuid.UUID(run), str(self.episodes))) if run and self.config.simulated else ""

    def _acting_policy(self) -> ActorPolicy:
        pixels = self.config.rlpd.pixels
        return ActorPolicy(
            self.contract, lambda x: self.learner.sample_action(x, self.exploration), self.normalizer, pixels
        )

    def on_start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """Frames of the episode before are not seen any more."""
        del spec, info, first, wall_time_s
        self.online.start_episode()

    def on_step(self, step: Step) -> None:
        """Store the transition, then update."""
        self.updater.finish()
        self.online.append(
            normalized(self.contract.flatten(step.observation), self.normalizer),
            self.contract.action.to_unit(step.executed_action),
            step.outcome.reward,
            1.0 - float(step.outcome.terminated),
            normalized(self.contract.flatten(step.result.observation), self.normalizer),
        )
        self.env_steps += 1
        if self.env_steps > self.config.start_training:
            self.updater.start()
        self.log.step(step, self.env_steps, self.updater)

    def on_end(self, episode: Episode) -> None:
        """Count the episode."""
        self.updater.finish()
        self.episodes += 1
        self.log.episode(episode, self.env_steps, self.learner.gradient_steps)
        if time.monotonic() - self._saved_s > self.config.checkpoint_every_s:
            self.save(LATEST)

    def _evaluate(self, should_stop: Callable[[], bool]) -> None:
        pixels = self.config.rlpd.pixels
        policy = ActorPolicy(self.contract, self.learner.deterministic_action, self.normalizer, pixels)
        evaluation = evaluate(
            self.robot, policy, self.task, episodes=self.config.eval_episodes, should_stop=should_stop
        )
        self._check_evaluation(evaluation)
        while self._next_evaluation <= self.env_steps:
            self._next_evaluation += self.config.eval_every
        if evaluation.episodes < self.config.eval_episodes:
            return
        self.evaluation = self.log.evaluation = evaluation.to_json()
        self.log.write("evaluation", self.env_steps, self.learner.gradient_steps, self.evaluation)
        self.save(LATEST)
        if rank(self.evaluation) >= rank(self.best_evaluation):
            self.best_evaluation = self.evaluation
            self.save(BEST)

    def _check_evaluation(self, evaluation: Evaluation) -> None:
        """Where it may be refused, to be made again."""

    def _open_store(self, resume: bool) -> EpisodeStore:
        from robot_rlpd.episode_store import EpisodeStore

        path = self.run_dir / EPISODES
        if not resume:
            # A simulated run that is resumed learns from its store exactly what it would have learned from its robot.
            exact = bool(self.config.cameras) and self.config.simulated
            return EpisodeStore.create(path, self.robot.spec, lossless=exact)
        return EpisodeStore.open(path, mode="a", recover_interrupted=not self.config.simulated)

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Take over the learner and the recorded episodes.

        A simulated run goes on from the checkpoint and runs again, with the same seeds, what came after it. From a real
        or served robot every recorded step is kept, also those after the checkpoint.
        """
        self.learner.load_state_dict(checkpoint.learner)
        episodes = self.store.load_all()
        if self.config.simulated:
            episodes = episodes[: checkpoint.episodes]
        report = PriorReport()
        recorded = judged(episodes, self.task, self.contract, report)
        fill_replay(self.online, recorded, self.contract, self.normalizer)
        for part in recorded:
            self.log.alarm.see(*part.rewards.tolist())
        self.env_steps, self.episodes = sum(map(len, recorded)), report.episodes
        self.trained_s, self.evaluation = checkpoint.trained_s, checkpoint.evaluation
        self.log.evaluation = checkpoint.evaluation
        best = self.run_dir / CHECKPOINTS / BEST
        if best.is_file():
            self.best_evaluation = load_checkpoint(best).evaluation
        while self._next_evaluation and self._next_evaluation <= self.env_steps:
            self._next_evaluation += self.config.eval_every
        for generator, state in (
            (self.updater.generator, checkpoint.sampling),
            (self.exploration, checkpoint.exploration),
        ):
            if state is not None:
                generator.set_state(state)
