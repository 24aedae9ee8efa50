from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from robot_rlpd.episode import Episode, Transitions, transitions
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DataError, MismatchError
from robot_rlpd.learner.prior import LEAST_SHARE, PriorReport, digest, fill_replay, fit_normalizer, judged, load_prior
from robot_rlpd.learner.replay import ReplayBuffer
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import ArraySpec
from robot_rlpd.task import SignalTask
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.learner.policy import Normalizer

    Record = Callable[..., Path]

SPEC = fake_spec()
CONTRACT = SPEC.contract()
FIELDS = ("position", "target")


def demonstration(seed: int = 3, *, max_steps: int = 20) -> Episode:
    return rollout(FakeRobot(), FakePolicy(), FakeTask(max_steps), seed=seed)


def without_final_observation(episode: Episode) -> Episode:
    steps = len(episode)
    return dataclasses.replace(
        episode,
        observations={name: rows[:steps] for name, rows in episode.observations.items()},
        robot_times_s=episode.robot_times_s[:steps],
        wall_times_s=episode.wall_times_s[:steps],
    )


def filled(found: list[Transitions], normalizer: Normalizer | None = None) -> dict[str, torch.Tensor]:
    replay = ReplayBuffer(4, 2, capacity=1000)
    fill_replay(replay, found, CONTRACT, normalizer)
    return replay.sample(400, torch.Generator().manual_seed(0)) if len(replay) else {}


def test_the_report_counts_episodes_transitions_successes_and_what_was_unusable() -> None:
    solved, unsolved = demonstration(), demonstration(max_steps=1)
    cut = without_final_observation(unsolved)
    report = PriorReport()
    found = judged([solved, unsolved, cut], FakeTask(), CONTRACT, report)
    assert [len(part) for part in found] == [len(solved), 1, 0]
    assert (report.episodes, report.transitions) == (3, len(solved) + 1)
    assert (report.successes, report.success_transitions) == (1, 1)
    assert report.unusable_steps == 1
    assert str(report) == (
        f"3 episodes, {len(solved) + 1} transitions; solved in 1 episodes (1 transitions); 1 steps unusable"
    )


def test_steps_after_the_task_is_solved_are_unusable() -> None:
    short, long = FakeTask(), SignalTask()
    episode = demonstration()
    again = dataclasses.replace(
        episode,
        observations={n: np.concatenate([rows, rows[-1:]]) for n, rows in episode.observations.items()},
        actions=np.concatenate([episode.actions, episode.actions[-1:]]),
        executed_actions=np.concatenate([episode.executed_actions, episode.executed_actions[-1:]]),
        signals={n: np.concatenate([rows, rows[-1:]]) for n, rows in episode.signals.items()},
        sources=np.concatenate([episode.sources, episode.sources[-1:]]),
        robot_times_s=np.append(episode.robot_times_s, episode.robot_times_s[-1] + 0.1),
        wall_times_s=np.append(episode.wall_times_s, episode.wall_times_s[-1] + 0.1),
    )
    for task in (short, long):
        report = PriorReport()
        judged([again], task, CONTRACT, report)
        assert (report.transitions, report.unusable_steps) == (len(episode), 1)


def test_an_episode_without_a_transition_adds_nothing() -> None:
    empty = transitions(without_final_observation(demonstration(max_steps=1)), FakeTask(), FIELDS)
    whole = transitions(demonstration(), FakeTask(), FIELDS)
    assert len(empty) == 0
    assert filled([empty]) == {}
    assert len(filled([empty, whole, empty])["rewards"]) == 400
    for found, expected in zip(
        fit_normalizer([empty, whole], CONTRACT), fit_normalizer([whole], CONTRACT), strict=True
    ):
        assert np.array_equal(found, expected)


def test_the_learner_sees_flat_observations_actions_in_unit_bounds_and_masks() -> None:
    episode = demonstration()
    batch = filled([transitions(episode, FakeTask(), FIELDS)])
    steps = np.concatenate([episode.observations["position"], episode.observations["target"]], axis=1)
    for n in range(40):
        matches = np.flatnonzero((steps[:-1] == batch["observations"][n].numpy()).all(axis=1))
        assert len(matches) == 1
        (i,) = matches
        assert np.array_equal(batch["next_observations"][n].numpy(), steps[i + 1])
        assert np.allclose(batch["actions"][n].numpy(), episode.executed_actions[i] / 0.5)
        last = i == len(episode) - 1
        assert (float(batch["rewards"][n]), float(batch["masks"][n])) == ((0.0, 0.0) if last else (-1.0, 1.0))


def test_the_normalizer_is_the_mean_and_deviation_of_the_observations() -> None:
    found = [transitions(demonstration(seed), FakeTask(), FIELDS) for seed in range(5)]
    mean, scale = fit_normalizer(found, CONTRACT)
    flat = np.concatenate([CONTRACT.flatten(part.observations) for part in found])
    assert mean.dtype == scale.dtype == np.float32
    np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scale, flat.std(axis=0), rtol=1e-5)
    batch = filled(found, (mean, scale))
    low, high = (flat - mean).min(axis=0) / scale, (flat - mean).max(axis=0) / scale
    assert (batch["observations"].numpy() >= low - 1e-5).all()
    assert (batch["observations"].numpy() <= high + 1e-5).all()


def test_an_entry_that_hardly_varies_is_scaled_by_a_tenth_of_its_fields_largest_and_a_constant_field_not() -> None:
    whole = transitions(demonstration(), FakeTask(), FIELDS)
    position = whole.observations["position"].copy()
    position[:, 0] = 7.0
    still = dataclasses.replace(whole, observations={**whole.observations, "position": position})
    mean, scale = fit_normalizer([still], CONTRACT)
    deviation = position[:, 1].std()
    assert mean[0] == 7.0
    np.testing.assert_allclose(scale[:2], [0.1 * deviation, deviation], rtol=1e-5)
    assert scale[2:].tolist() == [1.0, 1.0]  # one demonstration has one target


def test_the_scale_of_a_bounded_entry_is_at_least_a_share_of_its_range() -> None:
    whole = transitions(demonstration(), FakeTask(), FIELDS)
    bounded = dataclasses.replace(CONTRACT.observation[0], low=(-1.0, -4.0), high=(1.0, 4.0))
    contract = dataclasses.replace(CONTRACT, observation=(bounded, CONTRACT.observation[1]))
    hardly = np.where(np.arange(len(whole))[:, None] % 2 == 0, 1e-5, -1e-5) + np.zeros((len(whole), 2))
    still = dataclasses.replace(whole, observations={**whole.observations, "position": hardly.astype(np.float32)})
    _, scale = fit_normalizer([still], contract)
    np.testing.assert_allclose(scale[:2], [LEAST_SHARE, 4.0 * LEAST_SHARE], rtol=1e-6)


def test_previous_actions_are_scaled_as_actions_are_also_where_demonstrations_never_vary_them() -> None:
    whole = transitions(demonstration(), FakeTask(), FIELDS)
    told = ArraySpec(name="previous_actions", shape=(2,), low=(-1.0, 0.0), high=(1.0, 4.0))
    contract = dataclasses.replace(CONTRACT, observation=(told, CONTRACT.observation[1]))
    shut = np.tile(np.array([0.5, 0.0], np.float32), (len(whole), 1))
    still = dataclasses.replace(whole, observations={**whole.observations, "previous_actions": shut})
    mean, scale = fit_normalizer([still], contract)
    assert (mean[:2].tolist(), scale[:2].tolist()) == ([0.0, 2.0], [1.0, 2.0])


def test_prior_data_are_read_from_several_stores(record: Record) -> None:
    paths = [record("a.zarr", episodes=2), record("b.zarr", episodes=3)]
    found, report = load_prior(paths, FakeTask(), CONTRACT)
    assert [len(store) for store in found] == [2, 3]
    assert report.episodes == 5
    assert sum(len(part) for store in found for part in store) == report.transitions
    assert report.digests.keys() == {"a.zarr", "b.zarr"}
    assert load_prior([], FakeTask(), CONTRACT) == ([], PriorReport())


def test_the_digest_tells_the_same_episodes_in_the_same_order_from_others(record: Record, tmp_path: Path) -> None:
    with EpisodeStore.open(record("a.zarr", episodes=2)) as store:
        episodes = list(store)
        expected = digest(store)
    for name, chosen, same in (
        ("copy", episodes, True),
        ("turned", episodes[::-1], False),
        ("one", episodes[:1], False),
    ):
        with EpisodeStore.create(tmp_path / name, SPEC) as copy:
            copy.extend(chosen)
            assert (digest(copy) == expected) is same
    assert len(expected) == 64


class NeedsSignals(FakeTask):
    def check_recomputable(self, spec: object, *, where: str) -> None:
        raise DataError(f"{where} holds no force", field="signals.force")


def test_data_that_the_task_cannot_judge_are_refused_by_name(record: Record) -> None:
    with pytest.raises(DataError, match=r"signals\.force: store .*a\.zarr holds no force"):
        load_prior([record("a.zarr")], NeedsSignals(), CONTRACT)


def test_data_of_another_robot_are_refused_by_name(record: Record) -> None:
    faster = record("fast.zarr", spec=fake_spec(control_rate_hz=50.0))
    with pytest.raises(MismatchError, match=r"control_rate_hz: store .*fast\.zarr does not fit; found 50"):
        load_prior([record("a.zarr"), faster], FakeTask(), CONTRACT)
