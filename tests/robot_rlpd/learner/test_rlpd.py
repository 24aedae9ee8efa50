import io
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.golden_check import COMPARED, TOLERANCE, differences, main, read_golden
from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.losses import actor_loss, critic_loss, critic_target, temperature_loss, value_gradient
from robot_rlpd.learner.rlpd import RLPD, RLPDConfig, draw_subsets

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
LARGE_GOLDEN = Path(os.environ.get("ROBOT_RLPD_GOLDEN", ROOT.parent / "shared" / "golden"))
CONFIG = RLPDConfig(hidden_dims=(16, 16), ensemble_size=4, subset_size=2, utd_ratio=3, batch_size=8)


def learner(config: RLPDConfig = CONFIG, seed: int = 0) -> RLPD:
    return RLPD(config, 3, 2, seed=seed, dtype=torch.float64, compile=False)


def batch(num: int = 24) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    x = torch.randn(num, 8, generator=g, dtype=torch.float64)
    masks = (torch.arange(num) % 4 != 0).double()
    return {
        "observations": x[:, :3],
        "actions": x[:, 3:5].tanh(),
        "rewards": x[:, 0],
        "masks": masks,
        "next_observations": x[:, 5:],
    }


def assert_golden(path: Path, *, compile: bool = False) -> None:  # noqa: A002
    golden = read_golden(path)
    found = differences(golden, compile=compile)
    assert found.keys() == {name for name in golden if name.startswith(COMPARED)}
    assert {name: value for name, value in found.items() if not value <= TOLERANCE} == {}


@pytest.mark.parametrize("name", ["small_sparse", "small_dense"])
def test_the_update_equals_the_recorded_official_one(name: str) -> None:
    assert_golden(GOLDEN / f"{name}.npz")


@pytest.mark.parametrize("name", ["adroit", "locomotion"])
def test_the_update_equals_the_larger_recorded_ones(name: str) -> None:
    path = LARGE_GOLDEN / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{path} is not here; set ROBOT_RLPD_GOLDEN to the folder of the larger recordings")
    assert_golden(path)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # the compiler imports what torch deprecates
@pytest.mark.slow
def test_the_compiled_update_equals_the_recorded_official_one() -> None:
    assert_golden(GOLDEN / "small_dense.npz", compile=True)


def test_a_damaged_recording_is_one_line_and_exit_status_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes((GOLDEN / "small_dense.npz").read_bytes()[:5000])
    for path in (damaged, tmp_path / "missing.npz"):
        assert main([str(path)]) == 1
        out = capsys.readouterr().out
        assert len(out.splitlines()) == 1
        assert str(path) in out


@pytest.mark.parametrize("prefix", COMPARED)
def test_a_wrong_result_is_noticed_in_every_group(tmp_path: Path, prefix: str) -> None:
    golden = read_golden(GOLDEN / "small_dense.npz")
    name = next(name for name in golden if name.startswith(prefix))
    changed = tmp_path / "changed.npz"
    np.savez(changed, allow_pickle=False, **(golden | {name: golden[name] + 1e-9}))
    assert main([str(changed)]) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_dims": ()},
        {"hidden_dims": (8, 0)},
        {"subset_size": 5, "ensemble_size": 4},
        {"subset_size": 0},
        {"utd_ratio": 0},
        {"batch_size": 0},
        {"offline_fraction": 1.1},
        {"discount": -0.1},
        {"tau": float("nan")},
        {"actor_lr": 0.0},
        {"initial_temperature": -1.0},
        {"target_entropy": float("inf")},
        {"adam_b2": 1.0},
    ],
)
def test_values_out_of_range_are_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(CONFIG, **changes)
    assert caught.value.field in changes


def target_of(config: RLPDConfig, bonus: float) -> Tensor:
    agent, data = learner(config), batch(8)
    entropy_bonus = torch.full((8,), bonus, dtype=torch.float64)
    return critic_target(config, agent.target, data, data["actions"], entropy_bonus, torch.tensor([0, 2]))


def test_entropy_backup_raises_the_target_of_unlikely_actions_but_not_after_termination() -> None:
    difference = target_of(CONFIG, bonus=2.0) - target_of(CONFIG, bonus=0.0)
    torch.testing.assert_close(difference, 0.99 * 2.0 * batch(8)["masks"], rtol=0, atol=1e-12)


def test_without_entropy_backup_the_target_ignores_entropy() -> None:
    config = replace(CONFIG, backup_entropy=False)
    assert torch.equal(target_of(config, bonus=2.0), target_of(config, bonus=0.0))


def test_a_terminated_transition_does_not_bootstrap() -> None:
    data = batch(8)
    assert torch.equal(target_of(CONFIG, bonus=2.0)[data["masks"] == 0], data["rewards"][data["masks"] == 0])


def test_the_target_average_moves_a_little_toward_the_new_critic() -> None:
    agent = learner(replace(CONFIG, utd_ratio=1, tau=0.1))
    before = {name: p.clone() for name, p in agent.target.items()}
    agent.update(batch(8))
    for name, p in agent.target.items():
        torch.testing.assert_close(p, 0.9 * before[name] + 0.1 * agent.critic[name], rtol=0, atol=1e-12)


def test_every_member_is_trained_whatever_the_subset() -> None:
    agent = learner(replace(CONFIG, utd_ratio=1, subset_size=1))
    before = agent.critic["dense0/kernel"].clone()
    agent.update(batch(8))
    assert (agent.critic["dense0/kernel"] != before).flatten(1).any(dim=1).all()


def test_the_actor_follows_the_mean_over_all_critics_not_the_minimum() -> None:
    agent, data = learner(), batch(8)
    noise = torch.zeros(8, 2, dtype=torch.float64)
    temperature = torch.zeros((), dtype=torch.float64)
    before, _ = actor_loss(CONFIG, agent.actor, data, noise, agent.critic, temperature)
    agent.critic["out/bias"][1] += 4.0  # one of four members: the mean rises by 1, the minimum does not
    after, _ = actor_loss(CONFIG, agent.actor, data, noise, agent.critic, temperature)
    assert float(before - after) == pytest.approx(1.0, abs=1e-12)


def test_the_target_entropy_is_minus_half_the_action_entries_unless_given() -> None:
    assert learner().target_entropy == -1.0
    assert learner(replace(CONFIG, target_entropy=-2.5)).target_entropy == -2.5


def test_too_little_entropy_raises_the_temperature() -> None:
    zero = torch.zeros((), dtype=torch.float64)
    for entropy, sign in ((-3.0, -1.0), (1.0, 1.0)):
        gradient, _ = value_gradient(
            lambda p, e=entropy: temperature_loss(p["t"], torch.tensor(e), -1.0),  # type: ignore[misc]
            {"t": zero},
        )
        assert np.sign(float(gradient["t"])) == sign


def test_gradients_agree_with_finite_differences() -> None:
    agent, data = learner(), batch(8)
    noise = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    temperature = torch.tensor(0.7, dtype=torch.float64)
    losses: list[tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]]] = [
        (agent.critic, lambda p: critic_loss(CONFIG, p, data, data["rewards"])),
        (agent.actor, lambda p: actor_loss(CONFIG, p, data, noise, agent.critic, temperature)),
    ]
    for parameters, loss in losses:
        gradients, _ = value_gradient(loss, parameters)
        for name, parameter in parameters.items():
            direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            step = 1e-6
            high = loss({**parameters, name: parameter + step * direction})[0]
            low = loss({**parameters, name: parameter - step * direction})[0]
            found = float((gradients[name] * direction).sum())
            assert float(high - low) / (2 * step) == pytest.approx(found, abs=1e-6, rel=1e-4), name


def test_subsets_have_distinct_members_and_each_member_takes_part() -> None:
    config = replace(CONFIG, ensemble_size=10, subset_size=3, utd_ratio=2000)
    subsets = draw_subsets(config, torch.Generator().manual_seed(0))
    assert subsets.shape == (2000, 3)
    assert all(len(set(row)) == 3 for row in subsets.tolist())
    counts = torch.bincount(subsets.flatten(), minlength=10)
    assert 500 < int(counts.min()) <= int(counts.max()) < 700


def test_one_call_is_utd_ratio_critic_updates_and_one_of_the_actor() -> None:
    agent = learner()
    metrics = agent.update(batch())
    state = agent.state_dict()
    assert agent.gradient_steps == 3
    assert int(state["adam/actor/count"]) == int(state["adam/temperature/count"]) == 1
    assert metrics["target_q_min"] <= metrics["target_q_max"]
    assert all(np.isfinite(value) for value in metrics.values())


def test_the_seed_alone_decides_and_the_global_generator_is_untouched() -> None:
    before = torch.get_rng_state()
    first, second, other = learner(), learner(), learner(seed=1)
    assert first.update(batch()) == second.update(batch()) != other.update(batch())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_resumed_learner_goes_on_exactly_as_if_it_had_not_stopped() -> None:
    agent = learner()
    agent.update(batch())
    file = io.BytesIO()
    torch.save(agent.state_dict(), file)
    file.seek(0)
    resumed = learner(seed=9)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert agent.update(batch()) == resumed.update(batch())
    expected, found = agent.state_dict(), resumed.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_state_of_another_size_is_refused_by_name_and_changes_nothing() -> None:
    agent = learner()
    before = agent.state_dict()
    wider = learner(replace(CONFIG, hidden_dims=(16, 17))).state_dict()
    short = {name: tensor for name, tensor in before.items() if name != "actor/mean/bias"}
    for state, name in ((wider, "dense1/kernel"), (short, "actor/mean/bias")):
        with pytest.raises(ConfigError, match=name):
            agent.load_state_dict(state)
    assert all(torch.equal(before[name], tensor) for name, tensor in agent.state_dict().items())


def test_actions_are_within_bounds_and_stochastic_only_when_sampled() -> None:
    agent, x = learner(), batch()["observations"]
    sampled = agent.sample_action(x, torch.Generator().manual_seed(0))
    again = agent.sample_action(x, torch.Generator().manual_seed(0))
    other = agent.sample_action(x, torch.Generator().manual_seed(1))
    assert sampled.shape == (24, 2)
    assert sampled.abs().max() <= 1
    assert torch.equal(sampled, again)
    assert not torch.equal(sampled, other)
    assert torch.equal(agent.deterministic_action(x), agent.deterministic_action(x))


def test_where_compiling_fails_the_update_runs_uncompiled_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object, **kwargs: object) -> NoReturn:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda function, **_: broken)
    agent = RLPD(CONFIG, 3, 2, seed=0, dtype=torch.float64, compile=True)
    with caplog.at_level(logging.WARNING):
        metrics = agent.update(batch())
    assert metrics == learner().update(batch())
    assert "no C++ compiler" in caplog.text


def test_q_of_a_sparse_task_settles_within_the_bounds_of_its_returns() -> None:
    assert RLPDConfig().return_bounds(-1.0, 0.0) == pytest.approx((-100.0, 0.0))
    config = replace(CONFIG, backup_entropy=False, discount=0.5, critic_lr=1e-2, tau=0.2)
    agent, data = learner(config), batch()
    data |= {"rewards": -torch.ones(24, dtype=torch.float64), "masks": torch.ones(24, dtype=torch.float64)}
    for _ in range(40):
        metrics = agent.update(data)
    assert metrics["q_mean"] == pytest.approx(config.return_bounds(-1.0, 0.0)[0], abs=0.15)
