import math

import pytest
import torch
from torch import Tensor

from robot_rlpd.learner.distributions import log_derivative_of_tanh, sample_squashed


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


@pytest.mark.parametrize("u", [-300.0, -30.0, -11.0, -9.9, -1.0, 0.0, 0.3, 1.0, 11.0, 30.0, 300.0])
def test_the_log_derivative_of_tanh_is_exact_far_out(u: float) -> None:
    e = math.exp(-2 * abs(u))
    expected = math.log(4.0) - 2 * abs(u) - 2 * math.log1p(e)
    assert float(log_derivative_of_tanh(torch.tensor(u, dtype=torch.float64))) == pytest.approx(expected, abs=1e-12)


def test_the_gradient_of_the_log_derivative_is_minus_two_tanh() -> None:
    u = torch.linspace(-25, 25, 101, dtype=torch.float64).requires_grad_()
    log_derivative_of_tanh(u).sum().backward()  # type: ignore[no-untyped-call]
    assert u.grad is not None
    expected = -2 * u.detach().tanh()
    expected[50] = 0.0
    torch.testing.assert_close(u.grad, expected, rtol=0, atol=1e-12)


def test_densities_integrate_to_one() -> None:
    action = torch.linspace(-1, 1, 200_003, dtype=torch.float64)[1:-1].unsqueeze(1)
    mean, log_std = torch.full_like(action, 0.4), torch.full_like(action, -0.7)
    sampled, log_density = sample_squashed(mean, log_std, (action.atanh() - mean) / log_std.exp())
    torch.testing.assert_close(sampled, action, rtol=0, atol=1e-12)
    assert float(torch.trapezoid(log_density.exp(), action[:, 0])) == pytest.approx(1.0, abs=1e-6)


def test_the_log_density_sums_over_action_entries() -> None:
    mean, log_std, noise = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = [sample_squashed(mean[:, [i]], log_std[:, [i]], noise[:, [i]])[1] for i in range(2)]
    torch.testing.assert_close(sample_squashed(mean, log_std, noise)[1], parts[0] + parts[1], rtol=0, atol=1e-12)


def test_log_std_is_clipped_with_zero_gradient_outside() -> None:
    raw = column(-50.0, 0.0, 3.0).requires_grad_()
    _, log_density = sample_squashed(column(0.0, 0.0, 0.0), raw, column(0.5, 0.5, 0.5))
    log_density.sum().backward()  # type: ignore[no-untyped-call]
    assert raw.grad is not None
    assert (raw.grad != 0).flatten().tolist() == [False, True, False]
    _, at_limits = sample_squashed(column(0.0, 0.0), column(-20.0, 2.0), column(0.5, 0.5))
    torch.testing.assert_close(log_density.detach()[[0, 2]], at_limits)


def test_actions_stay_within_bounds_and_densities_finite_at_extreme_means() -> None:
    actions, log_density = sample_squashed(column(-1e4, 1e4), column(2.0, 2.0), column(1.0, 1.0))
    assert actions.flatten().tolist() == [-1.0, 1.0]
    assert torch.isfinite(log_density).all()
