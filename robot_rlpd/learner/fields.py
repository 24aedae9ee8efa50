"""Which fields of a robot a policy reads, and the replay that fits them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.camera_replay import CameraReplay, frame_room
from robot_rlpd.learner.encoders import encoder_shapes, frame_bytes, images_of, latent_shapes, layer_sizes
from robot_rlpd.learner.networks import num_parameters
from robot_rlpd.learner.replay import ReplayBuffer

FLOAT_BYTES = 4

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robot_rlpd.learner.rlpd import RLPDConfig
    from robot_rlpd.specs import PolicyContract, RobotSpec


def policy_contract(spec: RobotSpec, cameras: Sequence[str] = (), state_fields: Sequence[str] = ()) -> PolicyContract:
    """The contract of a policy that reads these fields, images last.

    Args:
        spec: Of the robot.
        cameras: Names of image fields.
        state_fields: Names of other fields; empty reads all of them.

    Raises:
        ConfigError: A field that this robot does not have, or of the other kind.
    """
    images = [s.name for s in spec.observation if s.is_image]
    others = [s.name for s in spec.observation if not s.is_image]
    for option, names, there in (("cameras", cameras, images), ("state_fields", state_fields, others)):
        for name in (name for name in names if name not in there or list(names).count(name) > 1):
            found = name if name not in there else f"{name} twice"
            hint = 'simulated cameras are switched on with --env-kwargs \'{"cameras": ["front"]}\'' if not there else ""
            allowed = ", ".join(there) or "none"
            raise ConfigError(f"robot '{spec.name}' offers", field=option, found=found, allowed=allowed, hint=hint)
    state = list(state_fields) or others
    if not state and not cameras:
        raise ConfigError(
            f"robot '{spec.name}' observes only images", field="cameras", found="none", allowed=", ".join(images)
        )
    return spec.contract([*state, *cameras])


def make_replay(
    config: RLPDConfig, contract: PolicyContract, capacity: int, episodes: int, device: str
) -> ReplayBuffer:
    """Replay for so many transitions, of which some are already known to come in `episodes` episodes."""
    if config.pixels is None:
        return ReplayBuffer(contract.observation_size, contract.action.size, capacity=capacity, device=device)
    room = frame_room(capacity, episodes)
    return CameraReplay(contract, config.pixels, capacity=capacity, frame_capacity=room, device=device)


def replay_image_bytes(
    config: RLPDConfig, contract: PolicyContract, capacities: Sequence[int], episodes: int
) -> list[int]:
    """What the frames of each replay of `make_replay` take [byte]."""
    if config.pixels is None:
        return [0] * len(capacities)
    return [frame_room(capacity, episodes) * frame_bytes(images_of(contract)) for capacity in capacities]


def encoder_bytes(config: RLPDConfig, contract: PolicyContract) -> int:
    """What cameras add to a learner [byte].

    Parameters with gradients, Adam's moments and the target's copy; one minibatch's activations, kept for the gradient;
    one call's frames, as they are drawn and as they are shifted.
    """
    if config.pixels is None:
        return 0
    images = images_of(contract)
    own = num_parameters(latent_shapes(images, config.pixels))
    parameters = 5 * num_parameters(encoder_shapes(images, config.pixels)) + 10 * own
    activations = 3 * config.batch_size * sum(sum(layer_sizes(spec, config.pixels)) for spec in images)
    seen = 4 * (config.pixels.frame_stack + 1) * frame_bytes(images)
    return FLOAT_BYTES * (parameters + activations) + config.utd_ratio * config.batch_size * seen
