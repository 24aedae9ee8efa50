from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from robot_rlpd.learner import cuda_graph
from robot_rlpd.learner.cuda_graph import captured, plain_call
from robot_rlpd.learner.replay import ReplayBuffer, SymmetricSampler
from robot_rlpd.learner.rlpd import RLPD, RLPDConfig
from robot_rlpd.learner.updater import Updater

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = RLPDConfig(hidden_dims=(32, 32), ensemble_size=3, utd_ratio=4, batch_size=16, backup_entropy=False)
OBSERVATIONS, ACTIONS = 5, 2


def buffer(num: int, device: str) -> ReplayBuffer:
    made = ReplayBuffer(OBSERVATIONS, ACTIONS, capacity=1000, device=device)
    made.append_many(rows(num))
    return made


def rows(num: int) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(num)
    return {
        "observations": torch.randn(num, OBSERVATIONS, generator=drawn),
        "actions": torch.rand(num, ACTIONS, generator=drawn) * 2 - 1,
        "rewards": -torch.ones(num),
        "masks": torch.ones(num),
        "next_observations": torch.randn(num, OBSERVATIONS, generator=drawn),
    }


def updater(device: str, *, overlap: bool = False) -> Updater:
    learner = RLPD(CONFIG, OBSERVATIONS, ACTIONS, seed=0, device=device, compile=device == "cuda")
    sampler = SymmetricSampler([buffer(50, device)], buffer(20, device), 0.5)
    return Updater(learner, sampler, seed=1, overlap=overlap, threads=(1,))


def parameters(learner: RLPD) -> Tensor:
    return torch.cat([t.flatten().double().cpu() for name, t in learner.state_dict().items() if name != "generator"])


def test_where_nothing_can_be_captured_updates_go_on_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*anything: object) -> None:
        raise RuntimeError("no such operation in a graph\nand more")

    monkeypatch.setattr(cuda_graph, "GraphedCall", refused)
    made = updater("cpu")
    before = parameters(made.learner)
    assert captured(made.learner, made.sampler, made.generator) is None
    assert "without a CUDA graph, which is slower: no such operation in a graph" in caplog.messages[-1]
    assert torch.equal(parameters(made.learner), before)


@pytest.mark.parametrize("right", [True, False])
def test_a_graph_is_used_only_if_it_does_what_the_plain_call_does(
    right: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Pretended:
        """Stands for a captured call on a machine without a GPU."""

        def __init__(self, learner: RLPD, sampler: SymmetricSampler, generator: torch.Generator) -> None:
            self.parts = (learner, sampler, generator)
            plain_call(*self.parts)

        def __call__(self) -> Tensor:
            metrics = plain_call(*self.parts)
            if not right:
                self.parts[0].critic["out/bias"].add_(0.01)
            return metrics

    monkeypatch.setattr(cuda_graph, "GraphedCall", Pretended)
    made = updater("cpu")
    before, drawn = parameters(made.learner), made.generator.get_state()
    found = captured(made.learner, made.sampler, made.generator)
    assert (found is not None) is right
    assert any("differs from the plain call" in message for message in caplog.messages) is not right
    assert torch.equal(parameters(made.learner), before)
    assert torch.equal(made.generator.get_state(), drawn)
    assert made.learner.gradient_steps == 0


@pytest.mark.gpu
def test_the_graph_goes_on_like_the_plain_call_while_the_replay_grows() -> None:
    graphed, plain = updater("cuda"), updater("cuda")
    graphed.warm_up()
    call = captured(graphed.learner, graphed.sampler, graphed.generator)
    assert call is not None
    for num in (3, 7, 40):
        for made in (graphed, plain):
            made.sampler.online.append_many(rows(num))
        metrics = call()
        expected = plain_call(plain.learner, plain.sampler, plain.generator)
        torch.testing.assert_close(metrics, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(parameters(graphed.learner), parameters(plain.learner), rtol=1e-2, atol=1e-4)
    assert graphed.learner.gradient_steps == plain.learner.gradient_steps == 12


@pytest.mark.gpu
def test_beside_the_robot_the_same_updates_are_made_as_in_line() -> None:
    made = [updater("cuda", overlap=overlap) for overlap in (False, True)]
    for each in made:
        each.warm_up()
        for num in (1, 2, 3):
            each.finish()
            each.sampler.online.append_many(rows(num))
            each.start()
        each.finish()
        assert each.gradient_steps == 12
        assert each.metrics()["critic_loss"] > 0
    torch.testing.assert_close(parameters(made[0].learner), parameters(made[1].learner), rtol=1e-2, atol=1e-4)
