"""The command `eval`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from robot_rlpd.config import parse_json_object
from robot_rlpd.errors import ConfigError, RunDirectoryError
from robot_rlpd.interrupt import stop_on_signals
from robot_rlpd.learner.task_robot import open_task_robot
from robot_rlpd.task import RewardKind, TaskOptions, load_task

if TYPE_CHECKING:
    from robot_rlpd.robot import Policy, Robot


@dataclass(frozen=True, kw_only=True)
class EvalCommand:
    """Options of `robot-rlpd eval`."""

    policy: Path
    """Run directory, checkpoint or .onnx file."""
    task: str
    """Task: reach, pick_place, push, peg_insert, drawer, bimanual_handover, gymnasium:<id> or
    gymnasium:<module>:<id>."""
    robot: str = ""
    """Address of a served robot; empty runs the task in this process."""
    episodes: int = 50
    """Number of episodes."""
    seed: int = 0
    """Shifts the reset seeds; 0 gives the seeds that evaluation uses by default."""
    noise: float = 0.0
    """Share of its exploration that the policy of a checkpoint keeps: 0 is deterministic, 1 explores as in training."""
    reward: RewardKind = "task"
    """task: the task's own; sparse: 0 where solved, else -1; stored: as signalled."""
    success_when: str = ""
    """Condition that decides success, such as "observation[28] >= 1.35"."""
    env_kwargs: str = ""
    """JSON object: arguments of a gymnasium environment, or cameras, image_size, randomization,
    calibration, previous_actions of a simulated task."""
    max_episode_steps: int | None = None
    """Time limit of an episode in steps instead of the task's own."""
    json: bool = False
    """Print one JSON object on standard output."""


def evaluate(command: Annotated[EvalCommand, tyro.conf.arg(name="")]) -> int:
    """Measure the success rate of a policy: successes, episodes and the 95 % interval."""
    from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET, Evaluation
    from robot_rlpd.evaluation import evaluate as run_evaluation
    from robot_rlpd.progress import ProgressLine

    for name, least in (("episodes", 1), ("seed", 0)):
        if getattr(command, name) < least:
            raise ConfigError(field=name, found=getattr(command, name), allowed=f">= {least}")
    if not 0.0 <= command.noise <= 1.0:
        raise ConfigError(field="noise", found=command.noise, allowed="0 to 1")
    options = TaskOptions(
        success_when=command.success_when,
        reward=command.reward,
        env_kwargs=parse_json_object(command.env_kwargs, field="env_kwargs"),
        max_episode_steps=command.max_episode_steps,
    )
    setup = load_task(command.task, options)
    with stop_on_signals() as should_stop, open_task_robot(setup, command.robot, options) as robot:
        policy = open_policy(command.policy, robot, command.noise)
        progress = ProgressLine(command.episodes)

        def show(evaluation: Evaluation, episode: object) -> None:
            del episode
            progress.update(evaluation.episodes, f"solved {evaluation.successes}")

        evaluation = run_evaluation(
            robot,
            policy,
            setup.task,
            episodes=command.episodes,
            first_seed=EVALUATION_SEED_OFFSET + command.seed * 10_000,
            on_episode=show,
            should_stop=should_stop,
        )
        progress.close()
    if command.json:
        sys.stdout.write(json.dumps({"policy": str(command.policy), **evaluation.to_json()}) + "\n")
    else:
        sys.stdout.write(f"{command.policy} on {setup.task.name}: {evaluation}\n")
    return 0


def open_policy(path: Path, robot: Robot, noise: float) -> Policy:
    """Open a run directory, a checkpoint or an .onnx file as a policy for this robot."""
    from robot_rlpd.registry import load_entry_point

    if not path.exists():
        raise RunDirectoryError("no such run directory, checkpoint or .onnx file", field=str(path))
    if path.suffix != ".onnx":
        from robot_rlpd.learner import policy as of_checkpoints

        return of_checkpoints.open_policy(path, robot.spec, noise=noise)
    if noise:
        hint = "export it with --stochastic"
        raise ConfigError("an .onnx file explores or not as it was exported", field="noise", found=noise, hint=hint)
    policy: Policy = load_entry_point("robot_rlpd.policies", "onnx")(path, robot.spec)
    return policy
