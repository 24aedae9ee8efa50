"""How much memory a run will take, told and checked before it begins."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.networks import actor_shapes, critic_shapes, num_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robot_rlpd.learner.session_config import SessionConfig

FLOAT_BYTES = 4
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux tells what is free, on the machine and for a container."""
_logger = logging.getLogger(__name__)


def check_memory(
    config: SessionConfig,
    observation_size: int,
    action_size: int,
    capacities: Sequence[int],
    image_bytes: Sequence[int] = (),
    encoder_bytes: int = 0,
) -> None:
    """Tell what replay and learner will take, and refuse a run that cannot fit.

    Args:
        config: Of the run.
        observation_size: Number of observation entries O, without images.
        action_size: Number of action entries A.
        capacities: Transitions of the online replay, then of each prior store.
        image_bytes: What the frames of each of these take in uint8; none without cameras.
        encoder_bytes: What the learner takes for its cameras.

    Raises:
        ConfigError: More than is available on the device.
    """
    row = FLOAT_BYTES * (2 * observation_size + action_size + 2)
    frames = image_bytes or [0] * len(capacities)
    online, *prior = (capacity * row + images for capacity, images in zip(capacities, frames, strict=True))
    learner = learner_bytes(config, observation_size, action_size) + encoder_bytes
    needed, available = online + sum(prior) + learner, available_bytes(config.device)
    told = f"{_size(needed)}: prior data {_size(sum(prior))}, online replay {_size(online)}, learner {_size(learner)}"
    if available is None:
        _logger.info("memory on %s: up to %s", config.device, told)
        return
    _logger.info("memory on %s: up to %s; %s are free", config.device, told, _size(available))
    if needed > available:
        raise ConfigError(
            f"the run does not fit into the memory of {config.device}",
            field="env_steps",
            found=told,
            allowed=f"{_size(available)} free",
            hint="fewer --env-steps, smaller prior data or networks",
        )


def learner_bytes(config: SessionConfig, observation_size: int, action_size: int) -> int:
    """Parameters with their gradients and Adam's moments, the target critic, and one call's minibatches."""
    rlpd = config.rlpd
    actor = num_parameters(actor_shapes(observation_size, action_size, rlpd.hidden_dims))
    critic = num_parameters(
        critic_shapes(observation_size, action_size, rlpd.hidden_dims, rlpd.ensemble_size, layer_norm=rlpd.layer_norm)
    )
    rows = rlpd.utd_ratio * rlpd.batch_size
    activations = 3 * rlpd.ensemble_size * rlpd.batch_size * sum(rlpd.hidden_dims)
    batch = rows * (2 * observation_size + 3 * action_size + 4 + 2 * max(rlpd.hidden_dims))
    return FLOAT_BYTES * (5 * actor + 5 * critic + batch + activations)


def available_bytes(device: str) -> int | None:
    """Free memory of a torch device [byte]; None where the system does not tell."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = []
    if MEMINFO.is_file():
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            found.append(1024 * int(lines["MemAvailable"].split()[0]))
    limit, used = (CGROUP / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdecimal():
        found.append(max(0, int(text) - int(used.read_text())))
    return min(found, default=None)


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    raise AssertionError
