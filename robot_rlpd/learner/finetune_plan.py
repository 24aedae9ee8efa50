"""What a session of fine-tuning is going to do, in words, before it does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.learner.replay import apportioned

if TYPE_CHECKING:
    from robot_rlpd.learner.checkpoint import Checkpoint
    from robot_rlpd.learner.finetune_config import FinetuneConfig
    from robot_rlpd.learner.session_config import SessionConfig

SUCCESS_TOLD = {
    "task": "by the task, from observations",
    "robot": "by the robot's signal",
    "operator": "by the operator's button",
    "classifier": "by the classifier",
}


def plan(config: SessionConfig, finetune: FinetuneConfig, start: Checkpoint) -> str:
    """The plan, one line per thing."""
    rate_hz = start.contract.control_rate_hz
    parts = {
        "starting policy": f"{finetune.start}: {start.task}, {start.env_steps} environment steps in training",
        "data": _data(config),
        "acts first": f"the starting policy with its own exploration; no update for {config.start_training} steps",
        "then": f"{config.rlpd.utd_ratio} critic updates per step, {'beside' if config.overlap else 'between'} steps",
        "training": f"{config.env_steps} steps = {config.env_steps / rate_hz / 60.0:.1f} min on the robot",
        "evaluation": _evaluation(config, start),
        "wall clock": f"ends after {config.time_limit_min:g} min" if config.time_limit_min else "no limit",
        "success": f"{SUCCESS_TOLD[finetune.success]} {finetune.classifier or ''}".rstrip(),
        "resets": "the robot's own" if finetune.resets == "auto" else "by a person, who confirms each",
        "takes over": finetune.intervene or "nobody",
        "kept": "the starting policy as checkpoints/start.pt, the best by evaluation as checkpoints/best.pt",
    }
    return "\n".join(f"{name:<16} {told}" for name, told in parts.items()) + "\n"


def _data(config: SessionConfig) -> str:
    batch = config.rlpd.batch_size
    offline = int(config.rlpd.offline_fraction * batch + 0.5) if config.prior else 0
    rows = apportioned(offline, config.prior_weights) if offline else []
    shares = [f"{count} from {path}" for path, count in zip(config.prior, rows, strict=False)]
    return f"each minibatch of {batch}: {', '.join([*shares, f'{batch - offline} from this session'])}"


def _evaluation(config: SessionConfig, start: Checkpoint) -> str:
    if not config.eval_every:
        return "none: what is best is not known in the end"
    times = 1 + config.env_steps // config.eval_every
    longest_min = times * config.eval_episodes * start.max_episode_steps / start.contract.control_rate_hz / 60.0
    return (
        f"{times} times {config.eval_episodes} episodes, the starting policy first; at most {longest_min:.1f} min more"
    )
