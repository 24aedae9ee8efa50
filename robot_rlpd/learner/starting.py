"""The beginning of a session of fine-tuning: a directory that goes on from somebody else's checkpoint."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from robot_rlpd.config import write_config
from robot_rlpd.learner.checkpoint import LATEST, Checkpoint, save_checkpoint
from robot_rlpd.learner.finetune_config import FINETUNE_FILE, START
from robot_rlpd.learner.run_directory import CHECKPOINTS, CLASSIFIER, EPISODES, prepare_run_directory
from robot_rlpd.specs import check_contract

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.learner.finetune_config import FinetuneConfig
    from robot_rlpd.learner.session_config import SessionConfig
    from robot_rlpd.specs import RobotSpec

OPTIMISER = "adam/"


def prepare_finetuning(
    config: SessionConfig, finetune: FinetuneConfig, run_dir: Path, start: Checkpoint, spec: RobotSpec
) -> None:
    """Make a directory from which `FinetuneSession` goes on as if it had been interrupted before its first step.

    Args:
        config: Of the session.
        finetune: Of the session.
        run_dir: Must not exist, or be empty.
        start: What the session begins with.
        spec: Of the robot.

    Raises:
        RunDirectoryError: The directory exists and is not empty.
        MismatchError: The checkpoint is of another contract; names the field.
    """
    from robot_rlpd.episode_store import EpisodeStore

    check_contract(start.contract, spec, who=f"robot '{spec.name}'")
    prepare_run_directory(config, run_dir)
    write_config(run_dir / FINETUNE_FILE, finetune)
    if finetune.classifier is not None:
        shutil.copyfile(finetune.classifier, run_dir / CLASSIFIER)
    # A simulated session that is resumed learns from its store exactly what it would have learned from its robot.
    EpisodeStore.create(run_dir / EPISODES, spec, lossless=bool(config.cameras) and config.simulated).close()
    first = fresh_start(start)
    save_checkpoint(run_dir / CHECKPOINTS / START, first)
    save_checkpoint(run_dir / CHECKPOINTS / LATEST, first)


def fresh_start(start: Checkpoint) -> Checkpoint:
    """The same networks and temperature; counters at zero, and the optimiser's moments: they are of other data."""
    learner = {
        name: torch.zeros_like(tensor) if name.startswith(OPTIMISER) else tensor
        for name, tensor in start.learner.items()
    }
    return replace(
        start,
        learner=learner,
        env_steps=0,
        gradient_steps=0,
        episodes=0,
        evaluation=None,
        trained_s=0.0,
        sampling=None,
        exploration=None,
    )
