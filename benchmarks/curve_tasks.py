"""The tasks that learning curves are drawn of: their prior data, and what is trained on each."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from demos.commands import ImportConfig, RecordConfig, import_file, record
from robot_rlpd.learner.commands import TrainCommand

DATA = Path(os.environ.get("ROBOT_RLPD_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
"""Where files of demonstrations lie."""


@dataclass(frozen=True, kw_only=True)
class CurveTask:
    """One task: what is trained, on which prior data, for how long.

    Attributes:
        command: Task, reward and full preset.
        light: What a CPU trains with instead; stated wherever a curve of it is shown.
        prior: Makes the prior store, given its path and the seed.
        shared_prior: Whether every seed has the same prior data.
        episodes: Of the final evaluation.
    """

    command: TrainCommand
    light: Mapping[str, Any]
    prior: Callable[[Path, int], object]
    shared_prior: bool = True
    episodes: int = 100


def _demonstrations(out: Path, seed: int) -> object:
    return record(RecordConfig(task="pick_place", out=out, episodes=20, seed=1000 * seed))


def _imported(file: str, command: TrainCommand, fields: tuple[str, ...] = ()) -> Callable[[Path, int], object]:
    def prior(out: Path, seed: int) -> object:
        del seed
        source = DATA / file
        if not source.is_file():
            raise SystemExit(f"{source} is not there; set ROBOT_RLPD_DATA to the folder that holds {file}")
        config = ImportConfig(
            file=source,
            format="d4rl",
            out=out,
            task=command.task,
            field=fields,
            success_when=command.success_when,
            env_kwargs=command.env_kwargs,
        )
        return import_file(config)

    return prior


_LIGHT: dict[str, Any] = {
    "hidden_dims": (128, 128),
    "ensemble_size": 5,
    "batch_size": 128,
    "initial_temperature": 0.1,
    "start_training": 1000,
}
_LIGHT_MAZE: dict[str, Any] = _LIGHT | {
    "hidden_dims": (256, 256, 256),
    "batch_size": 256,
    "utd_ratio": 10,
    "subset_size": 2,
    "normalize": "yes",
    "eval_episodes": 20,
}
"""One step of 700 is a small difference, which takes networks and minibatches of the paper's size to see; the least of
two of five critics keeps them from believing what no data show."""
_LIGHT_DOOR: dict[str, Any] = _LIGHT | {
    "hidden_dims": (128, 128, 128),
    "ensemble_size": 4,
    "utd_ratio": 4,
    "env_steps": 100_000,
    "eval_every": 10_000,
}
"""Five times the environment steps in the same time as 20 updates each: what it lacks is successes to learn from."""
_DOOR = TrainCommand(
    task="gymnasium:gymnasium_robotics:AdroitHandDoorSparse-v1",
    success_when="observation[28] >= 1.35",
    reward="sparse",
    preset="adroit",
    env_steps=1_000_000,
    eval_every=10_000,
)
_UMAZE = TrainCommand(
    task="gymnasium:gymnasium_robotics:AntMaze_UMaze-v4",
    env_kwargs='{"continuing_task": false}',
    success_when="reward > 0",
    reward="sparse",
    preset="antmaze",
    env_steps=300_000,
    eval_every=25_000,
    eval_episodes=100,
)
_MEDIUM = replace(_UMAZE, task="gymnasium:gymnasium_robotics:AntMaze_Medium-v4")
_MAZE_FIELDS = (
    "desired_goal=infos/goal",
    "achieved_goal=observations[0:2]",
    "observation=observations[2:29]",
)
_PICK_PLACE = TrainCommand(task="pick_place", preset="quickstart", env_steps=30_000, eval_every=2_500)

TASKS = {
    "pick_place": CurveTask(
        command=_PICK_PLACE, light={"env_steps": 15_000}, prior=_demonstrations, shared_prior=False, episodes=50
    ),
    "door": CurveTask(
        command=_DOOR,
        light=_LIGHT_DOOR,
        prior=_imported("adroit_door_human.hdf5", _DOOR),
    ),
    "umaze": CurveTask(
        command=_UMAZE,
        light=_LIGHT_MAZE | {"env_steps": 100_000, "eval_every": 5000},
        prior=_imported("antmaze_umaze_play_scripted.hdf5", _UMAZE, _MAZE_FIELDS),
    ),
    "medium": CurveTask(
        command=_MEDIUM,
        light=_LIGHT_MAZE | {"env_steps": 200_000, "eval_every": 20_000},
        prior=_imported("antmaze_medium_play_scripted.hdf5", _MEDIUM, _MAZE_FIELDS),
    ),
}

CONDITIONS: dict[str, dict[str, Any]] = {
    "rlpd": {},
    "no_prior": {"prior": ()},
    "no_layer_norm": {"no_layer_norm": True},
    "two_critics": {"ensemble_size": 2},
    "one_replay": {"one_replay": True},
    "offline_0.25": {"offline_fraction": 0.25},
    "offline_0.75": {"offline_fraction": 0.75},
    "cloning": {"cloning_steps": 20_000},
}
"""Each is the run `rlpd` with one switch."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of the table: a task, a condition, a seed."""

    task: str
    """Name in `TASKS`."""
    condition: str
    """Name in `CONDITIONS`."""
    seed: int
    """Decides everything random."""
    root: Path
    """Where the runs of this task and setting are kept."""
    full: bool = False
    """The full preset instead of the light setting."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """Torch threads."""
    changes: dict[str, Any] = field(default_factory=dict)
    """What else differs, such as another budget of environment steps."""

    @property
    def directory(self) -> Path:
        """Of this cell."""
        return self.root / f"{self.condition}-{self.seed}"

    def prior_store(self) -> Path:
        """The prior data of this seed, made if they are not there."""
        task = TASKS[self.task]
        path = self.root / ("prior.zarr" if task.shared_prior else f"prior-{self.seed}.zarr")
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            with contextlib.redirect_stdout(sys.stderr):  # standard output is the table's
                task.prior(path, self.seed)
        return path

    def command(self) -> TrainCommand:
        """What is trained."""
        task = TASKS[self.task]
        setting = {} if self.full else dict(task.light)
        own = {"prior": (self.prior_store(),), "seed": self.seed, "device": self.device, "threads": self.threads}
        changes = setting | own | self.changes | CONDITIONS[self.condition]
        return replace(task.command, run_dir=self.directory / "train", **changes)
