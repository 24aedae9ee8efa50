"""A policy that sees stacks of frames, from a checkpoint to a policy file that keeps the frames itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from deploy.closed_loop import compare_in_closed_loop
from deploy.export import policy_bytes
from deploy.runtime.onnx_policy import OnnxPolicy
from deploy.verify import compare, compare_inputs, random_observations
from robot_rlpd.errors import DataError, SpecError
from robot_rlpd.learner.checkpoint import Checkpoint
from robot_rlpd.learner.encoders import PixelConfig, frame_bytes, images_of, state_size
from robot_rlpd.learner.pixel_rlpd import PixelRLPD
from robot_rlpd.learner.policy import checkpoint_policy
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.robot import ClosingRobot, StepResult
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, PolicyContract, RobotSpec
from robot_rlpd.task import SignalTask, TaskOptions, TaskSetup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from robot_rlpd.robot import Action, Observation

CONTRACT = PolicyContract(
    observation=(
        ArraySpec(name="joints", shape=(3,), unit="rad"),
        ArraySpec(name="stage", shape=(), dtype="int64", low=(0.0,), high=(4.0,)),
        ArraySpec(name="wide", shape=(15, 21, 3), dtype="uint8", is_image=True),
        ArraySpec(name="tall", shape=(19, 15, 1), dtype="uint8", is_image=True),
    ),
    action=ActionSpec(components=(ActionComponent(name="x", low=-2.0, high=3.0), ActionComponent(name="y"))),
    control_rate_hz=10.0,
)


IMAGES_ONLY = replace(CONTRACT, observation=CONTRACT.observation[2:])


def checkpoint(frame_stack: int, contract: PolicyContract = CONTRACT) -> Checkpoint:
    """With parameters none of which is idle."""
    pixels = PixelConfig(channels=(4, 6, 8), latent_size=7, frame_stack=frame_stack)
    config = RLPDConfig(hidden_dims=(16, 8), ensemble_size=2, pixels=pixels)
    learner = PixelRLPD(config, contract, seed=frame_stack)
    for flat in (learner._critic, learner._actor):
        flat.add_(0.2 * torch.randn(flat.shape, generator=learner.generator))
    rng = np.random.default_rng(4)
    state, images = state_size(contract), frame_bytes(images_of(contract))
    mean, scale = rng.normal(size=state).astype(np.float32), rng.uniform(0.5, 3.0, state).astype(np.float32)
    normalizer = np.append(mean, np.zeros(images, np.float32)), np.append(scale, np.ones(images, np.float32))
    return Checkpoint(
        contract=contract,
        task="look",
        task_options=TaskOptions(),
        max_episode_steps=80,
        config=config,
        learner=learner.state_dict(),
        normalizer=normalizer,
    )


def observations(num: int) -> list[Observation]:
    return random_observations(CONTRACT, num, np.random.default_rng(0))


@pytest.mark.parametrize("frame_stack", [1, 2, 3])
@pytest.mark.parametrize("stochastic", [False, True])
def test_a_policy_file_sees_what_the_checkpoint_sees(frame_stack: int, stochastic: bool) -> None:
    trained = checkpoint(frame_stack)
    policy = OnnxPolicy(policy_bytes(trained, stochastic=stochastic))
    assert policy.frame_stack == frame_stack
    parity = compare(policy, trained, observations(50))
    assert parity.ok
    assert parity.difference.max() < 1e-4
    report = compare_inputs(policy, trained, observations(20))
    assert all(part["ok"] and part["moves_action"] > 1e-3 for part in report.values())


def test_a_policy_may_see_nothing_but_images() -> None:
    trained = checkpoint(2, IMAGES_ONLY)
    policy = OnnxPolicy(policy_bytes(trained))
    seen = random_observations(IMAGES_ONLY, 20, np.random.default_rng(0))
    assert compare(policy, trained, seen).ok
    assert all(part["moves_action"] > 1e-3 for part in compare_inputs(policy, trained, seen).values())


def test_the_runtime_keeps_the_last_frames_and_forgets_them_with_the_episode() -> None:
    trained = checkpoint(3)
    ours, theirs = OnnxPolicy(policy_bytes(trained)), checkpoint_policy(trained)
    seen = observations(6)
    actions = [ours(one) for one in seen]
    assert all(np.allclose(a, theirs(one), atol=1e-5) for a, one in zip(actions, seen, strict=True))
    assert not np.allclose(ours(seen[0]), actions[0], atol=1e-3)
    ours.reset()
    assert np.array_equal(ours(seen[0]), actions[0])


def test_an_action_depends_on_the_order_of_the_frames() -> None:
    policy = OnnxPolicy(policy_bytes(checkpoint(3)))
    first, second, last = observations(3)
    taken = []
    for order in ((first, second, last), (second, first, last)):
        policy.reset()
        taken.append([policy(one) for one in order][-1])
    assert not np.allclose(taken[0], taken[1], atol=1e-3)


def test_a_difference_in_a_convolution_is_found() -> None:
    trained = checkpoint(2)
    policy = OnnxPolicy(policy_bytes(trained))
    trained.learner["critic/encoder/tall/conv1/filters"][0] += 0.05
    assert not compare(policy, trained, observations(20)).ok


class RepeatsTheNewest(OnnxPolicy):
    """Its history is the newest frame, again and again: it begins anew at every step."""

    def _act(self, observation: Observation) -> Action:
        self._episode_begins = True
        return super()._act(observation)


class OneFrameLate(OnnxPolicy):
    """The policy is given the frames of the step before."""

    _before: Observation | None = None

    def reset(self) -> None:
        super().reset()
        self._before = None

    def _act(self, observation: Observation) -> Action:
        frames = {s.name: observation[s.name] for s in CONTRACT.observation if s.is_image}
        late, self._before = self._before or frames, frames
        return super()._act({**observation, **late})


class NeverForgets(OnnxPolicy):
    """The first frames of an episode are seen together with the last ones of the episode before."""

    def reset(self) -> None:
        pass


class NeverMoves(OnnxPolicy):
    """Keeps the first frames of the episode beside the newest one."""

    def _act(self, observation: Observation) -> Action:
        kept = {} if self._episode_begins else {s.name: b[:-1].copy() for s, b in self._inputs if s.is_image}
        action = super()._act(observation)
        if not kept:
            return action
        for spec, buffer in self._inputs:
            if spec.is_image:
                buffer[:-1], buffer[-1] = kept[spec.name], observation[spec.name]
        self._session.run_with_iobinding(self._binding)
        return self._output.copy()


class Scene(ClosingRobot):
    """Shows something else at every step, whatever is done."""

    spec = RobotSpec(
        name="scene", observation=CONTRACT.observation, action=CONTRACT.action, control_rate_hz=CONTRACT.control_rate_hz
    )

    def __init__(self) -> None:
        self._seen: Iterator[Observation] = iter(())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        self._seen = iter(random_observations(CONTRACT, 20, np.random.default_rng(seed)))
        return StepResult(next(self._seen))

    def step(self, action: Action) -> StepResult:
        return StepResult(next(self._seen), action)

    def stop(self, reason: str) -> None: ...


def in_closed_loop(policy: OnnxPolicy, trained: Checkpoint) -> dict[str, Any]:
    setup = TaskSetup(task=SignalTask(max_episode_steps=12), spec=Scene.spec, make_robot=Scene)
    return compare_in_closed_loop(policy, trained, setup, episodes=2)


@pytest.mark.parametrize("fault", [RepeatsTheNewest, OneFrameLate, NeverMoves])
def test_a_stale_history_is_found_on_observations_and_in_closed_loop(fault: type[OnnxPolicy]) -> None:
    trained = checkpoint(3)
    right, wrong = OnnxPolicy(policy_bytes(trained)), fault(policy_bytes(trained))
    assert compare(right, trained, observations(20)).ok
    assert not compare(wrong, trained, observations(20)).ok
    assert in_closed_loop(right, trained)["ok"]
    assert not in_closed_loop(wrong, trained)["ok"]


def test_a_history_that_outlives_its_episode_is_found() -> None:
    trained = checkpoint(3)
    wrong = NeverForgets(policy_bytes(trained))
    compare(wrong, trained, observations(20))
    assert not compare(wrong, trained, observations(20)).ok


def test_a_graph_that_takes_the_frames_in_another_order_is_found() -> None:
    trained = checkpoint(2)
    model = onnx.load_from_string(policy_bytes(trained))
    swap = numpy_helper.from_array(np.array([1, 0], np.int64), "swap")
    model.graph.initializer.append(swap)
    model.graph.node.insert(0, helper.make_node("Gather", ["wide", "swap"], ["swapped"], axis=0))
    for node in model.graph.node[1:]:
        node.input[:] = ["swapped" if name == "wide" else name for name in node.input]
    wrong = OnnxPolicy(model.SerializeToString())
    assert not compare(wrong, trained, observations(20)).ok
    report = compare_inputs(wrong, trained, observations(20))
    assert [name for name, part in report.items() if not part["ok"]] == ["wide"]


def test_a_frame_of_another_size_or_kind_is_refused() -> None:
    policy = OnnxPolicy(policy_bytes(checkpoint(2)))
    (one,) = observations(1)
    for wrong in (np.zeros((15, 20, 3), np.uint8), np.zeros((2, 15, 21, 3), np.uint8), np.zeros((15, 21, 3))):
        with pytest.raises(SpecError, match="wide"):
            policy({**one, "wide": wrong})


def test_an_encoder_that_does_not_fit_is_refused() -> None:
    trained = checkpoint(2)
    trained.learner["critic/encoder/wide/conv0/filters"] = torch.zeros(4, 3, 3, 3)
    with pytest.raises(DataError, match="encoder/wide/conv0/filters"):
        policy_bytes(trained)
    del trained.learner["critic/encoder/wide/conv0/filters"]
    with pytest.raises(DataError, match="no such parameter"):
        policy_bytes(trained)
