import dataclasses

import numpy as np
import pytest

from robot_rlpd.episode import Episode, transitions
from robot_rlpd.errors import DataError
from robot_rlpd.rollout import rollout
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask

FIELDS = ["position", "target"]


def recorded(max_episode_steps: int = 20) -> Episode:
    return rollout(FakeRobot(), FakePolicy(), FakeTask(max_episode_steps), seed=3)


def without_final_observation(episode: Episode) -> Episode:
    return dataclasses.replace(
        episode,
        observations={name: array[:-1] for name, array in episode.observations.items()},
        robot_times_s=episode.robot_times_s[:-1],
        wall_times_s=episode.wall_times_s[:-1],
    )


def test_only_termination_masks_the_bootstrap() -> None:
    terminated = transitions(recorded(), FakeTask(), FIELDS)
    assert terminated.masks[-1] == 0.0
    assert (terminated.masks[:-1] == 1.0).all()
    truncated = transitions(recorded(max_episode_steps=1), FakeTask(), FIELDS)
    assert truncated.masks.tolist() == [1.0]


def test_next_observations_follow_within_the_episode() -> None:
    episode = recorded()
    found = transitions(episode, FakeTask(), FIELDS)
    assert np.array_equal(found.next_observations["position"], episode.observations["position"][1:])
    assert found.rewards.tolist() == [-1.0] * (len(episode) - 1) + [0.0]


def test_what_was_observed_is_held_once() -> None:
    episode = recorded()
    found = transitions(episode, FakeTask(), FIELDS)
    for name in FIELDS:
        assert np.shares_memory(found.observations[name], episode.observations[name])
        assert np.shares_memory(found.next_observations[name], episode.observations[name])


def test_a_timed_out_last_step_without_next_observation_cannot_be_used() -> None:
    episode = without_final_observation(recorded(max_episode_steps=1))
    assert len(transitions(episode, FakeTask(), FIELDS)) == 0


class TerminatesBySignal(FakeTask):
    def evaluate(self, observation, executed_action, signals, next_observation):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        outcome = super().evaluate(observation, executed_action, signals, next_observation)
        return dataclasses.replace(outcome, terminated=bool(signals["terminated"]))


def test_a_terminated_last_step_needs_no_next_observation() -> None:
    episode = without_final_observation(recorded())
    found = transitions(episode, TerminatesBySignal(), FIELDS)
    assert len(found) == len(episode)
    assert found.masks[-1] == 0.0


def test_steps_after_a_termination_are_left_out() -> None:
    episode = recorded()
    doubled = dataclasses.replace(
        episode,
        observations={n: np.concatenate([a, a]) for n, a in episode.observations.items()},
        actions=np.concatenate([episode.actions, np.zeros((len(episode) + 1, 2), np.float32)]),
        executed_actions=np.concatenate([episode.executed_actions, np.zeros((len(episode) + 1, 2), np.float32)]),
        signals={n: np.concatenate([a, a, a[:1]]) for n, a in episode.signals.items()},
        sources=np.zeros(2 * len(episode) + 1, np.uint8),
        robot_times_s=np.arange(2.0 * len(episode) + 2),
        wall_times_s=np.arange(2.0 * len(episode) + 2),
    )
    doubled.validate()
    assert len(transitions(doubled, FakeTask(), FIELDS)) == len(episode)


def test_validation_names_the_field_and_the_step() -> None:
    episode = recorded()
    bad = episode.observations["position"].copy()
    bad[1, 0] = np.nan
    with pytest.raises(DataError, match=r"observations.position, step 1: found NaN"):
        dataclasses.replace(episode, observations={**episode.observations, "position": bad}).validate()
    with pytest.raises(DataError, match="actions"):
        dataclasses.replace(episode, actions=episode.actions[:, :1]).validate()
