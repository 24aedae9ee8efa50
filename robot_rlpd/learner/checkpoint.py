"""Checkpoints: everything a learner needs to go on, in one file without pickled code."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rlpd.config import replacing
from robot_rlpd.errors import ConfigError, DataError, RunDirectoryError, SpecError
from robot_rlpd.learner.encoders import ENCODER, policy_shapes
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.specs import PolicyContract, canonical_json, from_builtins, to_builtins
from robot_rlpd.task import TaskOptions

if TYPE_CHECKING:
    from pathlib import Path

FORMAT, VERSION = "robot-rlpd-checkpoint", 1
LATEST, BEST = "latest.pt", "best.pt"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a training session at one instant.

    Attributes:
        contract: What the policy reads, commands, and at which rate.
        task: Name of the task.
        task_options: As given on the command line.
        max_episode_steps: Time limit of the task in steps.
        config: Configuration of the learner.
        learner: `RLPD.state_dict()`.
        normalizer: Mean and scale `(O,)` of the flattened observation, or None.
        env_steps: Environment steps so far.
        gradient_steps: Critic updates so far.
        episodes: Training episodes so far.
        evaluation: The newest evaluation as JSON, or None.
        run: Name of the run.
        prior: Digest of each prior store by its name.
        trained_s: Training time so far in seconds.
        sampling: State of the generator that draws minibatches.
        exploration: State of the generator of exploration noise.
    """

    contract: PolicyContract
    task: str
    task_options: TaskOptions
    max_episode_steps: int
    config: RLPDConfig
    learner: dict[str, Tensor]
    normalizer: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    env_steps: int = 0
    gradient_steps: int = 0
    episodes: int = 0
    evaluation: dict[str, Any] | None = None
    run: str = ""
    prior: dict[str, str] = field(default_factory=dict)
    trained_s: float = 0.0
    sampling: Tensor | None = None
    exploration: Tensor | None = None

    @property
    def actor(self) -> dict[str, Tensor]:
        """Parameters of the actor (`dense0/kernel`, ...) and of the encoder that it sees through, by name."""
        actor = {
            name.removeprefix("actor/"): value for name, value in self.learner.items() if name.startswith("actor/")
        }
        encoder = f"critic/{ENCODER}"
        seen_through = {name.removeprefix("critic/"): v for name, v in self.learner.items() if name.startswith(encoder)}
        return actor | seen_through

    def check_explores(self, *, field: str) -> None:
        """Refuse a policy that was cloned: the size of its noise was never learned.

        Raises:
            ConfigError: Naming `field`, the option that asks for noise.
        """
        if "log_temperature" not in self.learner:
            raise ConfigError("a cloned policy has learned no exploration", field=field, allowed="none")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace `path` atomically: after a crash at any instant it holds the old or the new state, whole."""
    description = {
        name: to_builtins(getattr(checkpoint, name))
        for name in ("contract", "task", "task_options", "max_episode_steps", "config", "env_steps", "gradient_steps")
    } | {name: getattr(checkpoint, name) for name in ("episodes", "evaluation", "run", "prior", "trained_s")}
    tensors = dict(checkpoint.learner)
    generators = {"sampling": checkpoint.sampling, "exploration": checkpoint.exploration}
    tensors |= {name: state for name, state in generators.items() if state is not None}
    if checkpoint.normalizer is not None:
        tensors |= {f"normalizer/{i}": torch.from_numpy(a.copy()) for i, a in enumerate(checkpoint.normalizer)}
    content = {"format": FORMAT, "version": VERSION, "description": canonical_json(description), "tensors": tensors}
    encoded = io.BytesIO()  # torch hides why a file cannot be written
    torch.save(content, encoded)
    with replacing(path) as file:
        file.write(encoded.getbuffer())


def find_checkpoint(path: Path, *, prefer: str = LATEST) -> Path:
    """The checkpoint file of a run directory, or `path` itself where it is a file.

    Raises:
        RunDirectoryError: There is none.
    """
    if path.is_file():
        return path
    for name in (prefer, LATEST, BEST):
        candidate = path / "checkpoints" / name
        if candidate.is_file():
            return candidate
    what = "no checkpoint in this run directory" if path.is_dir() else "no such run directory or checkpoint"
    raise RunDirectoryError(what, field=str(path))


def load_checkpoint(path: Path, *, prefer: str = LATEST) -> Checkpoint:
    """Read a checkpoint file, or the newest (`prefer`) of a run directory.

    Raises:
        RunDirectoryError: There is none.
        DataError: The file is no checkpoint, is truncated, or of another version.
    """
    file = find_checkpoint(path, prefer=prefer)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files of others
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the bytes provoke
        raise DataError(f"not a readable checkpoint ({type(error).__name__})", field=str(file)) from None
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise DataError("not a checkpoint of this program", field=str(file))
    if content.get("version") != VERSION:
        raise DataError(field=f"{file}: version", found=content.get("version"), allowed=str(VERSION))
    try:
        checkpoint = _checkpoint(content)
    except (KeyError, TypeError, ValueError, SpecError) as error:
        raise DataError(f"a damaged checkpoint ({type(error).__name__}: {error})", field=str(file)) from None
    _check_actor(checkpoint, str(file))
    return checkpoint


def _checkpoint(content: Mapping[str, Any]) -> Checkpoint:
    description = json.loads(content["description"])
    tensors: dict[str, Tensor] = dict(content["tensors"])
    parts = [tensors.pop(f"normalizer/{i}", None) for i in range(2)]
    normalizer = None if parts[0] is None or parts[1] is None else (parts[0].numpy(), parts[1].numpy())
    sampling, exploration = tensors.pop("sampling", None), tensors.pop("exploration", None)
    return Checkpoint(
        contract=from_builtins(description.pop("contract"), PolicyContract),
        task_options=from_builtins(description.pop("task_options"), TaskOptions),
        config=from_builtins(description.pop("config"), RLPDConfig),
        learner=tensors,
        normalizer=normalizer,
        sampling=sampling,
        exploration=exploration,
        **description,
    )


def _check_actor(checkpoint: Checkpoint, where: str) -> None:
    contract, actor = checkpoint.contract, checkpoint.actor
    needed = policy_shapes(contract, checkpoint.config.hidden_dims, checkpoint.config.pixels)
    for name, shape in needed.items():
        found = tuple(actor[name].shape) if name in actor else "no such parameter"
        if found != shape:
            raise DataError(
                "a damaged checkpoint", field=f"{where}: actor/{name}", found=found, allowed=f"shape {shape}"
            )
