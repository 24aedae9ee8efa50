"""The configuration of a training session, as it is written into the run directory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.learner.tuning import MatmulPrecision
from robot_rlpd.task import RewardKind, TaskOptions

TrainSuccess = Literal["task", "robot", "classifier"]
LARGE_UPDATE_PARAMETERS = 200_000
"""Critic parameters from which a second thread pays; below, the cost per operation dominates."""


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Everything that decides a run, all defaults resolved."""

    task: str
    """Task name, as after --task."""
    run_id: str = ""
    """UUID of the run, drawn when it is made."""
    robot: str = ""
    """Address or name of the robot; empty runs the task in this process."""
    listen: str = ""
    """Address at which autonomous actors deliver episodes; empty drives a robot from here."""
    prior: tuple[Path, ...] = ()
    """Prior stores."""
    prior_weights: tuple[float, ...] = ()
    """Share of each prior store among the offline transitions, > 0 each; empty draws from all transitions alike."""
    preset: str = ""
    """Preset that `rlpd` was derived from."""
    rlpd: RLPDConfig = field(default_factory=RLPDConfig)
    """The learner."""
    cameras: tuple[str, ...] = ()
    """Image fields that the policy reads; needs `rlpd.pixels`."""
    state_fields: tuple[str, ...] = ()
    """Fields without images that the policy reads; empty reads all."""
    env_steps: int = 100_000
    """Environment steps in all, >= 1."""
    start_training: int = 5000
    """Environment steps of uniform random actions before the first update, >= 1."""
    seed: int = 0
    """Decides everything random, >= 0."""
    reward: RewardKind = "task"
    """Where the reward comes from."""
    success_when: str = ""
    """Condition that decides success, empty for the task's own."""
    success: TrainSuccess = "task"
    """Who says what is solved: the task, the robot's signal, or a classifier."""
    classifier: Path | None = None
    """Where that classifier came from; the run keeps a copy."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Passed to a Gymnasium environment."""
    max_episode_steps: int | None = None
    """Time limit in steps instead of the task's own."""
    one_replay: bool = False
    """Whether prior data go into the online replay (SACfD) instead of being sampled symmetrically."""
    cloning_steps: int = 0
    """Gradient steps of behaviour cloning, >= 0; 0 trains with RLPD."""
    normalize: bool = False
    """Whether observations are normalised by mean and scale of the prior data, frozen."""
    eval_every: int = 0
    """Environment steps between evaluations; 0 never evaluates."""
    eval_episodes: int = 20
    """Episodes per evaluation, >= 1."""
    time_limit_min: float | None = None
    """Minutes of training after which to stop."""
    checkpoint_every_s: float = 60.0
    """Longest time between checkpoints, at episode ends [s]."""
    log_every: int = 100
    """Environment steps between lines of metrics, >= 1."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 0
    """Torch threads; 0 chooses by the size of the networks and by what else the machine does."""
    matmul_precision: MatmulPrecision = "highest"
    """How float32 matrices are multiplied: as measured to be fast and exact where the run was made."""
    overlap: bool = False
    """Whether updates run while the robot moves; its actor is then one environment step older."""
    compile_update: bool = True
    """Whether to compile the update where that works."""
    extra_capacity: int = 2000
    """Room in the online replay beyond env_steps, for an episode that runs over."""

    def __post_init__(self) -> None:
        least_of = {"env_steps": 1, "start_training": 1, "seed": 0, "eval_every": 0, "log_every": 1, "threads": 0}
        least_of["cloning_steps"] = 0
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise ConfigError(field=name, found=getattr(self, name), allowed=f">= {least}")
        if bool(self.cameras) != (self.rlpd.pixels is not None):
            allowed = "some with rlpd.pixels, none without"
            raise ConfigError(field="cameras", found=self.cameras or "none", allowed=allowed)
        if self.eval_episodes < 1:
            raise ConfigError(field="eval_episodes", found=self.eval_episodes, allowed=">= 1")
        if self.prior_weights and (len(self.prior_weights) != len(self.prior) or self.one_replay):
            allowed = "none with one replay" if self.one_replay else f"one for each of {len(self.prior)} prior stores"
            raise ConfigError(field="prior_weights", found=len(self.prior_weights), allowed=allowed)
        if any(not 0.0 < weight < float("inf") for weight in self.prior_weights):
            raise ConfigError(field="prior_weights", found=min(self.prior_weights), allowed="> 0 and finite")
        check_classifier(self.success, self.classifier)
        given = "success_when" if self.success_when else "reward" if self.reward == "stored" else ""
        if self.success != "task" and given:
            allowed = f"with --success task; {self.success} says it by itself"
            raise ConfigError(field=given, found=getattr(self, given), allowed=allowed)
        if self.time_limit_min is not None and not self.time_limit_min > 0:
            raise ConfigError(field="time_limit_min", found=self.time_limit_min, allowed="> 0 minutes")

    @property
    def simulated(self) -> bool:
        """Whether the robot runs in this process: what it did can be done again from the seeds."""
        return not self.robot and not self.listen

    def task_options(self) -> TaskOptions:
        """The options that make the task."""
        return TaskOptions(
            success_when=self.success_when,
            reward=self.reward,
            env_kwargs=self.env_kwargs,
            max_episode_steps=self.max_episode_steps,
        )


def check_classifier(success: str, classifier: Path | None) -> None:
    """Refuse a classifier that is not asked, and a missing one.

    Raises:
        ConfigError: Names what goes together.
    """
    if (success == "classifier") != (classifier is not None):
        hint = "made by robot-rlpd reward train"
        allowed = "a file together with --success classifier, none with another"
        raise ConfigError(field="classifier", found=str(classifier or "none"), allowed=allowed, hint=hint)


def check_device(name: str) -> None:
    """Refuse a torch device that this machine does not have.

    Raises:
        ConfigError: Lists those that it has.
    """
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError):  # the latter where torch was built without it
        allowed = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ConfigError("no such device here", field="device", found=name, allowed=", ".join(allowed)) from None


def thread_choices(config: SessionConfig) -> tuple[int, ...]:
    """Torch threads for the update, the preferred number first.

    One where the networks are small; else all cores, or one as long as something else needs the others.
    """
    if config.threads:
        return (config.threads,)
    width = max(config.rlpd.hidden_dims)
    parameters = config.rlpd.ensemble_size * width * width * (len(config.rlpd.hidden_dims) - 1 or 1)
    cores = os.cpu_count() or 1
    return (cores, 1) if parameters >= LARGE_UPDATE_PARAMETERS and cores > 1 else (1,)
