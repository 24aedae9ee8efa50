"""The replay that a session learns from: one for its own steps, one for each kind of prior data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.learner.encoders import state_size
from robot_rlpd.learner.fields import encoder_bytes, make_replay, replay_image_bytes
from robot_rlpd.learner.memory import check_memory
from robot_rlpd.learner.prior import fill_replay
from robot_rlpd.learner.replay import ReplayBuffer, SymmetricSampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robot_rlpd.episode import Transitions
    from robot_rlpd.learner.policy import Normalizer
    from robot_rlpd.learner.session_config import SessionConfig
    from robot_rlpd.specs import PolicyContract


def session_replay(
    config: SessionConfig,
    contract: PolicyContract,
    stores: Sequence[Sequence[Transitions]],
    normalizer: Normalizer | None,
    *,
    spare_rows: int = 0,
) -> tuple[ReplayBuffer, SymmetricSampler]:
    """The online replay, and the sampler over it and the prior data.

    Args:
        config: Budget, shares and weights.
        contract: What the policy reads and commands.
        stores: Episodes of each store of prior data.
        normalizer: Of the observations, None leaves them as they are.
        spare_rows: Room in the last replay for transitions that it is to get while the session runs.

    Raises:
        ConfigError: It does not fit into memory, or a share is worth no transition of a minibatch.
    """
    sizes = [sum(map(len, store)) for store in stores]
    if not config.prior_weights:
        stores, sizes = [[part for store in stores for part in store]], [sum(sizes)]
    room = config.env_steps + config.extra_capacity
    capacities = [room + sum(sizes)] if config.one_replay or not sum(sizes) else [room, *sizes]
    capacities[-1] += spare_rows
    episodes = sum(map(len, stores))
    images = replay_image_bytes(config.rlpd, contract, capacities, episodes)
    encoders = encoder_bytes(config.rlpd, contract)
    check_memory(config, state_size(contract), contract.action.size, capacities, images, encoders)
    online, *offline = (make_replay(config.rlpd, contract, n, episodes, config.device) for n in capacities)
    for buffer, store in zip(offline or [online], stores, strict=True):
        fill_replay(buffer, store, contract, normalizer)
    fraction = config.rlpd.offline_fraction if offline else 0.0
    sampler = SymmetricSampler(offline, online, fraction, config.prior_weights or (1.0,))
    sampler.shares(config.rlpd.batch_size)  # refuses a weight that is worth no row now, not in mid-training
    return online, sampler
