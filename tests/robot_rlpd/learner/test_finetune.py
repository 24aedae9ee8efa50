from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from robot_rlpd.clock import ManualClock
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DeadlineError, MismatchError, OutcomeUnknownError, RobotError
from robot_rlpd.evaluation import Evaluation
from robot_rlpd.learner import session as session_module
from robot_rlpd.learner.checkpoint import BEST, LATEST, Checkpoint, load_checkpoint
from robot_rlpd.learner.finetune import FinetuneSession
from robot_rlpd.learner.finetune_config import START, FinetuneConfig
from robot_rlpd.learner.interventions import INTERVENED, LateCorrector
from robot_rlpd.learner.metrics import read_metrics
from robot_rlpd.learner.run_directory import CHECKPOINTS, EPISODES
from robot_rlpd.learner.session_config import SessionConfig
from robot_rlpd.learner.starting import prepare_finetuning
from robot_rlpd.robot import Action, Robot, Source, StepResult
from robot_rlpd.specs import ArraySpec
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from robot_rlpd.learner.rlpd import RLPDConfig
    from robot_rlpd.learner.session import Session

    Finetune = Callable[..., FinetuneSession]
    Record = Callable[..., Path]

ADDRESS = "tcp://127.0.0.1:5555"


def never() -> bool:
    return False


def scripted(after_steps: int = 2) -> LateCorrector:
    return LateCorrector(FakePolicy(), after_steps)


@pytest.fixture
def begun(start: Callable[..., Session]) -> Checkpoint:
    """A short training in simulation."""
    session = start("sim", normalize=False)
    session.run(never)
    return load_checkpoint(session.run_dir)


@pytest.fixture
def finetune(tmp_path: Path, tiny: RLPDConfig, begun: Checkpoint) -> Iterator[Finetune]:
    """Begins (or resumes) a session of 30 steps on a robot that is as if served, the first 10 without updates."""
    opened: list[FinetuneSession] = []

    def make(*, robot: Robot | None = None, resume: bool = False, **changes: Any) -> FinetuneSession:
        for session in opened:
            session.close()
        of_session = {"task": "fake", "robot": ADDRESS, "rlpd": tiny, "env_steps": 30, "start_training": 10}
        of_session |= {"log_every": 5, "compile_update": False}
        extra = {name: changes.pop(name) for name in ("corrector", "clock", "stop_asked") if name in changes}
        asked = FinetuneConfig(start=tmp_path / "sim", minutes=1.0, patience_min=1.0)
        config = SessionConfig(**{**of_session, **changes})
        run_dir, robot = tmp_path / "real", robot or FakeRobot()
        if not resume:
            prepare_finetuning(config, asked, run_dir, begun, robot.spec)
        session = FinetuneSession(config, asked, run_dir, robot, FakeTask(), **extra)
        opened.append(session)
        return session

    yield make
    for session in opened:
        session.close()


def episodes(session: FinetuneSession) -> list[Any]:
    session.store.close()
    with EpisodeStore.open(session.run_dir / EPISODES) as store:
        return store.load_all()


def actor(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).actor


def evaluations(monkeypatch: pytest.MonkeyPatch, *successes: int) -> None:
    """What the next evaluations of ten episodes are to find."""
    left = list(successes)

    def evaluate(*_: object, **__: object) -> Evaluation:
        return Evaluation("fake", successes=left.pop(0), lengths=[1] * 10, returns=[0.0] * 10, success_steps=[0] * 10)

    monkeypatch.setattr(session_module, "evaluate", evaluate)


class Gone(FakeRobot):
    """Does not answer in the resets whose number is in `away` (counted from 0)."""

    def __init__(self, away: range) -> None:
        super().__init__()
        self.away, self.resets = away, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        self.resets += 1
        if self.resets - 1 in self.away:
            raise DeadlineError("no answer", field="robot")
        return super().reset(seed=seed, options=options)


# Beginning


def test_the_starting_policy_acts_in_place_of_random_motion(finetune: Finetune, begun: Checkpoint) -> None:
    session = finetune(env_steps=10, start_training=10)
    session.run(never)
    assert {source for episode in episodes(session) for source in episode.sources} == {Source.POLICY}
    assert session.learner.gradient_steps == 0
    assert all(torch.equal(value, begun.actor[name]) for name, value in actor(session.run_dir).items())


def test_counters_and_the_optimiser_begin_anew_and_updates_come_after_the_warm_up(finetune: Finetune) -> None:
    session = finetune()
    state = session.learner.state_dict()
    assert all(not tensor.any() for name, tensor in state.items() if name.startswith("adam/"))
    assert session.run(never) == "finished"
    assert (session.env_steps, session.learner.gradient_steps) == (30, 2 * (30 - 10))


def test_critics_and_temperature_go_on_from_the_starting_policys(finetune: Finetune, begun: Checkpoint) -> None:
    state = finetune().learner.state_dict()
    kept = [name for name in state if name.startswith(("actor/", "critic/", "target/")) or name == "log_temperature"]
    assert len(kept) > 10
    assert all(torch.equal(state[name], begun.learner[name]) for name in kept)


def test_a_robot_of_another_contract_is_refused_naming_the_field(finetune: Finetune, tmp_path: Path) -> None:
    spec = dataclasses.replace(fake_spec(), control_rate_hz=50.0)
    with pytest.raises(MismatchError, match="control_rate_hz"):
        finetune(robot=FakeRobot(spec))
    assert not (tmp_path / "real").exists()


def test_fields_that_only_the_robot_has_are_left_alone(finetune: Finetune) -> None:
    class Richer(FakeRobot):
        def _observation(self) -> dict[str, Any]:
            return {"force": np.ones(3, np.float32), **super()._observation()}

    spec = fake_spec()
    richer = dataclasses.replace(spec, observation=(ArraySpec(name="force", shape=(3,)), *spec.observation))
    session = finetune(robot=Richer(richer))
    assert session.run(never) == "finished"


# The starting policy is never lost


def test_the_starting_policy_is_evaluated_before_the_first_step(finetune: Finetune, begun: Checkpoint) -> None:
    session = finetune(eval_every=15, eval_episodes=2)
    session.run(never)
    found = read_metrics(session.run_dir, "evaluation")
    assert [record["env_steps"] for record in found] == [0, 20, 30]
    kept = load_checkpoint(session.run_dir / CHECKPOINTS / START)
    assert kept.evaluation == session.start_evaluation
    assert kept.evaluation is not None
    assert kept.evaluation["episodes"] == 2
    assert all(torch.equal(value, begun.actor[name]) for name, value in kept.actor.items())


def test_learning_that_gets_worse_is_told_and_the_starting_policy_offered(
    finetune: Finetune, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    evaluations(monkeypatch, 5, 3, 4)
    session = finetune(eval_every=15, eval_episodes=10)
    with caplog.at_level(logging.WARNING):
        session.run(never)
    assert caplog.text.count("worse than the starting policy") == 2
    assert session.summary("finished")["best_checkpoint"].endswith(START)


def test_the_best_evaluation_is_offered_also_where_the_last_one_is_worse(
    finetune: Finetune, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations(monkeypatch, 2, 6, 4)
    session = finetune(eval_every=15, eval_episodes=10)
    session.run(never)
    assert session.best_checkpoint.name == BEST
    assert load_checkpoint(session.best_checkpoint).env_steps == 20


# Pausing, and robots that go away


def test_a_session_goes_on_on_another_day(finetune: Finetune) -> None:
    first = finetune(eval_every=15, eval_episodes=1)
    assert first.run(lambda: first.env_steps >= 12) == "stopped"
    second = finetune(resume=True, eval_every=15, eval_episodes=1)
    assert (second.env_steps, second.start_evaluation) == (12, first.start_evaluation)
    assert second.run(never) == "finished"
    assert second.learner.gradient_steps == 2 * (30 - 10)
    assert [r["env_steps"] for r in read_metrics(second.run_dir, "evaluation")] == [0, 30]
    assert sum(len(episode) for episode in episodes(second)) == 30


def test_an_operator_can_end_a_session(finetune: Finetune) -> None:
    asked: list[bool] = []
    session = finetune(stop_asked=lambda: bool(asked))
    session.log.alarm.see = lambda *_: asked.append(True)  # type: ignore[method-assign]
    assert session.run(never) == "stopped"
    assert session.env_steps == 1


def test_a_robot_that_comes_back_is_waited_for(finetune: Finetune, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    session = finetune(robot=Gone(range(1, 10)), clock=clock)
    with caplog.at_level(logging.WARNING):
        assert session.run(never) == "finished"
    assert session.env_steps == 30
    assert clock.now_s() == pytest.approx(9 * 2.0)
    assert caplog.text.count("the robot is gone") == 1


def test_an_evaluation_in_which_the_robot_went_away_is_made_again(finetune: Finetune) -> None:
    class Lost(FakeRobot):
        lost = False

        def step(self, action: Action) -> StepResult:
            if len(self.executed) == 5 and not self.lost:
                self.lost = True
                raise OutcomeUnknownError("no answer")
            return super().step(action)

    session = finetune(robot=Lost(), clock=ManualClock(), eval_every=30, eval_episodes=1)
    session.run(never)
    found = read_metrics(session.run_dir, "evaluation")
    assert [(record["env_steps"], record["interrupted"]) for record in found] == [(0, 0), (30, 0)]


def test_a_robot_that_stays_away_ends_a_session_that_can_be_resumed(finetune: Finetune) -> None:
    session = finetune(robot=Gone(range(1, 1000)), clock=ManualClock())
    with pytest.raises(RobotError, match=r"gone for 1\.0 min .* finetune --resume"):
        session.run(never)
    done = session.env_steps
    assert 0 < done < 30
    resumed = finetune(resume=True)
    assert resumed.env_steps == done
    assert resumed.run(never) == "finished"


def test_asking_for_an_end_while_the_robot_is_gone_ends_it(finetune: Finetune) -> None:
    clock = ManualClock()
    session = finetune(robot=Gone(range(1, 1000)), clock=clock)
    assert session.run(lambda: clock.now_s() > 5.0) == "stopped"
    assert (session.run_dir / CHECKPOINTS / LATEST).is_file()


# Interventions


def test_steps_that_were_taken_over_are_online_and_prior_data(finetune: Finetune, record: Record) -> None:
    session = finetune(corrector=scripted(), prior=(record(),), prior_weights=(1.0,))
    before = len(session.updater.sampler.offline[-1])
    session.run(never)
    taken = session.interventions.steps
    assert 0 < taken < 30
    assert len(session.online) == 30
    assert len(session.updater.sampler.offline[-1]) == before + taken
    stored = np.concatenate([episode.sources for episode in episodes(session)])
    assert (stored == Source.SCRIPTED).sum() == taken


def test_what_goes_to_the_prior_data_is_what_was_executed(finetune: Finetune, record: Record) -> None:
    class Limited(FakeRobot):
        def step(self, action: Action) -> StepResult:
            return super().step(np.clip(action, -0.125, 0.125))

    session = finetune(robot=Limited(), corrector=scripted(0), prior=(record(),), prior_weights=(1.0,))
    before = len(session.updater.sampler.offline[-1])
    session.run(never)
    added = session.updater.sampler.offline[-1]
    rows = added._rows[before : len(added)].numpy()
    size = session.contract.observation_size
    highest = session.contract.action.to_unit(np.full(2, 0.125, np.float32))
    assert np.abs(rows[:, size : size + 2]).max() == pytest.approx(highest[0])


def test_a_resumed_session_finds_what_was_taken_over(finetune: Finetune, record: Record) -> None:
    given: dict[str, Any] = {"prior": (record(),), "prior_weights": (1.0,)}
    first = finetune(corrector=scripted(), **given)
    first.run(lambda: first.env_steps >= 17)
    second = finetune(resume=True, corrector=scripted(), **given)
    assert second.interventions.steps == first.interventions.steps > 0
    ours, theirs = (session.updater.sampler.offline[-1] for session in (second, first))
    assert len(ours) == len(theirs)
    assert torch.equal(ours._rows[: len(ours)], theirs._rows[: len(theirs)])


def test_the_rate_of_interventions_is_recorded_per_episode(finetune: Finetune) -> None:
    session = finetune(corrector=scripted())
    session.run(never)
    found = read_metrics(session.run_dir, "intervention")
    assert len(found) == session.episodes
    assert sum(record["steps"] for record in found) == session.interventions.steps
    told = session.summary("finished")["interventions"]
    assert told["rate"] == session.interventions.steps / 30
    assert 0.0 < told["recent_rate"] < 1.0


def test_a_person_at_the_robot_is_recognised_by_the_robots_signal(finetune: Finetune, record: Record) -> None:
    class Handed(FakeRobot):
        def step(self, action: Action) -> StepResult:
            result = super().step(action)
            return dataclasses.replace(result, signals={**result.signals, INTERVENED: np.array(len(self.executed) % 2)})

    spec = fake_spec()
    spec = dataclasses.replace(spec, signals=(*spec.signals, ArraySpec(name=INTERVENED, shape=(), dtype="bool")))
    session = finetune(robot=Handed(spec), prior=(record(),), prior_weights=(1.0,))
    session.run(never)
    assert session.interventions.steps == 15
