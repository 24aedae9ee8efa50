"""Named configurations: the paper's, one for a new robot task, and light ones for a first run."""

from __future__ import annotations

from dataclasses import replace

from robot_rlpd.learner.encoders import PixelConfig
from robot_rlpd.learner.rlpd import RLPDConfig

_LOCOMOTION = RLPDConfig(hidden_dims=(256, 256), ensemble_size=10, subset_size=2, utd_ratio=20, backup_entropy=True)
_SPARSE = replace(_LOCOMOTION, hidden_dims=(256, 256, 256), backup_entropy=False)

_QUICK = replace(
    _SPARSE,
    hidden_dims=(128, 128),
    ensemble_size=4,
    utd_ratio=4,
    batch_size=128,
    discount=0.98,
    actor_lr=5e-4,
    critic_lr=5e-4,
    temperature_lr=5e-4,
    initial_temperature=0.1,
)

PRESETS: dict[str, RLPDConfig] = {
    "locomotion": _LOCOMOTION,
    "antmaze": replace(_SPARSE, subset_size=1),
    "adroit": _SPARSE,
    "robot": _SPARSE,
    "pixels": replace(_LOCOMOTION, subset_size=1, backup_entropy=False, utd_ratio=1, initial_temperature=0.1),
    "quickstart": _QUICK,
    "quickstart_pixels": replace(_QUICK, utd_ratio=2, batch_size=64),
}
"""Entropy backup is off wherever rewards are sparse: with it, Q drifts away from any return that exists."""

ENCODERS: dict[str, PixelConfig] = {
    "pixels": PixelConfig(),
    "quickstart_pixels": PixelConfig(channels=(8, 16, 32), frame_stack=1, shift_pad=2),
}
"""How presets that need cameras see them; with any other they are seen as in the paper."""

START_TRAINING: dict[str, int] = {
    "locomotion": 5000,
    "antmaze": 5000,
    "adroit": 5000,
    "pixels": 5000,
    "robot": 500,
    "quickstart": 300,
    "quickstart_pixels": 500,
}
"""Environment steps of uniform random actions before the first update; a robot pays for each of them."""

NORMALIZED = frozenset({"quickstart", "quickstart_pixels"})
"""Presets that normalise observations by mean and scale of the prior data, where there are any."""
