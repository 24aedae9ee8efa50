"""The baseline `train --cloning-steps`: an actor cloned from the prior data, in a run directory like any other."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import torch

from robot_rlpd.errors import ConfigError, TrainingError
from robot_rlpd.evaluation import evaluate, rank
from robot_rlpd.learner.checkpoint import BEST, LATEST, Checkpoint, save_checkpoint
from robot_rlpd.learner.fields import make_replay, policy_contract
from robot_rlpd.learner.metrics import MetricsLog
from robot_rlpd.learner.pixel_cloning import make_cloning
from robot_rlpd.learner.policy import ActorPolicy
from robot_rlpd.learner.prior import fill_replay, fit_normalizer, load_prior
from robot_rlpd.learner.run_directory import CHECKPOINTS
from robot_rlpd.learner.session_config import SessionConfig, thread_choices
from robot_rlpd.progress import ProgressLine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.robot import Robot
    from robot_rlpd.task import Task


class CloningSession:
    """Regresses the actor on the prior data's executed actions; the robot only moves while it is evaluated.

    Args:
        config: With `cloning_steps` and prior stores.
        run_dir: Exists already; holds what `prepare_run_directory` wrote.
        robot: Opened; left open.
        task: Judges the prior data and the evaluations.

    Raises:
        ConfigError: There are no prior stores.
    """

    def __init__(self, config: SessionConfig, run_dir: Path, robot: Robot, task: Task) -> None:
        if not config.prior:
            raise ConfigError("cloning needs prior data", field="prior", found="none", allowed="one or more stores")
        torch.set_num_threads(thread_choices(config)[-1])
        self.config, self.run_dir, self.robot, self.task = config, run_dir, robot, task
        self.contract = policy_contract(robot.spec, config.cameras, config.state_fields)
        stores, self.prior_report = load_prior(config.prior, task, self.contract)
        found = [part for store in stores for part in store]
        self.normalizer = fit_normalizer(found, self.contract) if config.normalize else None
        rows = self.prior_report.transitions
        self.replay = make_replay(config.rlpd, self.contract, rows, len(found), config.device)
        fill_replay(self.replay, found, self.contract, self.normalizer)
        self.learner = make_cloning(
            config.rlpd, self.contract, seed=config.seed, device=config.device, compile=config.compile_update
        )
        self.generator = torch.Generator(self.replay.device).manual_seed(config.seed)
        self.evaluation: dict[str, Any] | None = None
        self.best_evaluation: dict[str, Any] | None = None
        self.trained_s = 0.0

    def run(self, should_stop: Callable[[], bool]) -> str:
        """Make `cloning_steps` gradient steps, evaluating on the way; returns why it ended.

        Raises:
            TrainingError: The loss is not finite; the newest checkpoint is from before that.
        """
        config, started_s = self.config, time.monotonic()
        evaluate_every = max(1, config.cloning_steps // 10) if config.eval_every else config.cloning_steps + 1
        with (
            MetricsLog(self.run_dir) as metrics,
            contextlib.closing(ProgressLine(config.cloning_steps, unit="gradient steps")) as progress,
        ):
            metrics.write("start", 0, 0, {"prior": str(self.prior_report)})
            while self.learner.gradient_steps < config.cloning_steps and not should_stop():
                values = self.learner.update(self.replay.sample(config.rlpd.batch_size, self.generator))
                steps = self.learner.gradient_steps
                if not values["cloning_loss"] < float("inf"):
                    raise TrainingError("is not finite; the last good checkpoint is kept", field="cloning_loss")
                if steps % config.log_every == 0:
                    metrics.write("train", 0, steps, values)
                progress.update(steps, f"loss {values['cloning_loss']:.2g}")
                self.trained_s = time.monotonic() - started_s
                if steps % evaluate_every == 0:
                    self._evaluate(metrics, should_stop)
            self._save(LATEST)
            reason = "finished" if self.learner.gradient_steps >= config.cloning_steps else "stopped"
            metrics.write("end", 0, self.learner.gradient_steps, {"reason": reason})
        return reason

    def summary(self, reason: str) -> dict[str, Any]:
        """What `train --cloning-steps --json` prints: the fields of `train`, without environment steps."""
        return {
            "run_dir": str(self.run_dir),
            "ended": reason,
            "env_steps": 0,
            "gradient_steps": self.learner.gradient_steps,
            "episodes": 0,
            "trained_s": round(self.trained_s, 3),
            "utd_ratio": 0.0,
            "prior": dataclasses.asdict(self.prior_report),
            "evaluation": self.evaluation,
            "best_success_rate": self.best_evaluation and self.best_evaluation["success_rate"],
        }

    def close(self) -> None:
        """Nothing is open between runs."""

    def _evaluate(self, metrics: MetricsLog, should_stop: Callable[[], bool]) -> None:
        pixels = self.config.rlpd.pixels
        policy = ActorPolicy(self.contract, self.learner.deterministic_action, self.normalizer, pixels)
        episodes = self.config.eval_episodes
        evaluation = evaluate(self.robot, policy, self.task, episodes=episodes, should_stop=should_stop)
        if evaluation.episodes < episodes:
            return
        self.evaluation = evaluation.to_json()
        metrics.write("evaluation", 0, self.learner.gradient_steps, self.evaluation)
        self._save(LATEST)
        if rank(self.evaluation) >= rank(self.best_evaluation):
            self.best_evaluation = self.evaluation
            self._save(BEST)

    def _save(self, name: str) -> None:
        save_checkpoint(
            self.run_dir / CHECKPOINTS / name,
            Checkpoint(
                contract=self.contract,
                task=self.task.name,
                task_options=self.config.task_options(),
                max_episode_steps=self.task.max_episode_steps,
                config=self.config.rlpd,
                learner={f"actor/{name}": parameter.clone() for name, parameter in self.learner.actor.items()},
                normalizer=self.normalizer,
                gradient_steps=self.learner.gradient_steps,
                evaluation=self.evaluation,
                run=self.run_dir.name,
                prior=self.prior_report.digests,
                trained_s=self.trained_s,
            ),
        )
