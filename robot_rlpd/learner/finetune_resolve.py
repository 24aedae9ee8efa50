"""From the options of `finetune` to the exact configuration of a session."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.finetune_config import FinetuneConfig
from robot_rlpd.learner.session_config import SessionConfig
from robot_rlpd.learner.tuning import choose_matmul_precision

if TYPE_CHECKING:
    from robot_rlpd.learner.checkpoint import Checkpoint
    from robot_rlpd.learner.finetune_commands import FinetuneCommand

DEFAULT_MINUTES = 20.0
DEFAULT_WARM_UP = 300


def resolve(command: FinetuneCommand, start: Checkpoint) -> tuple[SessionConfig, FinetuneConfig]:
    """The exact configuration of a new session: the starting policy's training, then what was given."""
    assert command.start is not None
    names = ("utd_ratio", "batch_size", "offline_fraction")
    given = {name: getattr(command, name) for name in names if getattr(command, name) is not None}
    rlpd = replace(start.config, **given)
    rate_hz = start.contract.control_rate_hz
    if command.env_steps is not None and command.minutes is not None:
        raise ConfigError("one of the two", field="env_steps", found=command.env_steps, allowed="or --minutes")
    if command.env_steps is None:
        minutes = DEFAULT_MINUTES if command.minutes is None else command.minutes
    else:
        minutes = command.env_steps / rate_hz / 60.0
    asked = FinetuneConfig(
        start=command.start,
        minutes=minutes,
        success=command.success,
        classifier=command.classifier,
        resets=command.resets,
        intervene=command.intervene,
        corrector_noise=command.corrector_noise,
        takeover=command.takeover,
        stuck_s=command.stuck_s,
        takeover_after=command.takeover_after,
        patience_min=command.patience_min,
    )
    env_steps = steps_in(minutes, rate_hz)
    options, fields = start.task_options, start.contract.observation if rlpd.pixels else ()
    precision = choose_matmul_precision(rlpd.ensemble_size, rlpd.batch_size, max(rlpd.hidden_dims))
    return SessionConfig(
        task=start.task,
        run_id=str(uuid.uuid4()),
        robot=command.robot,
        prior=command.prior,
        prior_weights=command.prior_weights or (1.0,) * len(command.prior),
        rlpd=rlpd,
        cameras=tuple(field.name for field in fields if field.is_image),
        state_fields=tuple(field.name for field in fields if not field.is_image) if rlpd.pixels else (),
        env_steps=env_steps,
        start_training=max(1, min(DEFAULT_WARM_UP, env_steps // 4)) if command.warm_up is None else command.warm_up,
        seed=command.seed,
        reward=options.reward,
        success_when=options.success_when,
        env_kwargs=options.env_kwargs,
        max_episode_steps=command.max_episode_steps or start.max_episode_steps,
        normalize=start.normalizer is not None,
        eval_every=max(1, env_steps // 5) if command.eval_every is None else command.eval_every,
        eval_episodes=command.eval_episodes,
        time_limit_min=wall_limit_min(minutes) if command.wall_minutes is None else command.wall_minutes,
        checkpoint_every_s=command.checkpoint_every_s,
        device=command.device,
        threads=command.threads,
        matmul_precision=precision if command.device == "cpu" else "highest",
        overlap=bool(command.robot) if command.overlap == "auto" else command.overlap == "yes",
        compile_update=not command.no_compile,
    ), asked


def steps_in(minutes: float, rate_hz: float) -> int:
    """Control steps in a time on the robot [min]."""
    return max(1, round(60.0 * minutes * rate_hz))


def wall_limit_min(minutes: float) -> float:
    """How long a session with so much time on the robot may take by the clock, if nothing else is said [min]."""
    return 3.0 * minutes + 10.0


def extended(
    command: FinetuneCommand, config: SessionConfig, asked: FinetuneConfig, start: Checkpoint
) -> tuple[SessionConfig, FinetuneConfig]:
    """A resumed session, with more time if that was given."""
    config = replace(config, robot=command.robot or config.robot)
    if command.minutes is not None:
        asked = replace(asked, minutes=command.minutes)
        env_steps = steps_in(command.minutes, start.contract.control_rate_hz)
        config = replace(config, env_steps=env_steps, time_limit_min=wall_limit_min(command.minutes))
    if command.wall_minutes is not None:
        config = replace(config, time_limit_min=command.wall_minutes)
    return config, asked
