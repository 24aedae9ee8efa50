r"""Whether pictures show what a policy needs to know: its encoder regresses a recorded field from them.

    python -m benchmarks.seen_in_pictures STORE [STORE ...] --cameras wrist_image --state-fields tcp_position \
        --field target_from_tcp [--json]

Trains on four of five episodes and tells the error on the fifth, in the field's unit: with the cameras and the state,
with the state alone, and of a guess of the mean. Where the cameras do not come close to what success asks for, no
learner does better: another camera, a larger image, more episodes, or a smaller `--shift-pad`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import show_result
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import ConfigError, DataError, RobotRlpdError
from robot_rlpd.learner.augmentation import random_shifts
from robot_rlpd.learner.encoders import PixelConfig, images_of, policy_forward, policy_shapes, state_size
from robot_rlpd.learner.fields import policy_contract
from robot_rlpd.learner.networks import initialise, views
from robot_rlpd.specs import ActionComponent, ActionSpec, check_contract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from robot_rlpd.specs import PolicyContract

HIDDEN_DIMS = (128, 128)
BATCH_SIZE = 64
LEARNING_RATE = 5e-4
TESTED_AT_ONCE = 256


def main() -> int:
    """Regress, print the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, nargs="+", help="episodes that hold the cameras and the field")
    parser.add_argument("--cameras", nargs="+", required=True, help="image fields, such as wrist_image")
    parser.add_argument("--field", required=True, help="what to regress, such as target_from_tcp")
    parser.add_argument("--state-fields", nargs="+", required=True, help="read beside the cameras, as by the policy")
    parser.add_argument("--encoder-channels", type=int, nargs="+", default=[8, 16, 32], help="default 8 16 32")
    parser.add_argument(
        "--shift-pad", type=int, default=2, help="largest random shift while training (default 2 pixels)"
    )
    parser.add_argument("--steps", type=int, default=2000, help="gradient steps (default 2000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        pixels = PixelConfig(channels=arguments.encoder_channels, frame_stack=1, shift_pad=arguments.shift_pad)
        names = (arguments.cameras, arguments.state_fields, arguments.field)
        result = look(arguments.store, *names, pixels, arguments.steps)
    except RobotRlpdError as error:
        raise SystemExit(f"error: {error}") from None
    show_result(result, as_json=arguments.json)
    return 0


def look(
    paths: Sequence[Path],
    cameras: Sequence[str],
    state_fields: Sequence[str],
    field: str,
    pixels: PixelConfig,
    steps: int,
) -> dict[str, Any]:
    """Errors on the held-out episodes, each the distance to what was recorded.

    Args:
        paths: Stores of one robot.
        cameras: Image fields.
        state_fields: Other fields that are read.
        field: What is regressed.
        pixels: The encoder, without a stack.
        steps: Gradient steps.

    Raises:
        ConfigError: A field that is not there.
        MismatchError: A store of another robot.
        DataError: Fewer than two episodes.
    """
    contract, observations, targets, episode = _load(paths, cameras, state_fields, field)
    held_out = episode >= episode.max() + 1 - max(1, (int(episode.max()) + 1) // 5)
    if held_out.all():
        raise DataError(field="store", found="1 episode", allowed=">= 2")
    mean, scale = targets[~held_out].mean(0), targets[~held_out].std(0).clamp_min(1e-6)
    blind = replace(contract, observation=tuple(spec for spec in contract.observation if not spec.is_image))
    state = observations[:, : state_size(contract)]
    errors = {"guess of the mean": (targets - mean)[held_out].norm(dim=1)}
    for name, seen, read, config in (
        ("state alone", state, blind, None),
        ("cameras and state", observations, contract, pixels),
    ):
        found = _regressed(read, config, seen, (targets - mean) / scale, held_out, steps)
        errors[name] = (found * scale + mean - targets[held_out]).norm(dim=1)
    told = {
        name: {"median": round(float(e.median()), 6), "p90": round(float(e.quantile(0.9)), 6)}
        for name, e in errors.items()
    }
    return {
        "field": field,
        "trained_on": int((~held_out).sum()),
        "tested_on": int(held_out.sum()),
        "error": told,
    }


def _load(
    paths: Sequence[Path], cameras: Sequence[str], state_fields: Sequence[str], field: str
) -> tuple[PolicyContract, Tensor, Tensor, Tensor]:
    """Contract, flat observations with the state normalised [N, O], targets [N, F] and number of the episode [N]."""
    rows: list[NDArray[np.float32]] = []
    targets: list[NDArray[np.float32]] = []
    numbers: list[NDArray[np.int64]] = []
    for path in paths:
        with EpisodeStore.open(path) as store:
            spec = store.spec
            if not rows:
                contract = policy_contract(spec, cameras, state_fields)
            check_contract(contract, spec, who=f"store {path}")
            there = {s.name: s for s in spec.observation if not s.is_image}
            if field not in there:
                raise ConfigError("is not recorded", field="field", found=field, allowed=", ".join(there))
            for recorded in store.load_all():
                rows.append(contract.flatten(recorded.observations))
                targets.append(recorded.observations[field].reshape(len(rows[-1]), -1).astype(np.float32))
                numbers.append(np.full(len(rows[-1]), len(numbers), np.int64))
    outputs = tuple(ActionComponent(name=f"{field}{i}", low=-1.0, high=1.0) for i in range(targets[0].shape[1]))
    contract = replace(contract, action=ActionSpec(components=outputs))
    observations = torch.from_numpy(np.concatenate(rows))
    state = observations[:, : state_size(contract)]
    state.sub_(state.mean(0)).div_(state.std(0).clamp_min(1e-3))
    return contract, observations, torch.from_numpy(np.concatenate(targets)), torch.from_numpy(np.concatenate(numbers))


def _regressed(
    contract: PolicyContract, pixels: PixelConfig | None, seen: Tensor, wanted: Tensor, held_out: Tensor, steps: int
) -> Tensor:
    """What a policy's network, trained on the other rows, makes of those held out: [H, F]."""
    generator = torch.Generator().manual_seed(0)
    shapes = policy_shapes(contract, HIDDEN_DIMS, pixels)
    flat = initialise(shapes, generator).requires_grad_()
    optimiser = torch.optim.Adam([flat], lr=LEARNING_RATE)
    known = (~held_out).nonzero()[:, 0]
    for _ in range(steps):
        drawn = known[torch.randint(len(known), (BATCH_SIZE,), generator=generator)]
        rows = _shifted(contract, pixels, seen[drawn], generator)
        found, _ = policy_forward(contract, pixels, views(flat, shapes), rows)
        loss = (found - wanted[drawn]).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        parameters = views(flat, shapes)
        parts = [
            policy_forward(contract, pixels, parameters, rows)[0]
            for rows in torch.split(seen[held_out], TESTED_AT_ONCE)
        ]
    return torch.cat(parts)


def _shifted(contract: PolicyContract, pixels: PixelConfig | None, rows: Tensor, generator: torch.Generator) -> Tensor:
    if pixels is None:
        return rows
    state, frames = torch.split(rows, [state_size(contract), rows.shape[1] - state_size(contract)], dim=1)
    moved = random_shifts(frames[:, None], images_of(contract), pixels.shift_pad, generator)
    return torch.cat([state, moved[:, 0]], dim=1)


if __name__ == "__main__":
    sys.exit(main())
