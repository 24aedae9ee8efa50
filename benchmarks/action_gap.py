"""Why a run does not learn yet: what its critics make of recorded, random and the policy's own actions.

    python -m benchmarks.action_gap RUN_DIR STORE [STORE ...] [--transitions 5000] [--json]

At recorded states, all in units of return: how much better the critics find the recorded actions than random ones (the
gap that the policy has to climb), how far the ensemble's members are apart (the noise in it), and how much better they
find the policy's own actions than the recorded ones (what they believe without data). Beside them how like the recorded
actions the policy's are, and Q next to the return that was had from there, in solved episodes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.machine import show_result
from robot_rlpd.errors import RobotRlpdError
from robot_rlpd.learner.checkpoint import load_checkpoint
from robot_rlpd.learner.encoders import encode, fused, heads, images_of, policy_forward, split_frames, state_size
from robot_rlpd.learner.frame_history import FrameHistory
from robot_rlpd.learner.networks import critic_forward
from robot_rlpd.learner.policy import normalized
from robot_rlpd.learner.prior import load_prior
from robot_rlpd.task import load_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from robot_rlpd.episode import Transitions
    from robot_rlpd.learner.checkpoint import Checkpoint
    from robot_rlpd.learner.networks import Parameters

AT_ONCE = 256
"""Observations that go through an encoder together."""


def main() -> int:
    """Look at a run, print what its critics know."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="run directory or checkpoint")
    parser.add_argument("store", type=Path, nargs="+", help="episodes: prior data, or the run's own episodes.zarr")
    parser.add_argument("--transitions", type=int, default=5000, help="drawn from the stores (default 5000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    try:
        result = look_at_run(arguments.run_dir, arguments.store, arguments.transitions)
    except RobotRlpdError as error:
        raise SystemExit(f"error: {error}") from None
    show_result(result, as_json=arguments.json)
    return 0


def look_at_run(run_dir: Path, paths: Sequence[Path], count: int) -> dict[str, Any]:
    """`look` at the newest checkpoint of a run."""
    checkpoint = load_checkpoint(run_dir)
    task = load_task(checkpoint.task, checkpoint.task_options).task
    stores, _ = load_prior(paths, task, checkpoint.contract)
    found = look(checkpoint, [part for store in stores for part in store], count)
    return found | {"env_steps": checkpoint.env_steps}


@torch.inference_mode()
def look(checkpoint: Checkpoint, episodes: Sequence[Transitions], count: int) -> dict[str, Any]:
    """What the critics make of up to `count` transitions.

    Args:
        checkpoint: Of a learner.
        episodes: What was recorded.
        count: How many transitions to draw, the same for the same data.
    """
    contract, pixels = checkpoint.contract, checkpoint.config.pixels
    done = np.concatenate([contract.action.to_unit(part.executed_actions) for part in episodes])
    returns = np.concatenate([returns_of(part, checkpoint.config.discount) for part in episodes])
    rng = np.random.default_rng(0)
    drawn = rng.permutation(len(done))[:count]
    observations, recorded = torch.from_numpy(_seen(checkpoint, episodes, drawn)), torch.from_numpy(done[drawn])
    start = "critic/"
    critic = {name.removeprefix(start): value for name, value in checkpoint.learner.items() if name.startswith(start)}
    own = torch.cat(
        [policy_forward(contract, pixels, checkpoint.actor, rows)[0] for rows in _chunks(observations)]
    ).tanh()
    read = torch.cat([_read_by_critic(checkpoint, critic, rows) for rows in _chunks(observations)])
    random = torch.from_numpy(rng.uniform(-1.0, 1.0, recorded.shape).astype(np.float32))

    def q(actions: Tensor) -> Tensor:
        return critic_forward(heads(critic), read, actions)

    of_recorded = q(recorded)
    mean, known = of_recorded.mean(0).numpy(), np.isfinite(returns[drawn])
    return {
        "transitions": len(drawn),
        "q_recorded": float(mean.mean()),
        "recorded_minus_random": float((of_recorded - q(random)).mean()),
        "members_apart": float(of_recorded.std(0).mean()),
        "own_minus_recorded": float((q(own) - of_recorded).mean()),
        "correlation_of_actions": float(np.mean(_correlations(own.numpy(), recorded.numpy()))),
        "solved": {
            "transitions": int(known.sum()),
            "q": float(mean[known].mean()) if known.any() else None,
            "return": float(returns[drawn][known].mean()) if known.any() else None,
        },
    }


def _seen(checkpoint: Checkpoint, episodes: Sequence[Transitions], drawn: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the policy sees at the transitions `drawn` of all, in this order: with cameras the state and K frames."""
    contract, pixels = checkpoint.contract, checkpoint.config.pixels
    place = {int(index): row for row, index in enumerate(drawn)}
    found: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(drawn)
    index = 0
    for part in episodes:
        history = FrameHistory(state_size(contract), pixels.frame_stack) if pixels else None
        for flat in normalized(contract.flatten(part.observations), checkpoint.normalizer):
            seen = history(flat) if history else flat
            if index in place:
                found[place[index]] = seen
            index += 1
    return np.stack(found)


def _read_by_critic(checkpoint: Checkpoint, critic: Parameters, observations: Tensor) -> Tensor:
    """What the critics' own layers read: behind the encoder where there are cameras."""
    pixels = checkpoint.config.pixels
    if pixels is None:
        return observations
    images, size = images_of(checkpoint.contract), state_size(checkpoint.contract)
    frames = observations[:, size:].reshape(len(observations), pixels.frame_stack, -1)
    return fused(critic, observations[:, :size], encode(critic, split_frames(frames, images)))


def _chunks(observations: Tensor) -> tuple[Tensor, ...]:
    return torch.split(observations, AT_ONCE)


def returns_of(episode: Transitions, discount: float) -> NDArray[np.float64]:
    """Discounted returns `(T,)` of an episode that terminated solved; NaN where it did not."""
    rewards = np.asarray(episode.rewards, np.float64)
    if not len(rewards) or not episode.successes[-1] or episode.masks[-1]:
        return np.full(len(rewards), np.nan)
    found = np.zeros(len(rewards))
    ahead = 0.0
    for t in reversed(range(len(rewards))):
        found[t] = ahead = rewards[t] + discount * ahead
    return found


def _correlations(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    a, b = a - a.mean(0), b - b.mean(0)
    spread = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.asarray((a * b).sum(0) / np.maximum(spread, 1e-12), np.float64)


if __name__ == "__main__":
    sys.exit(main())
