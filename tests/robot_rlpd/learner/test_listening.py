"""A session that trains on what actors deliver."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="policies are published as ONNX")

from deploy.runtime.onnx_policy import OnnxPolicy
from robot_rlpd.bridge.courier import Courier
from robot_rlpd.bridge.outbox import Outbox
from robot_rlpd.episode import transitions
from robot_rlpd.learner.listening import ListeningSession, steps_of
from robot_rlpd.learner.run_directory import prepare_run_directory
from robot_rlpd.learner.session_config import SessionConfig
from robot_rlpd.rollout import rollout
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from robot_rlpd.episode import Episode
    from robot_rlpd.learner.rlpd import RLPDConfig
    from robot_rlpd.robot import StepResult

    Listen = Callable[..., contextlib.AbstractContextManager[ListeningSession]]
STEPS = 6


class Far(FakeRobot):
    """Its target is never reached."""

    def reset(self, **options: Any) -> StepResult:
        result = super().reset(**options)
        self.target = np.full(2, 50.0, np.float32)
        return result


def episode(seed: int) -> Episode:
    return rollout(Far(), FakePolicy(), FakeTask(max_episode_steps=STEPS), seed=seed)


@pytest.fixture
def listen(tmp_path: Path, tiny: RLPDConfig) -> Listen:
    @contextlib.contextmanager
    def make(*, resume: bool = False) -> Iterator[ListeningSession]:
        config = SessionConfig(
            task="fake",
            listen="tcp://127.0.0.1:0",
            rlpd=tiny,
            env_steps=30,
            start_training=10,
            log_every=5,
            compile_update=False,
        )
        if not resume:
            prepare_run_directory(config, tmp_path / "run")
        session = ListeningSession(config, tmp_path / "run", Far(), FakeTask(max_episode_steps=STEPS), resume=resume)
        try:
            yield session
        finally:
            session.server.close()
            session.store.close()

    return make


@contextlib.contextmanager
def delivering(session: ListeningSession, outbox: Outbox) -> Iterator[Courier]:
    courier = Courier(session.server.address, outbox, actor="one", spec=fake_spec())
    try:
        yield courier
    finally:
        courier.close()


def test_it_trains_at_the_pace_of_the_steps_that_arrive_and_publishes_a_policy(listen: Listen, tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox") as outbox, listen() as session, delivering(session, outbox) as courier:
        for seed in range(5):
            outbox.append(episode(seed))
        courier.hurry()
        assert session.run(lambda: False) == "finished"
        assert session.env_steps == 30
        assert session.learner.gradient_steps == 2 * (30 - 10)
        assert session.episodes == len(session.store) == 5
        newest = session._shelf.newest
        assert newest.number == session.learner.gradient_steps
        policy = OnnxPolicy(newest.content)
        assert policy.contract == session.contract
        assert policy.metadata.env_steps == 30


def test_an_episode_that_was_acknowledged_but_not_trained_on_is_trained_on_after_a_resume(
    listen: Listen, tmp_path: Path
) -> None:
    with Outbox(tmp_path / "outbox") as outbox:
        with listen() as session, delivering(session, outbox) as courier:
            session.save("latest.pt")
            for seed in range(3):
                outbox.append(episode(seed))
            assert courier.wait_until_delivered(30.0)
            assert (session.env_steps, outbox.pending()) == (0, [])
        with listen(resume=True) as resumed:
            assert resumed.env_steps == 3 * STEPS
            resumed.run(lambda: resumed.owed_calls == 0)
            assert resumed.learner.gradient_steps == 2 * (3 * STEPS - 10)


def test_recorded_steps_are_judged_as_the_learner_judges_prior_data() -> None:
    recorded, task = rollout(FakeRobot(), FakePolicy(), FakeTask(), seed=3), FakeTask()
    steps = list(steps_of(recorded, task))
    wanted = transitions(recorded, task, ("position", "target"))
    assert len(steps) == len(wanted)
    np.testing.assert_array_equal([s.outcome.reward for s in steps], wanted.rewards)
    np.testing.assert_array_equal([1.0 - s.outcome.terminated for s in steps], wanted.masks)
    for name in ("position", "target"):
        np.testing.assert_array_equal([s.observation[name] for s in steps], wanted.observations[name])
        np.testing.assert_array_equal([s.result.observation[name] for s in steps], wanted.next_observations[name])


def test_there_is_no_policy_before_something_was_learned(listen: Listen) -> None:
    with listen() as session:
        assert session._shelf.newest.digest == ""
        assert session.server.status()["trained_env_steps"] == 0
