"""What makes a session of fine-tuning of a training session, as it is written into its directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robot_rlpd.config import read_config
from robot_rlpd.errors import ConfigError, RunDirectoryError
from robot_rlpd.learner.session_config import check_classifier

FINETUNE_FILE = "finetune.json"
START = "start.pt"
"""Checkpoint of the policy that the session began with; never written again but for its evaluation."""
SuccessKind = Literal["task", "robot", "operator", "classifier"]
ResetKind = Literal["auto", "prompt"]
TakeoverKind = Literal["stuck", "late"]


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Beside `SessionConfig`, everything that decides a session of fine-tuning."""

    start: Path
    """Where the starting policy came from."""
    minutes: float
    """Time on the robot in training: control steps over the control rate, > 0 [min]."""
    success: SuccessKind = "task"
    """Who says that the task is solved: the task from observations, the robot's signal, the operator's key, or a
    trained classifier."""
    classifier: Path | None = None
    """File of that classifier; None for none."""
    resets: ResetKind = "auto"
    """Whether the robot resets itself and its scene, or a person does and confirms."""
    intervene: str = ""
    """Device of who may take over, NAME or NAME:ARGUMENT; empty for nobody."""
    corrector_noise: float = 0.3
    """Mistakes of a scripted corrector, 0 to 1."""
    takeover: TakeoverKind = "late"
    """When a scripted corrector takes over: while the policy makes no progress, or for the rest of an episode that is
    not solved in time; the default is what sessions did that do not say."""
    stuck_s: float = 1.0
    """Time without progress after which a policy counts as stuck, > 0 [s]."""
    takeover_after: float = 0.5
    """Part of an episode's time limit after which a policy counts as late, 0 to 1."""
    patience_min: float = 15.0
    """How long to wait for a robot that is gone, >= 0 [min]."""

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigError: Names the field, the value and what is allowed.
        """
        if not 0.0 < self.minutes < float("inf"):
            raise ConfigError(field="minutes", found=self.minutes, allowed="> 0 and finite")
        for name in ("corrector_noise", "takeover_after"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(field=name, found=getattr(self, name), allowed="0 to 1")
        if not 0.0 < self.stuck_s < float("inf"):
            raise ConfigError(field="stuck_s", found=self.stuck_s, allowed="> 0 and finite")
        if not 0.0 <= self.patience_min < float("inf"):
            raise ConfigError(field="patience_min", found=self.patience_min, allowed=">= 0 and finite")
        check_classifier(self.success, self.classifier)
        if self.success == "operator" and not self.intervene:
            hint = "such as --intervene keyboard: its buttons say success and failure"
            raise ConfigError("needs a device with buttons", field="intervene", found="none", hint=hint)


def read_finetune_config(run_dir: Path) -> FinetuneConfig:
    """The configuration of a session.

    Raises:
        RunDirectoryError: This is not the directory of one.
        ConfigError: It was changed to something that is not allowed.
    """
    if not (run_dir / FINETUNE_FILE).is_file():
        raise RunDirectoryError(f"not a session of fine-tuning: no {FINETUNE_FILE}", field=str(run_dir))
    return read_config(run_dir / FINETUNE_FILE, FinetuneConfig)
