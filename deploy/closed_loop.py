"""Do a policy file and its checkpoint agree while they drive a robot, each on its own?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.verify import compare
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET
from robot_rlpd.learner.policy import checkpoint_policy
from robot_rlpd.rollout import rollout

if TYPE_CHECKING:
    from deploy.runtime.onnx_policy import OnnxPolicy
    from robot_rlpd.episode import Episode
    from robot_rlpd.learner.checkpoint import Checkpoint
    from robot_rlpd.task import TaskSetup


def compare_in_closed_loop(
    policy: OnnxPolicy, checkpoint: Checkpoint, setup: TaskSetup, *, episodes: int, seed: int = 0
) -> dict[str, Any]:
    """Drive the task's robot with each, from the same starts.

    Only the observations that the policy file visited decide: on each of them both have to agree. Two runs of a robot
    in contact drift apart by rounding alone, so their outcomes are told, not judged.

    Args:
        policy: Deterministic.
        checkpoint: It was made of.
        setup: Task with its robot.
        episodes: How many of each, at least 1.
        seed: Shifts the starts.

    Returns:
        The object `closed_loop` of `verify --json`.
    """
    seeds = [EVALUATION_SEED_OFFSET + seed + i for i in range(episodes)]
    with setup.make_robot() as robot:
        ours = [rollout(robot, policy, setup.task, seed=s) for s in seeds]
        theirs = [rollout(robot, checkpoint_policy(checkpoint), setup.task, seed=s) for s in seeds]
    visited = [
        {spec.name: episode.observations[spec.name][t] for spec in checkpoint.contract.observation}
        for episode in ours
        for t in range(len(episode))
    ]
    parity = compare(policy, checkpoint, visited)
    return {
        "ok": parity.ok,
        "task": setup.task.name,
        "episodes": episodes,
        "steps": len(visited),
        "max_abs_difference": float(parity.difference.max()),
        "successes": sum(bool(episode.info.success) for episode in ours),
        "successes_of_checkpoint": sum(bool(episode.info.success) for episode in theirs),
        "same_outcome": sum(a.info.success == b.info.success for a, b in zip(ours, theirs, strict=True)),
        "drift": max(_drift(a, b) for a, b in zip(ours, theirs, strict=True)),
    }


def _drift(ours: Episode, theirs: Episode) -> float:
    """Largest difference of an action at the same step of both runs, in half ranges."""
    steps = min(len(ours), len(theirs))
    action = ours.spec.action
    half = (action.high.astype(np.float64) - action.low) / 2.0
    apart = np.abs(ours.actions[:steps].astype(np.float64) - theirs.actions[:steps]) / half
    return float(apart.max(initial=0.0))
