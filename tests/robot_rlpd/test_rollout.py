import numpy as np
import pytest

from robot_rlpd.episode import Ended, Episode, Step
from robot_rlpd.errors import OutcomeUnknownError, RobotError
from robot_rlpd.evaluation import evaluate, wilson_interval
from robot_rlpd.robot import Action, Observation, Source, StepResult
from robot_rlpd.rollout import SilentListener, rollout
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask


class Recording(SilentListener):
    def __init__(self) -> None:
        self.steps = 0
        self.episodes: list[Episode] = []

    def on_step(self, step: Step) -> None:
        del step
        self.steps += 1

    def on_end(self, episode: Episode) -> None:
        self.episodes.append(episode)


def test_an_episode_has_one_observation_more_than_actions() -> None:
    episode = rollout(FakeRobot(), FakePolicy(), FakeTask(), seed=3)
    episode.validate()
    assert episode.info.ended is Ended.TERMINATED
    assert episode.info.success
    assert episode.info.seed == 3
    assert episode.info.task == "fake"
    assert len(episode.observations["position"]) == len(episode) + 1
    assert (episode.sources == Source.SCRIPTED).all()
    moved = np.diff(episode.observations["position"], axis=0)
    assert np.allclose(moved, episode.executed_actions, atol=1e-6)


def test_reaching_the_time_limit_truncates() -> None:
    episode = rollout(FakeRobot(), FakePolicy(), FakeTask(max_episode_steps=1), seed=3)
    assert episode.info.ended is Ended.TRUNCATED
    assert len(episode) == 1


def test_the_same_seed_gives_the_same_episode() -> None:
    first, second = (rollout(FakeRobot(), FakePolicy(), FakeTask(), seed=9) for _ in range(2))
    assert np.array_equal(first.observations["position"], second.observations["position"])
    assert first.info.uuid != second.info.uuid


def test_asked_to_stop_the_robot_stops_and_the_episode_is_interrupted() -> None:
    robot = FakeRobot()
    episode = rollout(robot, FakePolicy(), FakeTask(), seed=3, should_stop=lambda: True)
    assert episode.info.ended is Ended.INTERRUPTED
    assert robot.stops == ["asked to stop"]


class Failing(FakePolicy):
    def __call__(self, observation: Observation) -> Action:
        raise ValueError("no idea")


def test_a_policy_that_raises_leaves_a_stopped_robot_and_a_told_listener() -> None:
    robot, listener = FakeRobot(), Recording()
    with pytest.raises(ValueError, match="no idea"):
        rollout(robot, Failing(), FakeTask(), listeners=(listener,))
    assert robot.stops == ["ValueError: no idea"]
    assert [e.info.ended for e in listener.episodes] == [Ended.INTERRUPTED]


class LosesAStep(FakeRobot):
    def step(self, action: Action) -> StepResult:
        if len(self.executed) == 1:
            raise OutcomeUnknownError("no answer")
        return super().step(action * 0.0)


def test_a_step_without_outcome_is_marked_and_not_invented() -> None:
    episode = rollout(LosesAStep(), FakePolicy(), FakeTask(), seed=1)
    assert episode.info.outcome_unknown
    assert episode.info.ended is Ended.INTERRUPTED
    assert len(episode) == 1


class Faulty(FakeRobot):
    def step(self, action: Action) -> StepResult:
        self.fault = "motor 2 is hot"
        return super().step(action * 0.0)


def test_a_fault_ends_the_episode_and_is_told() -> None:
    listener = Recording()
    with pytest.raises(RobotError, match="motor 2 is hot"):
        rollout(Faulty(), FakePolicy(), FakeTask(), seed=1, listeners=(listener,))
    assert listener.episodes[0].info.ended is Ended.INTERRUPTED
    assert listener.steps == 1


def test_evaluation_counts_successes_on_seeds_of_its_own() -> None:
    evaluation = evaluate(FakeRobot(), FakePolicy(), FakeTask(), episodes=5, first_seed=100)
    assert (evaluation.successes, evaluation.episodes) == (5, 5)
    assert evaluation.seeds == [100, 101, 102, 103, 104]
    assert evaluation.to_json()["ci95"] == list(wilson_interval(5, 5))
    assert evaluation.returns == [1.0 - length for length in evaluation.lengths]


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0), (49, 50, 0.8950, 0.9965)],
)
def test_the_wilson_interval_has_its_textbook_values(successes: int, episodes: int, low: float, high: float) -> None:
    assert wilson_interval(successes, episodes) == pytest.approx((low, high), abs=1e-4)
