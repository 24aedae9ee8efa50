import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.learner.replay import ReplayBuffer, SymmetricSampler, apportioned


def batch(start: int, num: int) -> dict[str, Tensor]:
    """Transitions whose every entry tells their index."""
    i = torch.arange(start, start + num, dtype=torch.float32)
    return {
        "observations": torch.stack([i, i + 0.25], 1),
        "actions": -i[:, None],
        "rewards": i + 0.5,
        "masks": i + 0.75,
        "next_observations": torch.stack([i + 1, i + 1.25], 1),
    }


def filled(start: int, num: int, capacity: int = 10_000) -> ReplayBuffer:
    buffer = ReplayBuffer(2, 1, capacity=capacity)
    buffer.append_many(batch(start, num))
    return buffer


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_every_part_of_a_sampled_transition_belongs_to_the_same_index() -> None:
    found = filled(0, 3000).sample(500, generator())
    index = found["rewards"] - 0.5
    assert len(set(index.tolist())) > 400
    for n, i in enumerate(index.int().tolist()):
        for name, expected in batch(i, 1).items():
            assert torch.equal(found[name][n], expected[0])


def test_one_by_one_and_together_are_the_same() -> None:
    single = ReplayBuffer(2, 1, capacity=100)
    for i in range(20):
        one = {name: value[0].numpy() for name, value in batch(i, 1).items()}
        single.append(
            one["observations"], one["actions"], float(one["rewards"]), float(one["masks"]), one["next_observations"]
        )
    found, expected = single.sample(50, generator()), filled(0, 20).sample(50, generator())
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@given(st.integers(1, 3000), st.lists(st.integers(1, 1500), max_size=8))
def test_a_full_buffer_holds_what_a_list_would(capacity: int, sizes: list[int]) -> None:
    buffer = ReplayBuffer(2, 1, capacity=capacity)
    expected: list[float] = []
    for size in sizes:
        buffer.append_many(batch(len(expected), size))
        expected += [i + 0.5 for i in range(len(expected), len(expected) + size)]
    kept = expected[-capacity:]
    assert len(buffer) == len(kept)
    assert sorted(buffer.rewards().tolist()) == kept


def test_rewards_and_masks_are_not_columns() -> None:
    found = filled(0, 5).sample(7, generator())
    assert found["rewards"].shape == found["masks"].shape == (7,)
    assert found["observations"].shape == (7, 2)


def test_the_same_generator_state_draws_the_same_transitions() -> None:
    buffer = filled(0, 100)
    assert torch.equal(buffer.sample(9, generator())["rewards"], buffer.sample(9, generator())["rewards"])


@pytest.mark.parametrize(
    ("fraction", "size", "expected"),
    [(0.5, 256, 128), (0.0, 8, 0), (1.0, 8, 8), (0.5, 5, 3), (0.25, 2, 1), (0.1, 4, 0), (0.3, 10, 3), (0.9, 256, 230)],
)
def test_each_minibatch_holds_the_rounded_share_of_offline_data(fraction: float, size: int, expected: int) -> None:
    sampler = SymmetricSampler([filled(0, 50)], filled(1000, 50), fraction)
    rewards = sampler.sample(3, size, generator())["rewards"]
    assert rewards.shape == (3 * size,)
    assert (rewards.view(3, size) < 1000).sum(dim=1).tolist() == [expected] * 3


def test_online_data_that_arrive_later_are_sampled() -> None:
    online = filled(1000, 1)
    sampler = SymmetricSampler([filled(0, 50)], online, 0.5)
    online.append_many(batch(2000, 100))
    assert (sampler.sample(4, 64, generator())["rewards"] >= 2000).any()


def test_rows_drawn_by_kernels_alone_are_uniform_over_what_is_held_at_that_time() -> None:
    buffer, drawing = ReplayBuffer(2, 1, capacity=100), generator()
    assert buffer.sample_rows_on_device((7,), drawing).count_nonzero() == 0
    for held in (1, 5, 20):
        buffer.append_many(batch(len(buffer), held - len(buffer)))
        rows = buffer.sample_rows_on_device((400, held), drawing)
        counts = torch.bincount((rows[..., 3] - 0.5).long().flatten(), minlength=held)
        assert counts.shape == (held,)
        assert ((counts - 400).abs() < 120).all()  # six standard deviations


def test_minibatches_drawn_by_kernels_alone_have_the_same_shares() -> None:
    sampler = SymmetricSampler([filled(0, 50), filled(100, 5)], filled(1000, 50), 0.5, (3.0, 1.0))
    found, expected = sampler.sample_on_device(3, 16, generator()), sampler.sample(3, 16, generator())
    assert {n: (t.shape, t.stride()) for n, t in found.items()} == {
        n: (t.shape, t.stride()) for n, t in expected.items()
    }
    ranges = [
        (rewards < 100).int() + 2 * ((rewards > 100) & (rewards < 1000)).int()
        for rewards in (found["rewards"].view(3, 16), expected["rewards"].view(3, 16))
    ]
    assert torch.equal(*ranges)


def test_an_empty_online_buffer_is_an_error_unless_all_data_are_offline() -> None:
    empty = ReplayBuffer(2, 1, capacity=10)
    with pytest.raises(DataError, match="online data"):
        SymmetricSampler([filled(0, 5)], empty, 0.5).sample(1, 4, generator())
    assert len(SymmetricSampler([filled(0, 5)], empty, 1.0).sample(1, 4, generator())["rewards"]) == 4


def test_without_offline_data_only_fraction_zero_is_allowed() -> None:
    with pytest.raises(ConfigError, match="offline_fraction"):
        SymmetricSampler([], filled(0, 5), 0.5)
    assert len(SymmetricSampler([], filled(0, 5), 0.0).sample(2, 4, generator())["rewards"]) == 8


@given(st.integers(1, 300), st.lists(st.floats(0.1, 10), min_size=1, max_size=5))
def test_rows_are_apportioned_to_within_one_of_their_weights(total: int, weights: list[float]) -> None:
    counts = apportioned(total, weights)
    assert sum(counts) == total
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - total * weight / sum(weights)) < 1.0


def test_each_minibatch_holds_the_weighted_share_of_each_prior_buffer() -> None:
    sampler = SymmetricSampler([filled(0, 50), filled(100, 5)], filled(1000, 50), 0.5, (3.0, 1.0))
    rewards = sampler.sample(3, 16, generator())["rewards"].view(3, 16)
    assert (rewards < 100).sum(dim=1).tolist() == [6] * 3
    assert ((rewards > 100) & (rewards < 1000)).sum(dim=1).tolist() == [2] * 3


def test_a_weight_that_is_worth_no_row_is_refused() -> None:
    sampler = SymmetricSampler([filled(0, 50), filled(100, 5)], filled(1000, 50), 0.5, (100.0, 1.0))
    with pytest.raises(ConfigError, match=r"prior_weights: .*found 1.0; allowed: about 12.6 or more of 101"):
        sampler.sample(3, 16, generator())
    with pytest.raises(ConfigError, match="one each for 2 buffers"):
        SymmetricSampler([filled(0, 50), filled(100, 5)], filled(1000, 50), 0.5)


def test_unusable_transitions_are_refused() -> None:
    buffer = ReplayBuffer(2, 1, capacity=10)
    with pytest.raises(DataError, match="NaN"):
        buffer.append(np.array([np.nan, 0]), np.zeros(1), 0.0, 1.0, np.zeros(2))
    with pytest.raises(DataError, match="entries"):
        buffer.append(np.zeros(3), np.zeros(1), 0.0, 1.0, np.zeros(2))
    assert len(buffer) == 0


def test_zeros_are_laid_out_like_a_sampled_batch() -> None:
    online = filled(0, 50)
    sampled = SymmetricSampler([filled(100, 50)], online, 0.5).sample(3, 8, generator())
    zeros = online.zeros(3 * 8)
    layout = {name: (tensor.shape, tensor.stride(), tensor.storage_offset()) for name, tensor in sampled.items()}
    assert {n: (t.shape, t.stride(), t.storage_offset()) for n, t in zeros.items()} == layout
    assert all(not tensor.any() for tensor in zeros.values())
