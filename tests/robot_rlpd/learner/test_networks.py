import math

import numpy as np
import pytest
import torch

from robot_rlpd.learner.networks import (
    actor_shapes,
    critic_forward,
    critic_shapes,
    flatten,
    initialise,
    num_parameters,
    select_members,
    views,
)

SHAPES = critic_shapes(3, 2, (8, 16), 4)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def scrambled() -> dict[str, torch.Tensor]:
    flat = torch.randn(num_parameters(SHAPES), generator=generator(), dtype=torch.float64)
    return views(flat, SHAPES)


def test_named_parameters_share_the_flat_vectors_memory() -> None:
    flat = torch.zeros(num_parameters(SHAPES))
    views(flat, SHAPES)["ln1/bias"].fill_(1.0)
    assert flat.sum() == 4 * 16


def test_flatten_is_the_inverse_of_views() -> None:
    flat = torch.randn(num_parameters(SHAPES), generator=generator())
    assert torch.equal(flatten(views(flat, SHAPES)), flat)


def test_kernels_start_xavier_uniform_by_member_biases_zero_and_scales_one() -> None:
    shapes = critic_shapes(60, 4, (64,), 10)
    for name, parameter in views(initialise(shapes, generator()), shapes).items():
        if name.endswith("/bias"):
            assert not parameter.any()
        elif name.endswith("/scale"):
            assert torch.equal(parameter, torch.ones_like(parameter))
    kernel = views(initialise(shapes, generator()), shapes)["dense0/kernel"]
    bound = math.sqrt(6 / (64 + 64))
    assert bound * 0.99 < kernel.abs().max() <= bound
    assert float(kernel.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_the_same_seed_starts_the_same_network() -> None:
    assert torch.equal(initialise(SHAPES, generator()), initialise(SHAPES, generator()))


def test_each_member_is_a_separate_network_with_its_own_normalisation() -> None:
    critic = scrambled()
    x = torch.randn(7, 5, generator=generator(), dtype=torch.float64)
    q = critic_forward(critic, x[:, :3], x[:, 3:])
    for member in range(4):
        h = x.numpy()
        for i in range(2):
            p = {name: critic[f"{name}"][member].numpy() for name in critic}
            h = h @ p[f"dense{i}/kernel"] + p[f"dense{i}/bias"]
            h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-6)
            h = np.maximum(p[f"ln{i}/scale"] * h + p[f"ln{i}/bias"], 0)
        expected = (h @ critic["out/kernel"][member].numpy() + critic["out/bias"][member].numpy())[:, 0]
        np.testing.assert_allclose(q[member].numpy(), expected, atol=1e-12)


def test_changing_one_members_scale_changes_that_member_only() -> None:
    critic = scrambled()
    x = torch.randn(7, 5, generator=generator(), dtype=torch.float64)
    before = critic_forward(critic, x[:, :3], x[:, 3:])
    critic["ln0/scale"][2] += 1.0
    changed = (critic_forward(critic, x[:, :3], x[:, 3:]) != before).any(dim=1)
    assert changed.tolist() == [False, False, True, False]


def test_selected_members_have_the_values_they_have_in_the_ensemble() -> None:
    critic = scrambled()
    x = torch.randn(7, 5, generator=generator(), dtype=torch.float64)
    chosen = critic_forward(select_members(critic, torch.tensor([3, 1])), x[:, :3], x[:, 3:])
    torch.testing.assert_close(chosen, critic_forward(critic, x[:, :3], x[:, 3:])[[3, 1]], rtol=0, atol=1e-12)


def test_normalisation_can_be_left_out_and_is_never_in_the_actor() -> None:
    without = critic_shapes(3, 2, (8, 16), 4, layer_norm=False)
    assert not [name for name in {**without, **actor_shapes(3, 2, (8,))} if name.startswith("ln")]
    x = torch.ones(1, 5)
    assert critic_forward(views(initialise(without, generator()), without), x[:, :3], x[:, 3:]).shape == (4, 1)
