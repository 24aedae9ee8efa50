"""An actor: acts, records, takes policies between episodes, and never waits for its learner."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from deploy.runtime.actor import ActorConfig, Report, act, checked_policy
from deploy.runtime.actor import _open as open_robot
from robot_rlpd.bridge.outbox import Outbox
from robot_rlpd.bridge.policies import PublishedPolicy
from robot_rlpd.clock import ManualClock
from robot_rlpd.errors import DataError, MismatchError, RobotError, StoreError
from robot_rlpd.robot import Source
from robot_rlpd.safety import SafeRobot
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

torch = pytest.importorskip("torch", reason="policies are exported from a learner")

from deploy.export import exploring_policy  # noqa: E402
from deploy.runtime.onnx_policy import OnnxPolicy  # noqa: E402
from robot_rlpd.learner.checkpoint import Checkpoint  # noqa: E402
from robot_rlpd.learner.networks import actor_shapes  # noqa: E402
from robot_rlpd.learner.rlpd import RLPDConfig  # noqa: E402
from robot_rlpd.task import TaskOptions  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from robot_rlpd.robot import Action, StepResult


def checkpoint(*, rate_hz: float = 10.0, spread: float = 1.0, log_std: float = -1.0) -> Checkpoint:
    contract = fake_spec(control_rate_hz=rate_hz).contract()
    generator = torch.Generator().manual_seed(0)
    shapes = actor_shapes(contract.observation_size, contract.action.size, (8,))
    actor = {f"actor/{n}": 0.1 * torch.randn(s, generator=generator) for n, s in shapes.items()}
    actor["actor/log_std/kernel"].zero_()
    actor["actor/log_std/bias"].fill_(log_std)
    return Checkpoint(
        contract=contract,
        task="fake",
        task_options=TaskOptions(),
        max_episode_steps=20,
        config=RLPDConfig(hidden_dims=(8,)),
        learner=actor,
        normalizer=(
            np.zeros(contract.observation_size, np.float32),
            np.full(contract.observation_size, spread, np.float32),
        ),
    )


CONTENT = exploring_policy(checkpoint())


class FakeCourier:
    """Hands out policies in turn, and remembers what became of them."""

    def __init__(self, *policies: PublishedPolicy | None) -> None:
        self.policies = list(policies)
        self.acting: list[int] = []
        self.rejected: list[str] = []
        self.hurried = 0

    def take(self) -> PublishedPolicy | None:
        return self.policies.pop(0) if self.policies else None

    def acts(self, policy: PublishedPolicy) -> None:
        self.acting.append(policy.number)

    def reject(self, policy: PublishedPolicy, reason: str) -> None:
        self.rejected.append(reason)

    def hurry(self) -> None:
        self.hurried += 1


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox") as outbox:
        yield outbox


def run(outbox: Outbox, courier: Any, episodes: int, robot: FakeRobot | None = None, **options: Any) -> Report:
    report = Report()
    stop = options.pop("should_stop", lambda: False)
    robot, rng = robot or FakeRobot(), np.random.default_rng(0)
    act(robot, FakeTask(5), outbox, courier, rng, episodes, stop, report=report, name="one")
    return report


def recorded(outbox: Outbox) -> list[Any]:
    from robot_rlpd.bridge.episode_codec import decode_episode

    return [decode_episode(outbox.read(uuid)) for uuid in outbox.pending()]


def test_it_acts_at_random_until_a_policy_comes_and_swaps_between_episodes(outbox: Outbox) -> None:
    courier = FakeCourier(None, PublishedPolicy(7, CONTENT))
    report = run(outbox, courier, 3)
    first, second, third = recorded(outbox)
    assert set(first.sources) == {Source.RANDOM}
    assert set(second.sources) == set(third.sources) == {Source.POLICY}
    assert (first.info.policy, first.info.notes) == ("random", "actor one")
    assert second.info.policy == third.info.policy == f"onnx:{PublishedPolicy(7, CONTENT).digest}"
    assert (courier.acting, courier.hurried) == ([7], 3)
    assert (report.episodes, report.policies, report.rejected) == (3, 1, 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no onnx", "not an ONNX file"),
        (exploring_policy(checkpoint(rate_hz=20.0)), "control_rate_hz"),
        (exploring_policy(checkpoint(spread=0.0)), "finite"),
    ],
)
def test_an_unfit_policy_is_rejected_with_the_reason_and_the_old_one_goes_on(
    content: bytes, said: str, outbox: Outbox
) -> None:
    courier = FakeCourier(PublishedPolicy(1, CONTENT), PublishedPolicy(2, content))
    report = run(outbox, courier, 2)
    (reason,) = courier.rejected
    assert said in reason
    assert (courier.acting, report.policies, report.rejected) == ([1], 1, 1)
    assert len({episode.info.policy for episode in recorded(outbox)}) == 1


def test_a_policy_that_takes_more_than_half_the_period_is_too_slow() -> None:
    clock = ManualClock()

    def now_s() -> float:
        clock.advance(0.03)
        return clock.now_s()

    checked_policy(CONTENT, FakeRobot(), now_s)
    with pytest.raises(DataError, match=r"too slow.*latency|latency.*too slow"):
        checked_policy(CONTENT, FakeRobot(fake_spec(control_rate_hz=10.0)), lambda: now_s() * 2)
    with pytest.raises(MismatchError):
        checked_policy(CONTENT, FakeRobot(fake_spec(control_rate_hz=50.0)))


def test_exploration_draws_around_the_exported_mean_with_the_learned_spread() -> None:
    observation = {"position": np.zeros(2, np.float32), "target": np.ones(2, np.float32)}
    still = OnnxPolicy(exploring_policy(checkpoint(log_std=-20.0)))
    mean = still(observation)
    np.testing.assert_allclose(still(observation), mean, atol=1e-6)
    noisy = OnnxPolicy(exploring_policy(checkpoint(log_std=-1.0)))
    unit = np.arctanh(np.array([noisy(observation) for _ in range(4000)]) / 0.5)
    np.testing.assert_allclose(unit.mean(axis=0), np.arctanh(mean / 0.5), atol=0.03)
    np.testing.assert_allclose(unit.std(axis=0), np.exp(-1.0), rtol=0.06)


class Failing(FakeRobot):
    """Fails at the steps it is told, counted over its life."""

    def __init__(self, *at: int) -> None:
        super().__init__()
        self.at, self.count = at, 0

    def step(self, action: Action) -> StepResult:
        self.count += 1
        if self.count in self.at:
            raise RobotError("protective stop")
        return super().step(action)


def test_an_interrupted_episode_is_kept_and_the_next_reset_goes_on(outbox: Outbox) -> None:
    report = run(outbox, FakeCourier(), 1, Failing(3))
    interrupted, whole = recorded(outbox)
    assert (interrupted.info.ended, len(interrupted)) == ("interrupted", 2)
    assert whole.info.ended == "truncated"
    assert (report.episodes, report.interrupted) == (1, 1)


def test_a_robot_that_fails_again_and_again_ends_the_actor(outbox: Outbox) -> None:
    with pytest.raises(RobotError, match="protective stop"):
        run(outbox, FakeCourier(), 5, Failing(1, 2, 3))


def test_when_the_disk_is_full_the_robot_is_stopped(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = FakeRobot()

    def full(self: object, *_: object) -> None:
        raise StoreError("cannot write: No space left on device")

    monkeypatch.setattr("robot_rlpd.spool.EpisodeWriter.step", full)
    with pytest.raises(StoreError):
        run(outbox, FakeCourier(), 1, robot)
    assert robot.stops


def test_it_ends_after_the_step_that_is_running_when_asked(outbox: Outbox) -> None:
    over = threading.Event()

    class Asking(FakeRobot):
        def step(self, action: Action) -> StepResult:
            over.set()
            return super().step(action)

    robot = Asking()
    report = run(outbox, FakeCourier(), 10, robot, should_stop=over.is_set)
    assert (report.episodes, report.env_steps) == (1, 1)
    assert robot.stops == ["asked to stop"]


def test_the_watchdog_of_an_actor_waits_as_long_as_it_is_told(tmp_path: Path) -> None:
    none = ActorConfig(
        robot="sim:reach",
        learner="tcp://127.0.0.1:1",
        outbox=tmp_path,
        command_timeout_s=0.0,
        max_missed_ticks=0,
        hold_after_ticks=0.0,
    )
    with open_robot(none, TaskOptions()) as robot:
        assert isinstance(robot, SafeRobot)
        robot.reset(seed=0)
        assert robot.next_look_s() == math.inf
    with open_robot(replace(none, command_timeout_s=60.0), TaskOptions()) as robot:
        assert isinstance(robot, SafeRobot)
        robot.reset(seed=0)
        assert 0.0 < robot.next_look_s() <= 60.0
