from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.golden_check import COMPARED, golden_config, read_golden
from robot_rlpd.learner.rlpd import RLPD, RLPDConfig
from tests.robot_rlpd.learner.reference_update import (
    Inputs,
    Named,
    Reference,
    largest_differences,
    learner_after,
    scrambled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
LARGE_GOLDEN = Path(os.environ.get("ROBOT_RLPD_GOLDEN", ROOT.parent / "shared" / "golden"))
TOLERANCE = 1e-10
"""Absolute, float64. Two right orders of evaluation differ by about 1e-12: Adam enlarges what rounding leaves."""
NOTICED = 1e-7
"""A mistake changes some result by more than this, a thousand times the tolerance."""
BASE = RLPDConfig(hidden_dims=(7, 13), ensemble_size=3, subset_size=2, utd_ratio=2, batch_size=5)
compiler = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # it imports what torch deprecates

# The reference itself


def above(differences: dict[str, float], tolerance: float = TOLERANCE) -> dict[str, float]:
    return {name: value for name, value in differences.items() if not value <= tolerance}


def part(golden: Named, prefix: str) -> Named:
    return {name.removeprefix(prefix): tensor for name, tensor in golden.items() if name.startswith(prefix)}


@pytest.mark.parametrize("name", ["small_sparse", "small_dense", "adroit", "locomotion"])
def test_the_reference_equals_the_recorded_official_update(name: str) -> None:
    path = next(
        (folder / f"{name}.npz" for folder in (GOLDEN, LARGE_GOLDEN) if (folder / f"{name}.npz").exists()), None
    )
    if path is None:
        pytest.skip(f"{name}.npz is not here; set ROBOT_RLPD_GOLDEN to the folder of the larger recordings")
    arrays = read_golden(path)
    config = golden_config(json.loads(str(arrays.pop("config_json"))))
    golden = {name: torch.as_tensor(array) for name, array in arrays.items()}
    moments = {name: torch.zeros_like(tensor) for name, tensor in golden.items() if name.startswith("adam/")}
    reference = Reference(config, part(golden, "init/") | moments)
    noise = part(golden, "noise/")
    inputs = Inputs(
        batch=part(golden, "batch/"),
        critic_noise=noise["critic_eps"],
        subsets=noise["subset"],
        actor_noise=noise["actor_eps"],
    )
    first = Reference(config, reference.state)
    first.critic_update(inputs.minibatches()[0], inputs.critic_noise[0], inputs.subsets[0].tolist())
    results = reference.after(inputs)
    found = {name if name.startswith("adam/") else f"final/{name}": tensor for name, tensor in reference.state.items()}
    found |= {f"out/{name}": results[name] for name in results.keys() - reference.state.keys()}
    found["out/target_q_first"] = results["target_q"][0]
    found |= {f"after_first/{name}": tensor for name, tensor in first.state.items()}
    gradients = part(first.state, "adam/critic/mu/")  # the moments start at zero
    found |= {f"after_first/critic_grad/{name}": mu / (1.0 - config.adam_b1) for name, mu in gradients.items()}
    expected = {name: tensor for name, tensor in golden.items() if name.startswith(COMPARED)}
    assert len(expected) > 100
    assert above(largest_differences(found, expected)) == {}


# The learner against the reference


def learner_and_reference(
    config: RLPDConfig, sizes: tuple[int, int], seed: int, *, moments: bool = False, is_compiled: bool = False
) -> tuple[RLPD, Reference]:
    """Both in the same state, in which no parameter has its starting value."""
    learner = RLPD(config, *sizes, seed=seed, dtype=torch.float64, compile=is_compiled)
    assert float(learner.state_dict()["log_temperature"]) == pytest.approx(math.log(config.initial_temperature))
    learner.load_state_dict(scrambled(learner.state_dict(), seed, moments=moments))
    return learner, Reference(config, learner.state_dict())


def worst_over_calls(learner: RLPD, reference: Reference, sizes: tuple[int, int], seed: int, calls: int) -> list[Any]:
    """The differences above the tolerance after each call, each on inputs of its own."""
    drawn = [Inputs.draw(reference.config, *sizes, seed=1000 * seed + call) for call in range(calls)]
    return [above(largest_differences(learner_after(learner, i), reference.after(i))) for i in drawn]


CASES: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "one critic": ({"ensemble_size": 1, "subset_size": 1}, (4, 2)),
    "one of two critics": ({"ensemble_size": 2, "subset_size": 1}, (4, 2)),
    "all of three critics": ({"ensemble_size": 3, "subset_size": 3}, (4, 2)),
    "two of ten critics": ({"ensemble_size": 10, "subset_size": 2, "hidden_dims": (13, 7, 13)}, (6, 3)),
    "all of ten critics": ({"ensemble_size": 10, "subset_size": 10}, (4, 2)),
    "one hidden layer": ({"hidden_dims": (13,)}, (4, 2)),
    "four hidden layers": ({"hidden_dims": (7, 13, 11, 8)}, (4, 2)),
    "no entropy backup": ({"backup_entropy": False}, (4, 2)),
    "no discounting": ({"discount": 1.0}, (4, 2)),
    "no future": ({"discount": 0.0}, (4, 2)),
    "a far future": ({"discount": 0.999, "hidden_dims": (13, 7, 13)}, (4, 2)),
    "targets at rest": ({"tau": 0.0}, (4, 2)),
    "targets without memory": ({"tau": 1.0, "discount": 0.9}, (4, 2)),
    "three step sizes": ({"actor_lr": 1e-3, "critic_lr": 1e-4, "temperature_lr": 3e-3}, (4, 2)),
    "a given target entropy": ({"target_entropy": 1.25, "temperature_lr": 1e-2}, (4, 3)),
    "a low temperature": ({"initial_temperature": 0.1}, (4, 2)),
    "a high temperature": ({"initial_temperature": 3.0, "backup_entropy": False}, (4, 2)),
    "no normalisation": ({"layer_norm": False}, (4, 2)),
    "a larger normalisation epsilon": ({"layer_norm_eps": 1e-5}, (4, 2)),
    "another Adam": ({"adam_b1": 0.5, "adam_b2": 0.9, "adam_eps": 1e-5}, (4, 2)),
    "Adam without a running mean": ({"adam_b1": 0.0}, (4, 2)),
    "one critic update": ({"utd_ratio": 1}, (4, 2)),
    "five critic updates": ({"utd_ratio": 5}, (4, 2)),
    "single transitions": ({"batch_size": 1, "utd_ratio": 5}, (4, 2)),
    "an odd minibatch": ({"batch_size": 11, "utd_ratio": 3}, (4, 2)),
    "one observation entry": ({}, (1, 3)),
    "one action entry": ({}, (3, 1)),
    "one entry of each": ({"hidden_dims": (7,)}, (1, 1)),
}


@pytest.mark.parametrize("moments", [False, True], ids=["from the start", "in the middle"])
@pytest.mark.parametrize(("changes", "sizes"), CASES.values(), ids=CASES)
def test_three_calls_equal_the_reference(changes: dict[str, Any], sizes: tuple[int, int], moments: bool) -> None:
    learner, reference = learner_and_reference(replace(BASE, **changes), sizes, seed=1, moments=moments)
    assert worst_over_calls(learner, reference, sizes, seed=1, calls=3) == [{}] * 3


@compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["two of ten critics", "no normalisation", "a given target entropy"])
def test_the_compiled_update_equals_the_reference(name: str) -> None:
    changes, sizes = CASES[name]
    learner, reference = learner_and_reference(replace(BASE, **changes), sizes, seed=1, moments=True, is_compiled=True)
    assert worst_over_calls(learner, reference, sizes, seed=1, calls=3) == [{}] * 3


def test_a_standard_deviation_beyond_its_bounds_is_clipped_and_has_no_gradient() -> None:
    learner, _ = learner_and_reference(BASE, (4, 5), seed=2)
    state = learner.state_dict()
    state["actor/log_std/bias"] = torch.tensor([-30.0, -19.0, 0.0, 1.0, 9.0], dtype=torch.float64)
    learner.load_state_dict(state)
    reference = Reference(BASE, state)
    assert worst_over_calls(learner, reference, (4, 5), seed=2, calls=2) == [{}] * 2
    moved = learner.state_dict()["actor/log_std/bias"] != state["actor/log_std/bias"]
    assert moved.tolist() == [False, True, True, True, False]


@st.composite
def configs(draw: st.DrawFn) -> RLPDConfig:
    """Any configuration but for very narrow layers, whose normalised values leave gradients of rounding alone."""
    rates = st.floats(1e-4, 3e-3)
    ensemble_size = draw(st.integers(1, 6))
    return RLPDConfig(
        hidden_dims=tuple(draw(st.lists(st.integers(6, 16), min_size=1, max_size=4))),
        ensemble_size=ensemble_size,
        subset_size=draw(st.integers(1, ensemble_size)),
        utd_ratio=draw(st.integers(1, 5)),
        batch_size=draw(st.integers(1, 9)),
        discount=draw(st.floats(0.0, 1.0)),
        tau=draw(st.floats(0.0, 1.0)),
        actor_lr=draw(rates),
        critic_lr=draw(rates),
        temperature_lr=draw(rates),
        backup_entropy=draw(st.booleans()),
        target_entropy=draw(st.none() | st.floats(-5.0, 5.0)),
        initial_temperature=draw(st.floats(0.01, 3.0)),
        layer_norm=draw(st.booleans()),
        layer_norm_eps=draw(st.sampled_from([1e-6, 1e-5, 1e-3])),
        adam_b1=draw(st.floats(0.0, 0.95)),
        adam_b2=draw(st.floats(0.9, 0.9999)),
        adam_eps=draw(st.sampled_from([1e-8, 1e-6, 1e-4])),
    )


@settings(max_examples=30, deadline=None)
@given(configs(), st.integers(1, 6), st.integers(1, 4), st.integers(0, 999), st.booleans())
def test_two_calls_of_any_configuration_equal_the_reference(
    config: RLPDConfig, observation_size: int, action_size: int, seed: int, moments: bool
) -> None:
    sizes = (observation_size, action_size)
    learner, reference = learner_and_reference(config, sizes, seed, moments=moments)
    assert worst_over_calls(learner, reference, sizes, seed, calls=2) == [{}] * 2


# That these comparisons would notice


class MeanOfTheSubset(Reference):
    def smallest(self, values: list[Tensor]) -> Tensor:
        return torch.stack(values).mean(dim=0)


class SmallestOfAllMembers(Reference):
    def target_q(self, batch: Named, noise: Tensor, subset: Sequence[int]) -> Tensor:
        return super().target_q(batch, noise, range(self.config.ensemble_size))


class OneSubsetForAllMinibatches(Reference):
    def call(self, inputs: Inputs) -> Named:
        return super().call(replace(inputs, subsets=inputs.subsets[:1].expand_as(inputs.subsets)))


class HalfTheLoss(Reference):
    def member_loss(self, q: Tensor, target_q: Tensor) -> Tensor:
        return super().member_loss(q, target_q) / 2.0


class TargetsAveragedBeforeTheStep(Reference):
    def adam(self, group: str, gradients: Named, lr: float) -> None:
        if group == "critic":
            super().average_targets()
        super().adam(group, gradients, lr)

    def average_targets(self) -> None:
        pass


class TargetsAveragedOncePerCall(Reference):
    def average_targets(self) -> None:
        pass

    def actor_update(self, batch: Named, noise: Tensor) -> Named:
        super().average_targets()
        return super().actor_update(batch, noise)


class ActorOnTheFirstMinibatch(Reference):
    def call(self, inputs: Inputs) -> Named:
        self.first = inputs.minibatches()[0]
        return super().call(inputs)

    def actor_update(self, batch: Named, noise: Tensor) -> Named:
        return super().actor_update(self.first, noise)


class UnbiasedVariance(Reference):
    def layer_norm(self, x: Tensor) -> Tensor:
        return super().layer_norm(x) * math.sqrt((x.shape[1] - 1) / x.shape[1])


class EpsilonOfTorch(Reference):
    def __init__(self, config: RLPDConfig, state: Named) -> None:
        super().__init__(replace(config, layer_norm_eps=1e-5), state)


class AdamsEpsilonInsideTheRoot(Reference):
    def adam_direction(self, m_hat: Tensor, v_hat: Tensor) -> Tensor:
        return m_hat / torch.sqrt(v_hat + self.config.adam_eps)


class AdamWithoutBiasCorrection(Reference):
    def adam_direction(self, m_hat: Tensor, v_hat: Tensor) -> Tensor:
        b1, b2 = self.config.adam_b1, self.config.adam_b2
        return super().adam_direction(m_hat * (1.0 - b1), v_hat * (1.0 - b2))  # as of the first step


class ActionsThatLackTheSquashingInTheirDensity(Reference):
    def sample(self, actor: Named, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        actions, log_density = super().sample(actor, observations, noise)
        return actions, log_density + torch.log(1.0 - actions**2).sum(dim=1)


MISTAKES: list[type[Reference]] = [
    MeanOfTheSubset,
    SmallestOfAllMembers,
    OneSubsetForAllMinibatches,
    HalfTheLoss,
    TargetsAveragedBeforeTheStep,
    TargetsAveragedOncePerCall,
    ActorOnTheFirstMinibatch,
    UnbiasedVariance,
    EpsilonOfTorch,
    AdamsEpsilonInsideTheRoot,
    AdamWithoutBiasCorrection,
    ActionsThatLackTheSquashingInTheirDensity,
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_reference_is_noticed(mistake: type[Reference]) -> None:
    learner, reference = learner_and_reference(BASE, (4, 2), seed=3)
    inputs = Inputs.draw(BASE, 4, 2, seed=3)
    wrong = mistake(BASE, reference.state).after(inputs)
    found = learner_after(learner, inputs)
    assert above(largest_differences(found, reference.after(inputs))) == {}
    assert max(largest_differences(found, wrong).values()) > NOTICED


@pytest.mark.parametrize(
    "name", ["critic_loss", "target_q", "actor/mean/bias", "target/ln1/scale", "adam/critic/count"]
)
def test_a_result_that_is_missing_or_not_a_number_is_no_agreement(name: str) -> None:
    _, reference = learner_and_reference(BASE, (4, 2), seed=4)
    results = reference.after(Inputs.draw(BASE, 4, 2, seed=4))
    spoiled = [results | {name: results[name] * math.nan}, results | {name: torch.empty(0)}]
    spoiled.append({other: tensor for other, tensor in results.items() if other != name})
    for found in spoiled:
        assert above(largest_differences(found, results)) == {name: math.inf}


# Float32 against float64


REALISTIC = RLPDConfig(hidden_dims=(64, 64), ensemble_size=10, subset_size=2, utd_ratio=4, batch_size=32)
SIZES = (39, 28)
CALLS = 5
TRACE_BOUND = 2e-5
"""Of losses, targets, Q and entropy: difference over the largest magnitude of its kind. Float32 resolves 1.2e-7 of a
value; q_mean is the mean of 320 values of both signs that almost cancel, and was off by up to 6.6e-6 of itself."""
TYPICAL_BOUND = 4e-3
"""Of 999 in 1000 parameters: difference after all calls over the step size. Found 0.8e-3 to 1.2e-3 after 20 updates."""
NORM_BOUND = 1e-3
"""Of a network's parameters together: length of the difference over length of the way moved; up to 1.9e-4 found."""
LARGEST_BOUND = 2.1
"""Of any single parameter: difference over the step size, per update. Adam's first steps are the gradient's sign times
the step size, so where the gradient is rounding alone two right results may go opposite ways: 2 per update, and no
more. The largest found was 0.04 per update."""


@dataclass(frozen=True)
class Deviation:
    """How far float32 is from float64, in the units of the bounds above; the largest of all calls and networks."""

    trace: float
    typical: float
    norm: float
    largest: float


def float32_deviation(
    config: RLPDConfig, seed: int, *, is_compiled: bool = False, spoil: Callable[[Tensor], Tensor] = lambda x: x
) -> Deviation:
    """Run both from the same float32 numbers. `spoil` changes the observations that float32 is given."""
    single = RLPD(config, *SIZES, seed=seed, dtype=torch.float32, compile=is_compiled)
    double = RLPD(config, *SIZES, seed=seed, dtype=torch.float64, compile=False)
    double.load_state_dict(single.state_dict())
    start = double.state_dict()
    found = []
    for call in range(CALLS):
        inputs = Inputs.draw(config, *SIZES, seed=100 * seed + call).to(torch.float32)
        spoiled = replace(inputs, batch=inputs.batch | {"observations": spoil(inputs.batch["observations"])})
        after, expected = learner_after(single, spoiled), learner_after(double, inputs.to(torch.float64))
        trace = max(
            float((after[name] - expected[name]).abs().max() / expected[name].abs().max())
            for name in expected.keys() - start.keys()
        )
        for group, lr, updates in (("actor", config.actor_lr, 1), ("critic", config.critic_lr, config.utd_ratio)):
            names = [name for name in start if name.startswith(f"{group}/")]
            off = torch.cat([(after[name] - expected[name]).flatten() for name in names])
            way = torch.cat([(expected[name] - start[name]).flatten() for name in names])
            largest = float(off.abs().max()) / lr / (updates * (call + 1))
            typical = float(off.abs().quantile(0.999)) / lr
            found.append((trace, typical, float(off.norm() / way.norm()), largest))
    return Deviation(*(max(column) for column in zip(*found, strict=True)))


def assert_within_bounds(deviation: Deviation) -> None:
    assert deviation.trace <= TRACE_BOUND
    assert deviation.typical <= TYPICAL_BOUND
    assert deviation.norm <= NORM_BOUND
    assert deviation.largest <= LARGEST_BOUND


@pytest.mark.parametrize("backup_entropy", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_float32_stays_near_float64(seed: int, backup_entropy: bool) -> None:
    assert_within_bounds(float32_deviation(replace(REALISTIC, backup_entropy=backup_entropy), seed))


@compiler
@pytest.mark.slow
@pytest.mark.parametrize("backup_entropy", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_compiled_float32_stays_near_float64(seed: int, backup_entropy: bool) -> None:
    config = replace(REALISTIC, backup_entropy=backup_entropy)
    assert_within_bounds(float32_deviation(config, seed, is_compiled=True))


def test_less_than_float32_would_be_noticed() -> None:
    """With observations of half precision, which has as many digits as the fast products of some accelerators."""
    deviation = float32_deviation(REALISTIC, seed=0, spoil=lambda x: x.half().float())
    assert deviation.trace > TRACE_BOUND
    assert deviation.typical > TYPICAL_BOUND
    assert deviation.norm > NORM_BOUND
