"""One training session: RLPD against a robot, with its run directory."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from robot_rlpd.episode import Episode, EpisodeInfo, Step
from robot_rlpd.errors import BridgeError, RobotError, TrainingError
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET, evaluate
from robot_rlpd.learner.allocator import keep_freed_memory
from robot_rlpd.learner.checkpoint import BEST, LATEST, Checkpoint, load_checkpoint, save_checkpoint
from robot_rlpd.learner.metrics import MetricsLog
from robot_rlpd.learner.policy import ActorPolicy, Normalizer, WarmUpPolicy, normalized
from robot_rlpd.learner.prior import PriorReport, fill_replay, fit_normalizer, judged, load_prior
from robot_rlpd.learner.q_range import QRangeAlarm
from robot_rlpd.learner.replay import ReplayBuffer, SymmetricSampler
from robot_rlpd.learner.rlpd import RLPD
from robot_rlpd.learner.run_directory import CHECKPOINTS, EPISODES
from robot_rlpd.learner.session_config import SessionConfig, num_threads
from robot_rlpd.progress import ProgressLine
from robot_rlpd.robot import RandomPolicy
from robot_rlpd.rollout import SilentListener, rollout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.robot import Policy, Robot
    from robot_rlpd.task import Task

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
        torch.set_num_threads(num_threads(config))
        keep_freed_memory()
        self.config, self.run_dir, self.robot, self.task = config, run_dir, robot, task
        self.contract = robot.spec.contract()
        found, self.prior_report = load_prior(config.prior, task, self.contract)
        checkpoint = load_checkpoint(run_dir) if resume else None
        self.normalizer: Normalizer | None = None
        if config.normalize and found:
            self.normalizer = fit_normalizer(found, self.contract)
        if checkpoint is not None:
            self.normalizer = checkpoint.normalizer
        size, actions = self.contract.observation_size, self.contract.action.size
        self.learner = RLPD(
            config.rlpd, size, actions, seed=config.seed, device=config.device, compile=config.compile_update
        )
        self.generator = torch.Generator().manual_seed(config.seed)
        self.alarm = QRangeAlarm(config.rlpd)
        for part in found:
            self.alarm.see(*part.rewards.tolist())
        room = config.env_steps + config.extra_capacity
        if config.one_replay:
            room += self.prior_report.transitions
        self.online = ReplayBuffer(size, actions, capacity=room)
        offline: ReplayBuffer | None = None
        if found and not config.one_replay:
            offline = ReplayBuffer(size, actions, capacity=max(1, self.prior_report.transitions))
        fill_replay(self.online if offline is None else offline, found, self.contract, self.normalizer)
        self._prior_in_online = len(self.online)
        fraction = config.rlpd.offline_fraction if offline is not None else 0.0
        self.sampler = SymmetricSampler(offline, self.online, fraction)
        self.env_steps = self.episodes = 0
        self.evaluation: dict[str, Any] | None = None
        self.best_success_rate = -1.0
        self._failures = 0
        self.recent = deque[bool](maxlen=20)
        self.recent_metrics = deque[dict[str, float]](maxlen=200)
        self.trained_s = 0.0
        self._saved_s = time.monotonic()
        self._next_evaluation = config.eval_every
        self.store = self._open_store(resume)
        if checkpoint is not None:
            self._restore(checkpoint)

    def run(self, should_stop: Callable[[], bool]) -> str:
        """Train until `env_steps`, the time limit, or `should_stop`; returns why it ended."""
        progress = ProgressLine(self.config.env_steps)
        started_s = time.monotonic() - self.trained_s
        with MetricsLog(self.run_dir, wall_offset_s=self.trained_s) as self.metrics:
            self.metrics.write("start", self.env_steps, self.learner.gradient_steps, {"prior": str(self.prior_report)})

            def finished() -> str:
                self.trained_s = time.monotonic() - started_s
                if should_stop():
                    return "stopped"
                if self.env_steps >= self.config.env_steps:
                    return "finished"
                over = self.config.time_limit_min is not None and self.trained_s > 60.0 * self.config.time_limit_min
                return "time limit" if over else ""

            self.progress, self._started_s, self._started_steps = progress, time.monotonic(), self.env_steps
            self.save(LATEST)  # a run that is killed early can be resumed
            try:
                self._warm_up_update()
                while not (reason := finished()):
                    self._patiently(lambda: self._train_episode(lambda: bool(finished())))
                    if self._next_evaluation and self.env_steps >= self._next_evaluation:
                        self._patiently(lambda: self._evaluate(should_stop))
            finally:
                progress.close()
                self.save(LATEST)
            self.metrics.write("end", self.env_steps, self.learner.gradient_steps, {"reason": reason})
        return reason

    def save(self, name: str) -> Path:
        """Write a checkpoint; one that exists stays as it is where the learner is not finite."""
        path = self.run_dir / CHECKPOINTS / name
        learner = self.learner.state_dict()
        if not all(bool(tensor.isfinite().all()) for tensor in learner.values()):
            _logger.warning("parameters are not finite; %s is not written", path)
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
                sampling=self.generator.get_state(),
            ),
        )
        self._saved_s = time.monotonic()
        return path

    def _warm_up_update(self) -> None:
        """Compile before the first reset: a robot that waits for a compiler in mid-episode would be stopped."""
        state = self.learner.state_dict()
        # Laid out in memory like a sampled batch, or the compiler would start anew with the first one.
        batch = self.online.zeros(self.config.rlpd.utd_ratio * self.config.rlpd.batch_size)
        self.learner.update(batch)
        self.learner.load_state_dict(state)

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

        warm_up = self.env_steps < self.config.start_training
        seed = int(np.random.SeedSequence([self.config.seed, self.episodes]).generate_state(1)[0])
        seed %= EVALUATION_SEED_OFFSET
        policy: Policy = self._acting_policy()
        if warm_up:
            random = RandomPolicy(self.robot.spec, np.random.default_rng(seed))
            policy = WarmUpPolicy(random, policy, lambda: self.env_steps < self.config.start_training)
        rollout(
            self.robot,
            policy,
            self.task,
            seed=seed,
            info=EpisodeInfo(policy=f"{self.run_dir.name}@{self.env_steps}"),
            identity=self._identity(),
            listeners=(StoreListener(self.store), self),
            should_stop=should_stop,
        )

    def _identity(self) -> str:
        """A simulated episode that is run again after a crash is the same episode, and stored once."""
        run = self.config.run_id
        return str(uuid.uuid5(uuid.UUID(run), str(self.episodes))) if run and self.config.simulated else ""

    def _acting_policy(self) -> ActorPolicy:
        return ActorPolicy(self.contract, lambda x: self.learner.sample_action(x, self.generator), self.normalizer)

    def on_step(self, step: Step) -> None:
        """Store the transition, then update."""
        self.online.append(
            normalized(self.contract.flatten(step.observation), self.normalizer),
            self.contract.action.to_unit(step.executed_action),
            step.outcome.reward,
            1.0 - float(step.outcome.terminated),
            normalized(self.contract.flatten(step.result.observation), self.normalizer),
        )
        self.alarm.see(step.outcome.reward)
        self.env_steps += 1
        if self.env_steps > self.config.start_training:
            self._update()
        if self.env_steps % self.config.log_every == 0:
            self._log()

    def on_end(self, episode: Episode) -> None:
        """Count the episode."""
        self.episodes += 1
        self.recent.append(bool(episode.info.success))
        values = {"success": bool(episode.info.success), "length": len(episode), "ended": str(episode.info.ended)}
        self.metrics.write("episode", self.env_steps, self.learner.gradient_steps, values)
        if time.monotonic() - self._saved_s > self.config.checkpoint_every_s:
            self.save(LATEST)

    def _update(self) -> None:
        config = self.config.rlpd
        metrics = self.learner.update(self.sampler.sample(config.utd_ratio, config.batch_size, self.generator))
        if not math.isfinite(metrics["critic_loss"] + metrics["actor_loss"]):
            raise TrainingError(
                "a loss is not finite; the last good checkpoint is kept",
                field="critic_loss" if not math.isfinite(metrics["critic_loss"]) else "actor_loss",
                hint="look at the rewards and observations of the newest episodes",
            )
        self.recent_metrics.append(metrics)

    def _log(self) -> None:
        elapsed_s = time.monotonic() - self._started_s
        values: dict[str, float] = {
            "env_steps_per_s": (self.env_steps - self._started_steps) / elapsed_s,
            "recent_success_rate": float(np.mean(self.recent)) if self.recent else 0.0,
        }
        if self.recent_metrics:
            names = self.recent_metrics[0].keys()
            values |= {name: float(np.mean([m[name] for m in self.recent_metrics])) for name in names}
            warning = self.alarm.check(values["target_q_min"], values["target_q_max"])
            if warning:
                _logger.warning(warning)
        self.metrics.write("train", self.env_steps, self.learner.gradient_steps, values)
        self.progress.update(self.env_steps, self._line(values))

    def _line(self, values: dict[str, float]) -> str:
        parts = [f"{values['env_steps_per_s']:.0f} steps/s", f"solved {sum(self.recent)}/{len(self.recent)} recent"]
        if "q_mean" in values:
            parts.append(f"Q {values['q_mean']:.1f}")
            parts.append(f"temperature {values['temperature']:.3f}")
        else:
            parts.append(f"random until {self.config.start_training}")
        if self.evaluation is not None:
            parts.append(f"evaluated {self.evaluation['successes']}/{self.evaluation['episodes']}")
        return " | ".join(parts)

    def _evaluate(self, should_stop: Callable[[], bool]) -> None:
        policy = ActorPolicy(self.contract, self.learner.deterministic_action, self.normalizer)
        evaluation = evaluate(
            self.robot, policy, self.task, episodes=self.config.eval_episodes, should_stop=should_stop
        )
        while self._next_evaluation <= self.env_steps:
            self._next_evaluation += self.config.eval_every
        if evaluation.episodes < self.config.eval_episodes:
            return
        self.evaluation = evaluation.to_json()
        self.metrics.write("evaluation", self.env_steps, self.learner.gradient_steps, self.evaluation)
        self.save(LATEST)
        if evaluation.success_rate >= self.best_success_rate:
            self.best_success_rate = evaluation.success_rate
            self.save(BEST)

    def _open_store(self, resume: bool) -> EpisodeStore:
        from robot_rlpd.episode_store import EpisodeStore

        path = self.run_dir / EPISODES
        if not resume:
            return EpisodeStore.create(path, self.robot.spec)
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
            self.alarm.see(*part.rewards.tolist())
        self.env_steps, self.episodes = len(self.online) - self._prior_in_online, report.episodes
        self.trained_s, self.evaluation = checkpoint.trained_s, checkpoint.evaluation
        best = self.run_dir / CHECKPOINTS / BEST
        if best.is_file() and (evaluation := load_checkpoint(best).evaluation):
            self.best_success_rate = evaluation["success_rate"]
        while self._next_evaluation and self._next_evaluation <= self.env_steps:
            self._next_evaluation += self.config.eval_every
        if checkpoint.sampling is not None:
            self.generator.set_state(checkpoint.sampling)


def summary(session: Session, reason: str) -> dict[str, Any]:
    """What `train --json` prints, see docs/json.md."""
    return {
        "run_dir": str(session.run_dir),
        "ended": reason,
        "env_steps": session.env_steps,
        "gradient_steps": session.learner.gradient_steps,
        "episodes": session.episodes,
        "trained_s": round(session.trained_s, 3),
        "utd_ratio": session.learner.gradient_steps / max(1, session.env_steps - session.config.start_training),
        "prior": dataclasses.asdict(session.prior_report),
        "evaluation": session.evaluation,
        "best_success_rate": session.best_success_rate if session.best_success_rate >= 0 else None,
    }
