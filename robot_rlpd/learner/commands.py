"""The command `train`."""

from __future__ import annotations

import json
import logging
import sys
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from robot_rlpd.config import parse_json_object
from robot_rlpd.errors import ConfigError, RunDirectoryError
from robot_rlpd.evaluation import in_words
from robot_rlpd.interrupt import stop_on_signals
from robot_rlpd.learner.task_robot import open_task_robot
from robot_rlpd.task import RewardKind, load_task, served_address

if TYPE_CHECKING:
    from robot_rlpd.learner.encoders import PixelConfig
    from robot_rlpd.learner.rlpd import RLPDConfig
    from robot_rlpd.learner.session_config import SessionConfig
    from robot_rlpd.learner.tuning import MatmulPrecision

DEFAULT_ENV_STEPS = 100_000
PresetName = Literal["quickstart", "robot", "adroit", "antmaze", "locomotion", "pixels", "quickstart_pixels"]


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Options of `robot-rlpd train`."""

    task: str = ""
    """Task: reach, pick_place, push, peg_insert, drawer, bimanual_handover, gymnasium:<id>, gymnasium:<module>:<id>, or
    served:<address> for what a served robot signals."""
    prior: tuple[Path, ...] = ()
    """Stores of prior data (demonstrations, earlier runs); none trains without prior data."""
    prior_weights: tuple[float, ...] = ()
    """Share of each prior store among the prior transitions of a minibatch, such as 3 1 (default: by their size)."""
    preset: PresetName = "robot"
    """Hyperparameters to start from."""
    env_steps: int | None = None
    """Environment steps in all (default: 100000; with --resume those of the run)."""
    seed: int = 0
    """Decides everything random."""
    run_dir: Path | None = None
    """Directory of the run; must not exist."""
    resume: Path | None = None
    """Go on with this run directory; all other options but --env-steps, --robot and --json are taken from it."""
    robot: str = ""
    """Address of a served robot, such as tcp://127.0.0.1:5555; empty runs the task in this process."""
    listen: str = ""
    """Address at which autonomous actors (robot-rlpd actor) deliver episodes, instead of a robot driven from here:
    tcp://HOST:PORT or ipc://PATH."""
    reward: RewardKind = "task"
    """task: the task's own; sparse: 0 where solved, else -1; stored: as recorded."""
    success_when: str = ""
    """Condition that decides success, such as "observation[28] >= 1.35"."""
    success: Literal["task", "robot", "classifier"] = "task"
    """Who says what is solved. task: the task, from observations; robot: the robot's signal "success"; classifier:
    --classifier. With the last two the reward is 0 where solved, which ends the episode, and -1 elsewhere."""
    classifier: Path | None = None
    """File of a success classifier, as written by robot-rlpd reward train; for --success classifier."""
    env_kwargs: str = ""
    """JSON object: arguments of a gymnasium environment, or cameras, image_size, randomization,
    calibration, previous_actions of a simulated task."""
    max_episode_steps: int | None = None
    """Time limit of an episode in steps instead of the task's own."""
    start_training: int | None = None
    """Environment steps of random actions before the first update (default: the preset's)."""
    utd_ratio: int | None = None
    """Critic updates per environment step (default: the preset's)."""
    ensemble_size: int | None = None
    """Number of critics (default: the preset's)."""
    subset_size: int | None = None
    """Target critics drawn for each update, whose minimum it learns from (default: the preset's, at most all)."""
    hidden_dims: tuple[int, ...] | None = None
    """Width of each hidden layer (default: the preset's)."""
    batch_size: int | None = None
    """Transitions per minibatch (default: the preset's)."""
    offline_fraction: float | None = None
    """Share of prior data in each minibatch, 0 to 1 (default: the preset's)."""
    no_layer_norm: bool = False
    """Ablation: critics without LayerNorm."""
    one_replay: bool = False
    """Baseline SACfD: prior data go into the online replay instead of being sampled symmetrically."""
    cloning_steps: int = 0
    """Baseline behaviour cloning: only regress the actor on the prior data, for so many gradient steps; 0 trains with
    RLPD."""
    initial_temperature: float | None = None
    """Starting temperature (default: the preset's)."""
    target_entropy: float | None = None
    """Entropy the policy keeps, nats of actions in [-1, 1]; lower is more precise (default: -0.5 per component)."""
    cameras: tuple[str, ...] = ()
    """Image fields that the policy reads, such as front_image, with an encoder of its own each (default: none)."""
    state_fields: tuple[str, ...] = ()
    """Fields without images that the policy reads (default: all)."""
    frame_stack: int | None = None
    """Newest frames of each camera that are seen together, at least 1 (default: the preset's, 3)."""
    encoder_channels: tuple[int, ...] | None = None
    """Channels of each convolution, 3x3 with stride 2 (default: the preset's, 32 64 128 256)."""
    shift_pad: int | None = None
    """Largest random shift of the images of a minibatch, to either side [pixels] (default: the preset's, 4)."""
    normalize: Literal["yes", "no"] | None = None
    """Normalise observations by mean and scale of the prior data (default: the preset's)."""
    eval_every: int | None = None
    """Environment steps between evaluations; 0 never (default: a tenth of --env-steps)."""
    eval_episodes: int = 20
    """Episodes per evaluation."""
    time_limit_min: float | None = None
    """Stop after this many minutes of training."""
    checkpoint_every_s: float = 60.0
    """Longest time between checkpoints [s]; they are written at episode ends."""
    device: str = "cpu"
    """Torch device: cpu, cuda."""
    threads: int = 0
    """Torch threads; 0 uses all cores for large networks while they are free, else one."""
    overlap: Literal["auto", "yes", "no"] = "auto"
    """Update while the robot moves; actions then come from the policy of one environment step earlier (auto: yes for a
    served robot)."""
    no_compile: bool = False
    """Do not compile the update (slower; needs no compiler)."""
    json: bool = False
    """Print one JSON object on standard output."""


def train(command: Annotated[TrainCommand, tyro.conf.arg(name="")]) -> int:
    """Train a policy with RLPD from demonstrations, on a simulated or served robot.

    The run directory holds config.json, metrics.jsonl, checkpoints/ and every episode (episodes.zarr). Ctrl-C saves a
    checkpoint and ends; --resume goes on.
    """
    from robot_rlpd.learner.finetune_config import FINETUNE_FILE
    from robot_rlpd.learner.run_directory import read_run_config
    from robot_rlpd.learner.session_config import check_device
    from robot_rlpd.learner.training_opening import open_training

    logging.getLogger("robot_rlpd").setLevel(logging.INFO)
    if command.resume is not None:
        run_dir = command.resume
        config = read_run_config(run_dir)
        if (run_dir / FINETUNE_FILE).is_file():
            hint = f"go on with: robot-rlpd finetune --resume {run_dir}"
            raise RunDirectoryError("a session of fine-tuning", field=str(run_dir), hint=hint)
        env_steps = config.env_steps if command.env_steps is None else command.env_steps
        if config.cloning_steps:
            raise RunDirectoryError("cloning is not resumed, it takes minutes: run it anew", field=str(run_dir))
        config = replace(config, robot=command.robot or config.robot, env_steps=env_steps)
    else:
        if command.run_dir is None or not command.task:
            missing = "run_dir" if command.run_dir is None else "task"
            raise ConfigError("is needed", field=missing, hint="or use --resume RUN_DIR")
        if command.listen and command.robot:
            raise ConfigError("one of the two", field="listen", found=command.listen, allowed="--listen or --robot")
        run_dir = command.run_dir
        config = resolve(command)
    check_device(config.device)
    setup = load_task(config.task, config.task_options())
    with stop_on_signals() as should_stop, open_task_robot(setup, config.robot, config.task_options()) as robot:
        session = open_training(config, run_dir, setup, robot, resume=command.resume is not None)
        sys.stderr.write(f"prior data: {session.prior_report}\n" if config.prior else "no prior data\n")
        reason = session.run(should_stop)
        session.close()
    result = session.summary(reason)
    if reason == "stopped" and not config.cloning_steps:
        sys.stderr.write(f"stopped; go on with: robot-rlpd train --resume {run_dir}\n")
    if command.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stderr.write(_told(result))
    return 0


def resolve(command: TrainCommand) -> SessionConfig:
    """The exact configuration of a new run: preset, then what was given."""
    from robot_rlpd.learner.presets import ENCODERS, NORMALIZED, PRESETS, START_TRAINING
    from robot_rlpd.learner.session_config import SessionConfig

    preset = PRESETS[command.preset]
    names = (
        *("utd_ratio", "ensemble_size", "subset_size", "hidden_dims", "batch_size"),
        *("offline_fraction", "initial_temperature", "target_entropy"),
    )
    given = {name: getattr(command, name) for name in names if getattr(command, name) is not None}
    given.setdefault("subset_size", min(preset.subset_size, given.get("ensemble_size", preset.ensemble_size)))
    env_steps = DEFAULT_ENV_STEPS if command.env_steps is None else command.env_steps
    if command.no_layer_norm:
        given["layer_norm"] = False
    if command.cameras:
        given["pixels"] = _pixels(command)
    elif command.preset in ENCODERS:
        hint = "give the image fields that the policy reads, such as --cameras front_image"
        raise ConfigError(f"the preset {command.preset} needs cameras", field="cameras", hint=hint)
    rlpd = replace(preset, **given)
    default_start = min(START_TRAINING[command.preset], env_steps)
    return SessionConfig(
        task=command.task,
        run_id=str(uuid.uuid4()),
        robot=command.robot or ("" if command.listen else served_address(command.task)),
        listen=command.listen,
        prior=command.prior,
        prior_weights=command.prior_weights,
        preset=command.preset,
        rlpd=rlpd,
        cameras=command.cameras,
        state_fields=command.state_fields,
        env_steps=env_steps,
        start_training=default_start if command.start_training is None else command.start_training,
        seed=command.seed,
        reward=command.reward,
        success_when=command.success_when,
        success=command.success,
        classifier=command.classifier,
        env_kwargs=parse_json_object(command.env_kwargs, field="env_kwargs"),
        max_episode_steps=command.max_episode_steps,
        one_replay=command.one_replay,
        cloning_steps=command.cloning_steps,
        normalize=command.preset in NORMALIZED if command.normalize is None else command.normalize == "yes",
        eval_every=max(1, env_steps // 10) if command.eval_every is None else command.eval_every,
        eval_episodes=command.eval_episodes,
        time_limit_min=command.time_limit_min,
        checkpoint_every_s=command.checkpoint_every_s,
        device=command.device,
        threads=command.threads,
        matmul_precision=_matmul_precision(rlpd, command.device),
        overlap=bool(command.robot or served_address(command.task))
        if command.overlap == "auto"
        else command.overlap == "yes",
        compile_update=not command.no_compile,
    )


def _pixels(command: TrainCommand) -> PixelConfig:
    """How cameras are seen: preset, then what was given."""
    from robot_rlpd.learner.encoders import PixelConfig
    from robot_rlpd.learner.presets import ENCODERS

    asked: dict[str, Any] = {"channels": command.encoder_channels, "frame_stack": command.frame_stack}
    asked["shift_pad"] = command.shift_pad
    given = {name: value for name, value in asked.items() if value is not None}
    return replace(ENCODERS.get(command.preset, PixelConfig()), **given)


def _matmul_precision(rlpd: RLPDConfig, device: str) -> MatmulPrecision:
    from robot_rlpd.learner.tuning import choose_matmul_precision

    if device != "cpu":
        return "highest"
    return choose_matmul_precision(rlpd.ensemble_size, rlpd.batch_size, max(rlpd.hidden_dims))


def _told(result: dict[str, Any]) -> str:
    evaluation = result["evaluation"]
    last = f"last evaluation {in_words(evaluation)}" if evaluation else "never evaluated"
    return (
        f"{result['ended']} after {result['env_steps']} environment steps, {result['gradient_steps']} gradient steps, "
        f"{result['trained_s'] / 60:.1f} min; {last}\n"
        f"next: robot-rlpd export {result['run_dir']} --out policy.onnx\n"
    )
