"""The directory of a training run: its exact configuration, and where everything else lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.config import read_config, write_config
from robot_rlpd.errors import RunDirectoryError
from robot_rlpd.learner.session_config import SessionConfig

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_FILE, CHECKPOINTS, EPISODES = "config.json", "checkpoints", "episodes.zarr"
CLASSIFIER = "classifier.onnx"
"""The run's copy of the file that says what is solved."""


def prepare_run_directory(config: SessionConfig, run_dir: Path) -> None:
    """Make a new run directory with the exact configuration.

    Raises:
        RunDirectoryError: It exists and is not empty.
    """
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise RunDirectoryError(
            "exists already", field=str(run_dir), hint=f"go on with --resume {run_dir}, or choose another --run-dir"
        )
    (run_dir / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    write_config(run_dir / CONFIG_FILE, config)


def read_run_config(run_dir: Path) -> SessionConfig:
    """The configuration of a run.

    Raises:
        RunDirectoryError: There is none.
        ConfigError: It was changed to something that is not allowed.
    """
    if not (run_dir / CONFIG_FILE).is_file():
        raise RunDirectoryError(f"not a run directory: no {CONFIG_FILE}", field=str(run_dir))
    return read_config(run_dir / CONFIG_FILE, SessionConfig)
