from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from robot_rlpd.config import read_config
from robot_rlpd.episode import Ended
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import (
    BridgeError,
    ConfigError,
    DataError,
    MismatchError,
    RobotError,
    RunDirectoryError,
    TrainingError,
)
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET, Evaluation
from robot_rlpd.learner import session as session_module
from robot_rlpd.learner.checkpoint import BEST, LATEST, load_checkpoint
from robot_rlpd.learner.metrics import read_metrics
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.learner.run_directory import CONFIG_FILE, EPISODES, prepare_run_directory
from robot_rlpd.learner.session import PATIENCE
from robot_rlpd.learner.session_config import LARGE_UPDATE_PARAMETERS, SessionConfig, thread_choices
from robot_rlpd.robot import Action, Source, StepResult
from robot_rlpd.rollout import rollout
from robot_rlpd.spool import StoreListener
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.learner.session import Session

    Start = Callable[..., Session]
    Record = Callable[..., Path]


def never() -> bool:
    return False


def when_at(session: Session, env_steps: int) -> Callable[[], bool]:
    return lambda: session.env_steps >= env_steps


def masks(session: Session) -> set[float]:
    sampled = session.online.sample(500, torch.Generator().manual_seed(0))
    return set(sampled["masks"].tolist())


class Seeing(FakeRobot):
    """Remembers the seeds of its resets."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        assert seed is not None
        self.seeds.append(seed)
        return super().reset(seed=seed, options=options)


class FarTarget(FakeRobot):
    """Its target is out of reach."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        first = super().reset(seed=seed, options=options)
        self.target = np.full(2, 100.0, np.float32)
        return dataclasses.replace(first, observation=self._observation())


class NearTarget(FakeRobot):
    """Every step ends at its target."""

    def step(self, action: Action) -> StepResult:
        self.target = self.position + action
        return super().step(action)


class Failing(FarTarget):
    """Raises in step `at` of the episodes whose number is in `episodes` (counted from 0, by resets)."""

    def __init__(self, error: Exception | str, episodes: range, at: int = 3) -> None:
        super().__init__()
        self.error, self.episodes, self.at = error, episodes, at
        self.resets = self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        self.resets, self.steps = self.resets + 1, 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Action) -> StepResult:
        self.steps += 1
        if self.steps == self.at and self.resets - 1 in self.episodes:
            if isinstance(self.error, Exception):
                raise self.error
            self.fault = self.error
        return super().step(action)


# Counting


def test_every_step_after_start_training_is_followed_by_utd_ratio_critic_updates(start: Start) -> None:
    session = start(env_steps=30, start_training=10)
    assert session.run(never) == "finished"
    assert session.env_steps == 30
    assert session.learner.gradient_steps == 2 * (30 - 10)
    assert session.summary("finished")["utd_ratio"] == 2.0


def test_the_first_update_comes_after_the_first_step_that_was_not_random(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start(env_steps=14, start_training=10)
    advance, seen = session.learner.advance, []

    def counted(batch: Any) -> torch.Tensor:
        seen.append(session.env_steps)
        return advance(batch)

    monkeypatch.setattr(session.learner, "advance", counted)
    session.run(never)
    compiling = 0
    assert seen == [compiling, 11, 12, 13, 14]


def test_without_an_update_the_learner_is_as_it_was(start: Start) -> None:
    session = start(env_steps=9, start_training=10)
    before = session.learner.state_dict()
    session.run(never)
    after = session.learner.state_dict()
    assert session.learner.gradient_steps == 0
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_exactly_start_training_steps_are_random_and_the_rest_the_actors(start: Start) -> None:
    session = start(env_steps=30, start_training=10, robot=FarTarget(), task=FakeTask(max_episode_steps=7))
    session.run(never)
    sources = np.concatenate([episode.sources for episode in session.store])
    assert sources.tolist() == [Source.RANDOM] * 10 + [Source.POLICY] * 20


def test_every_step_is_in_the_runs_store_with_how_its_episode_ended(start: Start, tmp_path: Path) -> None:
    session = start(robot=FarTarget(), task=FakeTask(max_episode_steps=7))
    session.run(never)
    session.store.close()
    with EpisodeStore.open(tmp_path / "run" / EPISODES) as store:
        episodes = list(store)
    assert [len(episode) for episode in episodes] == [7, 7, 7, 7, 2]
    assert [episode.info.ended for episode in episodes] == [Ended.TRUNCATED] * 4 + [Ended.INTERRUPTED]
    assert [episode.info.policy for episode in episodes] == ["run@0", "run@7", "run@14", "run@21", "run@28"]
    assert session.episodes == 5
    assert len(session.online) == session.env_steps == 30


def test_evaluation_is_no_environment_step_and_has_seeds_of_its_own(start: Start, tmp_path: Path) -> None:
    robot = Seeing()
    session = start(robot=robot, task=FakeTask(max_episode_steps=5), eval_every=10, eval_episodes=2)
    session.run(never)
    assert session.env_steps == len(session.online) == session.store.num_steps == 30
    assert session.learner.gradient_steps == 2 * (30 - 10)
    evaluations = list(read_metrics(tmp_path / "run", "evaluation"))
    own = [seed for seed in robot.seeds if seed >= EVALUATION_SEED_OFFSET]
    assert own == [EVALUATION_SEED_OFFSET, EVALUATION_SEED_OFFSET + 1] * len(evaluations)
    assert len(evaluations) == 3
    training = [seed for seed in robot.seeds if seed < EVALUATION_SEED_OFFSET]
    assert len(training) == len(set(training)) == session.episodes


def test_the_metrics_tell_of_steps_episodes_and_the_end(start: Start, tmp_path: Path, record: Record) -> None:
    session = start(prior=(record(),), eval_every=15, eval_episodes=1)
    session.run(never)
    records = list(read_metrics(tmp_path / "run"))
    assert records[0]["kind"] == "start"
    assert records[0]["prior"].startswith("3 episodes")
    assert (records[-1]["kind"], records[-1]["reason"], records[-1]["env_steps"]) == ("end", "finished", 30)
    trained = [r for r in records if r["kind"] == "train"]
    assert [r["env_steps"] for r in trained] == [5, 10, 15, 20, 25, 30]
    assert "critic_loss" not in trained[0]
    assert {"critic_loss", "q_mean", "temperature", "entropy", "env_steps_per_s"} <= trained[-1].keys()
    assert len([r for r in records if r["kind"] == "episode"]) == session.episodes


# Ends of episodes


def test_a_time_limit_truncates_and_bootstraps(start: Start) -> None:
    session = start(robot=FarTarget(), task=FakeTask(max_episode_steps=5), env_steps=20)
    session.run(never)
    assert [stored.info.ended for stored in session.store.infos()] == [Ended.TRUNCATED] * 4
    assert masks(session) == {1.0}


def test_a_solved_task_terminates_and_does_not_bootstrap(start: Start) -> None:
    session = start(robot=NearTarget())
    session.run(never)
    assert {stored.info.ended for stored in session.store.infos()} == {Ended.TERMINATED}
    assert masks(session) == {0.0}


# Stopping and going on


def test_a_stop_request_leaves_a_checkpoint_and_a_resumed_session_goes_on(start: Start, tmp_path: Path) -> None:
    session = start(robot=FarTarget())
    assert session.run(when_at(session, 17)) == "stopped"
    checkpoint = load_checkpoint(tmp_path / "run")
    assert (checkpoint.env_steps, checkpoint.gradient_steps) == (17, 2 * (17 - 10))

    resumed = start(robot=FarTarget(), resume=True)
    assert (resumed.env_steps, resumed.episodes, len(resumed.online)) == (17, session.episodes, 17)
    before, after = session.learner.state_dict(), resumed.learner.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert sorted(resumed.online.rewards().tolist()) == sorted(session.online.rewards().tolist())

    assert resumed.run(never) == "finished"
    assert resumed.env_steps == resumed.store.num_steps == 30
    assert resumed.learner.gradient_steps == 2 * (30 - 10)
    assert [r["env_steps"] for r in read_metrics(tmp_path / "run", "end")] == [17, 30]


def test_what_a_served_robot_did_after_the_checkpoint_is_not_lost(start: Start) -> None:
    session = start(robot=FarTarget(), served=True)
    session.run(when_at(session, 12))
    rollout(FarTarget(), FakePolicy(), FakeTask(max_episode_steps=6), seed=1, listeners=[StoreListener(session.store)])
    resumed = start(robot=FarTarget(), served=True, resume=True)
    assert resumed.env_steps == len(resumed.online) == 12 + 6
    assert resumed.episodes == session.episodes + 1
    assert resumed.learner.gradient_steps == 2 * (12 - 10)


class Killed(BaseException):
    """Nothing is saved after it."""


def test_a_run_that_is_killed_early_can_be_resumed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    session = start()

    def killed(*_: object) -> Path:
        raise Killed

    def kill() -> bool:
        monkeypatch.setattr(session, "save", killed)
        return bool(killed())

    with pytest.raises(Killed):
        session.run(kill)
    assert start(resume=True).run(never) == "finished"


def test_a_resumed_session_keeps_the_normalizer_and_the_prior_data(start: Start, record: Record) -> None:
    prior = (record(),)
    session = start(prior=prior, normalize=True)
    assert session.normalizer is not None
    session.run(when_at(session, 12))
    resumed = start(prior=prior, normalize=True, resume=True)
    assert resumed.normalizer is not None
    assert all(np.array_equal(a, b) for a, b in zip(session.normalizer, resumed.normalizer, strict=True))
    assert resumed.prior_report.transitions == session.prior_report.transitions


def test_a_resumed_session_replaces_the_best_checkpoint_only_by_a_better_one(start: Start, tmp_path: Path) -> None:
    evaluating: dict[str, Any] = {"eval_every": 10, "eval_episodes": 2}
    first = start(robot=NearTarget(), env_steps=10, **evaluating)
    first.run(never)
    resumed = start(robot=FarTarget(), env_steps=30, resume=True, **evaluating)
    assert resumed.summary("")["best_success_rate"] == 1.0
    assert resumed.summary("")["evaluation"] == first.summary("")["evaluation"]
    resumed.run(never)
    best, latest = (load_checkpoint(tmp_path / "run", prefer=name) for name in (BEST, LATEST))
    assert best.evaluation is not None
    assert latest.evaluation is not None
    assert (best.env_steps, best.evaluation["successes"]) == (10, 2)
    assert (latest.env_steps, latest.evaluation["successes"]) == (30, 0)


def test_among_policies_that_solve_as_much_the_best_has_the_highest_return(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returns = iter([-10.0, -5.0, -7.0])

    def evaluation(*_: object, **__: object) -> Evaluation:
        return Evaluation("fake", lengths=[5, 5], returns=[next(returns)] * 2, success_steps=[0, 0])

    monkeypatch.setattr(session_module, "evaluate", evaluation)
    start(env_steps=60, eval_every=20, eval_episodes=2).run(never)
    best = load_checkpoint(tmp_path / "run", prefer=BEST)
    assert best.evaluation is not None
    assert (best.env_steps, best.evaluation["mean_return"]) == (40, -5.0)


def test_a_time_limit_of_the_session_ends_it(start: Start, tmp_path: Path) -> None:
    session = start(time_limit_min=1e-9)
    assert session.run(never) == "time limit"
    assert load_checkpoint(tmp_path / "run").env_steps == session.env_steps < 30


# What goes wrong


@pytest.mark.parametrize("error", [RobotError("motor 3 is hot"), BridgeError("gone"), "motor 3 is hot"])
def test_an_episode_that_the_robot_interrupts_is_tried_again(start: Start, error: Exception | str) -> None:
    robot = Failing(error, range(PATIENCE - 1))
    session = start(robot=robot)
    assert session.run(never) == "finished"
    assert robot.stops
    ended = [stored.info.ended for stored in session.store.infos()]
    assert ended[:PATIENCE] == [Ended.INTERRUPTED] * (PATIENCE - 1) + [Ended.TRUNCATED]
    assert session.env_steps == session.store.num_steps == 30


@pytest.mark.parametrize("error", [RobotError("motor 3 is hot"), BridgeError("gone"), "motor 3 is hot"])
def test_a_robot_that_keeps_failing_ends_the_session_with_its_error_and_a_checkpoint(
    start: Start, tmp_path: Path, error: Exception | str
) -> None:
    robot = Failing(error, range(100))
    session = start(robot=robot)
    with pytest.raises(type(error) if isinstance(error, Exception) else RobotError, match=r"motor 3 is hot|gone"):
        session.run(never)
    assert robot.resets == PATIENCE
    assert load_checkpoint(tmp_path / "run").env_steps == session.env_steps > 0
    assert len(session.store) == PATIENCE


def test_failures_count_in_a_row_only(start: Start) -> None:
    robot = Failing(RobotError("loose cable"), range(0, 100, 2))
    assert start(robot=robot, task=FakeTask(max_episode_steps=4)).run(never) == "finished"
    assert robot.resets > 2 * PATIENCE


def test_a_robot_that_fails_during_an_evaluation_is_tried_again(start: Start, tmp_path: Path) -> None:
    robot = Failing(RobotError("loose cable"), range(2, 3), at=2)
    session = start(robot=robot, task=FakeTask(max_episode_steps=5), eval_every=10, eval_episodes=2)
    assert session.run(never) == "finished"
    assert [r["episodes"] for r in read_metrics(tmp_path / "run", "evaluation")] == [2, 2, 2]


def test_a_loss_that_is_not_finite_ends_training_and_keeps_the_last_good_checkpoint(
    start: Start, tmp_path: Path
) -> None:
    session = start(robot=FarTarget(), task=FakeTask(max_episode_steps=4), checkpoint_every_s=0.0)

    def break_at_18() -> bool:
        if session.env_steps == 18:
            next(iter(session.learner.critic.values())).fill_(float("nan"))
        return False

    with pytest.raises(TrainingError, match=r"critic_loss.*last good checkpoint"):
        session.run(break_at_18)
    assert session.env_steps == 19
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.env_steps == 16
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.learner.values())

    resumed = start(robot=FarTarget(), task=FakeTask(max_episode_steps=4), resume=True)
    assert resumed.env_steps == 16
    assert resumed.run(never) == "finished"


def test_a_run_directory_that_exists_is_refused(start: Start, tmp_path: Path) -> None:
    config = start().config
    with pytest.raises(RunDirectoryError, match=r"exists already.*--resume"):
        prepare_run_directory(config, tmp_path / "run")
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="exists already"):
        prepare_run_directory(config, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    prepare_run_directory(config, tmp_path / "empty")


def test_a_run_without_a_checkpoint_cannot_be_resumed(start: Start, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no such run directory"):
        start("nothing", resume=True)
    prepare_run_directory(start().config, tmp_path / "empty")
    with pytest.raises(RunDirectoryError, match="no checkpoint"):
        start("empty", resume=True)


# Prior data


def test_minibatches_are_half_prior_data(start: Start, record: Record) -> None:
    session = start(prior=(record(),))
    assert session.updater.sampler.offline_fraction == 0.5
    (offline,) = session.updater.sampler.offline
    assert len(offline) == session.prior_report.transitions > 0
    session.run(never)
    assert session.learner.gradient_steps == 2 * (30 - 10)


def test_prior_stores_contribute_by_their_weights(start: Start, record: Record) -> None:
    session = start(prior=(record("a.zarr", episodes=1), record("b.zarr", episodes=4)), prior_weights=(3.0, 1.0))
    sizes = [len(buffer) for buffer in session.updater.sampler.offline]
    assert len(sizes) == 2
    assert sum(sizes) == session.prior_report.transitions
    assert session.run(never) == "finished"
    counts = [count for _, count in session.updater.sampler.shares(session.config.rlpd.batch_size)]
    assert counts == [3, 1, 4]


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ((1.0,), "found 1; allowed: one for each of 2"),
        ((1.0, 0.0), "found 0.0; allowed: > 0"),
        ((1.0, math.inf), "> 0"),
    ],
)
def test_weights_that_do_not_fit_the_stores_are_refused(weights: tuple[float, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        SessionConfig(task="fake", prior=(Path("a"), Path("b")), prior_weights=weights)


def test_a_weight_that_is_worth_no_transition_is_refused_before_the_robot_moves(start: Start, record: Record) -> None:
    robot = FakeRobot()
    with pytest.raises(ConfigError, match="prior_weights: is worth no transition"):
        start(robot=robot, prior=(record("a.zarr"), record("b.zarr")), prior_weights=(1000.0, 1.0))
    assert not robot.executed


def test_without_prior_data_minibatches_are_all_online(start: Start) -> None:
    session = start()
    assert session.updater.sampler.offline_fraction == 0.0
    assert session.run(never) == "finished"


def test_prior_data_of_another_robot_are_refused_naming_the_field(start: Start, record: Record) -> None:
    other = record("other.zarr", spec=fake_spec(control_rate_hz=20.0))
    with pytest.raises(MismatchError, match=r"control_rate_hz.*20.*10") as caught:
        start(prior=(other,))
    assert caught.value.field == "control_rate_hz"


def test_prior_data_without_a_usable_transition_are_refused(start: Start, record: Record) -> None:
    with pytest.raises(DataError, match="no usable transition"):
        start(prior=(record("empty.zarr", episodes=0),))


# Configuration and seeds


def test_the_configuration_in_the_run_directory_reads_back_exactly(tmp_path: Path) -> None:
    config = SessionConfig(
        task="gymnasium:Pendulum-v1",
        robot="tcp://127.0.0.1:5555",
        prior=(tmp_path / "a b.zarr", tmp_path / "ü.zarr"),
        preset="antmaze",
        rlpd=RLPDConfig(hidden_dims=(7, 9, 11), tau=0.1 + 0.2, initial_temperature=1e-3, target_entropy=-1.5),
        seed=2**31,
        reward="sparse",
        success_when='observation["x"] >= 1.35',
        env_kwargs={"g": 9.81, "maze": [[1, 0], ["r", None]], "number as text": "1"},
        max_episode_steps=7,
        normalize=True,
        time_limit_min=1 / 3,
    )
    prepare_run_directory(config, tmp_path / "run")
    assert read_config(tmp_path / "run" / CONFIG_FILE, SessionConfig) == config


@pytest.mark.parametrize("field", ["env_steps", "start_training", "seed", "eval_every", "eval_episodes", "log_every"])
def test_a_configuration_out_of_range_is_refused_naming_the_field(field: str) -> None:
    wrong: dict[str, Any] = {field: -1}
    with pytest.raises(ConfigError, match=f"^{field}: found -1"):
        SessionConfig(task="fake", **wrong)


def test_a_second_thread_is_used_only_where_the_networks_are_large() -> None:
    small, large = RLPDConfig(hidden_dims=(64, 64)), RLPDConfig(hidden_dims=(256, 256))
    assert 10 * 64 * 64 < LARGE_UPDATE_PARAMETERS <= 10 * 256 * 256
    assert thread_choices(SessionConfig(task="fake", rlpd=small)) == (1,)
    assert thread_choices(SessionConfig(task="fake", rlpd=large, threads=3)) == (3,)


def test_the_same_seed_gives_bit_identical_parameters_and_episodes(start: Start, record: Record) -> None:
    prior = (record(),)
    found = []
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        session = start(name, seed=seed, prior=prior, eval_every=10, eval_episodes=1)
        session.run(never)
        found.append((session.learner.state_dict(), np.concatenate([e.actions for e in session.store])))
    (first, actions), (second, same_actions), (other, other_actions) = found
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert np.array_equal(actions, same_actions)
    assert not torch.equal(first["actor/mean/kernel"], other["actor/mean/kernel"])
    assert not np.array_equal(actions, other_actions)


def test_prior_data_are_sampled_symmetrically_or_lie_in_the_one_replay(start: Start, record: Record) -> None:
    prior = (record(),)
    symmetric = start("symmetric", prior=prior)
    (offline,) = symmetric.updater.sampler.offline
    assert len(offline) == symmetric.prior_report.transitions
    assert len(symmetric.online) == 0
    one = start("one", prior=prior, one_replay=True)
    assert one.updater.sampler.offline == ()
    assert len(one.online) == one.prior_report.transitions
    assert one.env_steps == 0
    assert one.run(never) == "finished"
    resumed = start("one", prior=prior, one_replay=True, env_steps=40, resume=True)
    assert resumed.env_steps == 30
    assert resumed.run(never) == "finished"
