"""Does a policy file do what the checkpoint does? torch and onnxruntime side by side on the same observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot_rlpd.errors import DataError, MismatchError
from robot_rlpd.learner.distributions import LOG_STD_MAX, LOG_STD_MIN, sample_squashed
from robot_rlpd.learner.encoders import policy_forward, state_size
from robot_rlpd.learner.policy import normalized
from robot_rlpd.specs import PolicyContract, RobotSpec, check_contract

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from deploy.runtime.onnx_policy import OnnxPolicy
    from robot_rlpd.learner.checkpoint import Checkpoint
    from robot_rlpd.robot import Observation
    from robot_rlpd.specs import ArraySpec

TOLERANCE = 1e-5
"""Largest difference, in units of half the range of the action component: so in [-1, 1] it is the plain difference,
and neither a range of 500 N nor one of a millimetre makes it too strict or too lax. Beyond it one rounding step of the
largest float32 in the range is allowed, which matters where the bounds lie far from zero. For an observation so far
outside what was trained on that float32 does not resolve so much, the bound of its rounding is allowed instead."""
ROUNDING_STEPS = 2.0
"""Rounding errors of a sum, in units of float32's unit roundoff times the sum of its terms' magnitudes: sums in two
orders differ by less."""
CAMERA_ROUNDINGS = 4.0
"""Allowed for a policy that sees images: so many times its difference to double precision, where that is more."""
IMAGES_AT_ONCE = 64
"""Rows with images that are computed together, which bounds the memory."""
PRACTICALLY_INFINITE = 1e6
"""Observation bounds beyond this say nothing about what will be observed."""
SCALES = (0.1, 0.3, 1.0, 3.0)
"""Standard deviations of random observations without bounds; each sample draws one."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far two policies are apart on the same observations.

    Attributes:
        difference: Absolute differences in robot units `(N, A)`.
        tolerance: Allowed differences in robot units `(N, A)`.
        observed: Smallest and largest value of each observation field among the samples.
        contract: Of both.
    """

    difference: NDArray[np.float64]
    tolerance: NDArray[np.float64]
    observed: dict[str, tuple[float, float]]
    contract: PolicyContract

    @property
    def ok(self) -> bool:
        """Whether every difference is a number within the tolerance."""
        return bool((self.difference <= self.tolerance).all())

    def to_json(self) -> dict[str, Any]:
        """The fields of `verify --json`."""
        worst = self.difference.max(axis=0)
        closest = (self.difference / self.tolerance).argmax(axis=0)
        names = [component.name for component in self.contract.action.components]
        return {
            "ok": self.ok,
            "samples": len(self.difference),
            "max_abs_difference": float(worst.max()),
            "max_scaled_difference": float((worst / _half_range(self.contract)).max()),
            "percentiles": {f"p{p}": float(np.percentile(self.difference, p)) for p in (50, 90, 99)},
            "components": {
                name: {
                    "max_abs_difference": float(worst[i]),
                    "tolerance": float(self.tolerance[closest[i], i]),
                    "ok": bool((self.difference[:, i] <= self.tolerance[:, i]).all()),
                }
                for i, name in enumerate(names)
            },
            "observed": {name: list(bounds) for name, bounds in self.observed.items()},
        }


def check_same_contract(policy: OnnxPolicy, checkpoint: Checkpoint, *, where: str) -> None:
    """Refuse a policy file that was made for another contract than the checkpoint's.

    Raises:
        MismatchError: Names the differing field.
    """
    found, needed = policy.contract, checkpoint.contract
    if found.fingerprint == needed.fingerprint:
        return
    spec = RobotSpec(
        name=where, observation=found.observation, action=found.action, control_rate_hz=found.control_rate_hz
    )
    check_contract(needed, spec, who=where)
    raise MismatchError(
        f"{where} does not fit",
        field="observation",
        found=", ".join(s.name for s in found.observation),
        allowed=", ".join(s.name for s in needed.observation),
    )


def compare(policy: OnnxPolicy, checkpoint: Checkpoint, observations: Sequence[Observation]) -> Parity:
    """Ask both for every observation, a stochastic policy with the same noise.

    Where frames are seen in stacks, the observations count as one episode, in their order.
    """
    policy.reset()
    contract = checkpoint.contract
    columns = {s.name: np.stack([o[s.name] for o in observations]) for s in contract.observation}
    noise = None
    if policy.stochastic:
        shape = len(observations), contract.action.size
        noise = np.random.default_rng(len(observations)).standard_normal(shape, np.float32)
    expected = torch_actions(checkpoint, columns, noise)
    found = np.stack(
        [_ask(policy, {name: column[i] for name, column in columns.items()}, noise, i) for i in range(len(expected))]
    )
    largest = np.maximum(np.abs(contract.action.low), np.abs(contract.action.high))
    unit_tolerance = np.maximum(TOLERANCE, rounding_bound(checkpoint, columns, noise))
    return Parity(
        difference=np.abs(found.astype(np.float64) - expected),
        tolerance=unit_tolerance * _half_range(contract) + np.spacing(largest).astype(np.float64),
        observed={name: (float(column.min()), float(column.max())) for name, column in columns.items()},
        contract=contract,
    )


def compare_inputs(
    policy: OnnxPolicy, checkpoint: Checkpoint, observations: Sequence[Observation]
) -> dict[str, dict[str, Any]]:
    """Input by input: only one field changes, between the observations; all others stay those of the first.

    Returns:
        By field: the differences in robot units, whether they are allowed, and how much the field moves the action.
    """
    report: dict[str, dict[str, Any]] = {}
    for spec in checkpoint.contract.observation:
        varied = [{**observations[0], spec.name: o[spec.name]} for o in observations]
        parity = compare(policy, checkpoint, varied)
        columns = {name: np.stack([o[name] for o in varied]) for name in varied[0]}
        moved = np.ptp(torch_actions(checkpoint, columns) / _half_range(checkpoint.contract), axis=0)
        report[spec.name] = {
            "ok": parity.ok,
            "max_abs_difference": float(parity.difference.max()),
            "p99": float(np.percentile(parity.difference, 99)),
            "moves_action": float(moved.max() / 2.0),
        }
    return report


def _ask(
    policy: OnnxPolicy, observation: Observation, noise: NDArray[np.float32] | None, index: int
) -> NDArray[np.float32]:
    return policy(observation) if noise is None else policy.act_with(observation, noise[index])


@torch.inference_mode()
def torch_actions(
    checkpoint: Checkpoint, columns: Observation, noise: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Actions of a checkpoint `(N, A)` in robot units, from observations `(N, *shape)`.

    Args:
        checkpoint: With the actor.
        columns: Observations by field.
        noise: Standard normal `(N, A)` for the exploring policy; None for the deterministic one.
    """
    return checkpoint.contract.action.from_unit(_unit_actions(checkpoint, columns, noise, torch.float32).numpy())


def _unit_actions(
    checkpoint: Checkpoint, columns: Observation, noise: NDArray[np.float32] | None, dtype: torch.dtype
) -> torch.Tensor:
    pixels = checkpoint.config.pixels
    flat = normalized(checkpoint.contract.flatten(columns), checkpoint.normalizer)
    if pixels is not None:
        flat = stacked(flat, state_size(checkpoint.contract), pixels.frame_stack)
    actor = {name: parameter.to(dtype) for name, parameter in checkpoint.actor.items()}
    means, log_stds = zip(
        *(
            policy_forward(checkpoint.contract, pixels, actor, rows.to(dtype))
            for rows in torch.split(torch.from_numpy(flat), len(flat) if pixels is None else IMAGES_AT_ONCE)
        ),
        strict=True,
    )
    mean, log_std = torch.cat(means), torch.cat(log_stds)
    return mean.tanh() if noise is None else sample_squashed(mean, log_std, torch.from_numpy(noise).to(dtype))[0]


def stacked(flat: NDArray[np.float32], state: int, frame_stack: int) -> NDArray[np.float32]:
    """Rows [state | frame] of one episode, in order, as [state | K frames, the oldest first]; the first is repeated."""
    rows = np.arange(len(flat))
    frames = [flat[np.maximum(rows - back, 0), state:] for back in range(frame_stack - 1, -1, -1)]
    return np.concatenate([flat[:, :state], *frames], axis=1)


@torch.inference_mode()
def rounding_bound(
    checkpoint: Checkpoint, columns: Observation, noise: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """How far two evaluations of the actor in float32 may be apart, `(N, A)` in units of the squashed action.

    The running error analysis of a product sum (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section
    3.3) through all layers, then what the squashing leaves of it. With cameras, whose convolutions it does not follow,
    a few times the difference to double precision instead.
    """
    if checkpoint.config.pixels is not None:
        single, double = (_unit_actions(checkpoint, columns, noise, t) for t in (torch.float32, torch.float64))
        measured: NDArray[np.float64] = CAMERA_ROUNDINGS * (single.double() - double).abs().numpy()
        return measured
    roundoff = ROUNDING_STEPS * float(np.finfo(np.float32).eps) / 2.0
    actor = {name: parameter.double().numpy() for name, parameter in checkpoint.actor.items()}
    x = normalized(checkpoint.contract.flatten(columns), checkpoint.normalizer).astype(np.float64)
    error = roundoff * np.abs(x)
    for i in range(sum(name.startswith("dense") for name in actor) // 2):
        x, error = _layer_bound(actor, f"dense{i}", x, error)
        x = np.maximum(x, 0.0)
    hidden, hidden_error = x, error
    x, error = _layer_bound(actor, "mean", hidden, hidden_error)
    if noise is not None:
        raw, raw_error = _layer_bound(actor, "log_std", hidden, hidden_error)
        spread = np.exp(np.clip(raw, LOG_STD_MIN, LOG_STD_MAX)) * np.abs(noise)
        error = error + spread * np.expm1(raw_error) + roundoff * (np.abs(x) + 2.0 * spread)
        x = x + np.copysign(spread, noise)
    bound: NDArray[np.float64] = np.maximum(np.tanh(x + error) - np.tanh(x), np.tanh(x) - np.tanh(x - error))
    return bound


def _layer_bound(
    actor: dict[str, NDArray[np.float64]], layer: str, x: NDArray[np.float64], error: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X @ kernel + bias, and the bound of its rounding."""
    roundoff = ROUNDING_STEPS * float(np.finfo(np.float32).eps) / 2.0
    kernel, bias = actor[f"{layer}/kernel"], actor[f"{layer}/bias"]
    bound = error @ np.abs(kernel) + roundoff * (np.abs(x) @ np.abs(kernel) + np.abs(bias))
    return x @ kernel + bias, bound


def random_observations(contract: PolicyContract, count: int, rng: np.random.Generator) -> list[Observation]:
    """Observations within the bounds of the spec; normally distributed where there are none."""
    return [{s.name: _random_value(s, rng) for s in contract.observation} for _ in range(count)]


def recorded_observations(
    stores: Sequence[Path], contract: PolicyContract, count: int, rng: np.random.Generator
) -> list[Observation]:
    """Up to `count` observations out of each store, drawn without replacement.

    Raises:
        StoreError: A store cannot be read.
        MismatchError: A store of another robot; names the differing field.
        DataError: A store without an observation.
    """
    from robot_rlpd.episode_store import EpisodeStore

    drawn: list[Observation] = []
    for path in stores:
        with EpisodeStore.open(path) as store:
            check_contract(contract, store.spec, who=f"store {path}")
            ends = np.cumsum([e.num_steps + e.has_final_observation for e in store.infos()], dtype=np.int64)
            if not len(ends) or not ends[-1]:
                raise DataError("the store holds no observation", field=str(path))
            rows = np.sort(rng.choice(ends[-1], min(count, int(ends[-1])), replace=False))
            for index in np.unique(np.searchsorted(ends, rows, side="right")):
                observations = store.read(int(index)).observations
                first = int(ends[index - 1]) if index else 0
                own = rows[(rows >= first) & (rows < ends[index])] - first
                drawn += [{s.name: observations[s.name][row] for s in contract.observation} for row in own]
    return drawn


def _random_value(spec: ArraySpec, rng: np.random.Generator) -> NDArray[Any]:
    low, high = (np.broadcast_to(np.array(bound), (spec.size,)) for bound in (spec.low, spec.high))
    if spec.dtype == "uint8":
        low, high = np.maximum(low, 0), np.minimum(high, 255)
    has_low, has_high = np.abs(low) <= PRACTICALLY_INFINITE, np.abs(high) <= PRACTICALLY_INFINITE
    normal = rng.choice(SCALES) * rng.standard_normal(spec.size)
    value = np.where(has_low, low + np.abs(normal), np.where(has_high, high - np.abs(normal), normal))
    both = has_low & has_high
    value[both] = rng.uniform(low[both], high[both])
    if spec.dtype == "bool":
        value = (rng.uniform(size=spec.size) < 0.5).astype(np.float64)
    if np.dtype(spec.dtype).kind in "iu":
        value = np.rint(value)
    return np.asarray(value.reshape(spec.shape), spec.dtype)


def _half_range(contract: PolicyContract) -> NDArray[np.float64]:
    return (contract.action.high.astype(np.float64) - contract.action.low) / 2.0
