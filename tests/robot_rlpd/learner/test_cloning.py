import torch
from torch import Tensor

from robot_rlpd.learner.cloning import BehaviourCloning, cloning_loss
from robot_rlpd.learner.networks import actor_forward
from robot_rlpd.learner.rlpd import RLPD, RLPDConfig

CONFIG = RLPDConfig(hidden_dims=(32, 32), actor_lr=3e-3)


def demonstrations() -> dict[str, Tensor]:
    observations = torch.randn(256, 3, generator=torch.Generator().manual_seed(1))
    return {"observations": observations, "actions": (observations[:, :2] - observations[:, 1:]).tanh()}


def test_cloning_learns_the_demonstrated_actions() -> None:
    cloning = BehaviourCloning(CONFIG, 3, 2, seed=0)
    first = cloning.update(demonstrations())["cloning_loss"]
    for _ in range(300):
        last = cloning.update(demonstrations())["cloning_loss"]
    assert last < 0.02 * first
    error = cloning.deterministic_action(demonstrations()["observations"]) - demonstrations()["actions"]
    assert float(error.square().mean()) < 0.02 * first
    assert cloning.gradient_steps == 301


def test_the_loss_is_the_mean_squared_error_of_the_deterministic_action() -> None:
    cloning = BehaviourCloning(CONFIG, 3, 2, seed=0)
    data = demonstrations()
    expected = (cloning.deterministic_action(data["observations"]) - data["actions"]).square().mean()
    mean = actor_forward(cloning.actor, data["observations"])[0]
    torch.testing.assert_close(cloning_loss(mean, data["actions"])[0], expected)


def test_the_network_is_rlpds_actor_and_log_std_is_not_trained() -> None:
    cloning = BehaviourCloning(CONFIG, 3, 2, seed=0)
    actor = RLPD(CONFIG, 3, 2, seed=0, compile=False).actor
    assert {name: p.shape for name, p in cloning.actor.items()} == {name: p.shape for name, p in actor.items()}
    before = cloning.actor["log_std/kernel"].clone()
    cloning.update(demonstrations())
    assert torch.equal(cloning.actor["log_std/kernel"], before)
