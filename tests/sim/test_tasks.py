"""The simulated tasks, their experts, and what must not solve them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from robot_rlpd.episode import Ended, Episode, transitions
from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.robot import Policy, RandomPolicy, Source
from robot_rlpd.rollout import rollout
from robot_rlpd.task import SignalTask, TaskOptions, TaskSetup
from sim.tasks import pick_place, reach

if TYPE_CHECKING:
    from types import ModuleType

BOTH = pytest.mark.parametrize("module", [reach, pick_place])


def episodes(setup: TaskSetup, policy: Policy, num: int) -> list[Episode]:
    robot = setup.make_robot()
    return [rollout(robot, policy, setup.task, seed=seed) for seed in range(num)]


def expert(setup: TaskSetup, noise: float, seed: int = 0) -> Policy:
    assert setup.make_expert is not None
    return setup.make_expert(noise, seed)


@BOTH
@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
def test_the_expert_solves_the_task_however_clumsy(module: ModuleType, noise: float) -> None:
    setup = module.setup("", TaskOptions())
    done = episodes(setup, expert(setup, noise), 20)
    assert sum(bool(episode.info.success) for episode in done) >= 19
    assert all(set(episode.sources) == {Source.SCRIPTED} for episode in done)


def test_a_clumsy_expert_takes_longer() -> None:
    setup = pick_place.setup("", TaskOptions())
    steady, clumsy = (np.mean([len(e) for e in episodes(setup, expert(setup, noise), 10)]) for noise in (0.0, 1.0))
    assert steady * 1.3 < clumsy


def test_equal_seeds_give_equal_demonstrations() -> None:
    setup = pick_place.setup("", TaskOptions())
    first, second = (episodes(setup, expert(setup, 0.7, seed=4), 2) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)


def test_random_actions_never_place_the_cube() -> None:
    setup = pick_place.setup("", TaskOptions())
    done = episodes(setup, RandomPolicy(setup.spec, np.random.default_rng(0)), 20)
    assert not any(episode.info.success for episode in done)
    assert all(episode.info.ended is Ended.TRUNCATED for episode in done)


@BOTH
def test_recorded_episodes_are_valid_and_judged_again_as_they_were_live(module: ModuleType) -> None:
    setup = module.setup("", TaskOptions())
    for episode in episodes(setup, expert(setup, 0.5), 3):
        episode.validate()
        setup.task.check_recomputable(episode.spec, where="test")
        again = transitions(episode, setup.task, [field.name for field in episode.spec.observation])
        assert len(again) == len(episode)
        np.testing.assert_array_equal(again.rewards, episode.signals["reward"])
        np.testing.assert_array_equal(again.masks, 1.0 - episode.signals["terminated"])
        np.testing.assert_array_equal(again.successes, episode.signals["success"])


@BOTH
def test_a_policy_runs_without_the_task_by_its_signals(module: ModuleType) -> None:
    setup = module.setup("", TaskOptions())
    episode = rollout(setup.make_robot(), expert(setup, 0.0), SignalTask(), seed=0)
    assert episode.info.success
    assert episode.info.ended is Ended.TERMINATED


def test_the_time_limit_is_signalled_as_truncation() -> None:
    setup = pick_place.setup("", TaskOptions(max_episode_steps=7))
    policy = RandomPolicy(setup.spec, np.random.default_rng(0))
    episode = rollout(setup.make_robot(), policy, SignalTask(), seed=0)
    assert len(episode) == 7
    assert episode.info.ended is Ended.TRUNCATED


def test_a_cube_at_the_target_counts_only_while_it_is_held() -> None:
    there = {
        "cube_from_tcp": np.zeros(3, np.float32),
        "target_from_cube": np.array([0.0, 0.02, 0.0], np.float32),
        "gripper_opening": np.array([0.04], np.float32),
    }
    assert pick_place.is_solved(there)
    assert not pick_place.is_solved(there | {"gripper_opening": np.array([0.08], np.float32)})
    assert not pick_place.is_solved(there | {"cube_from_tcp": np.array([0.0, 0.0, 0.05], np.float32)})
    assert not pick_place.is_solved(there | {"target_from_cube": np.array([0.0, 0.035, 0.0], np.float32)})


def test_every_target_is_in_the_air_and_every_cube_on_the_table() -> None:
    starts = [pick_place.draw_start(np.random.default_rng(seed)) for seed in range(200)]
    assert min(start.target_position[2] for start in starts) >= 0.08
    assert {start.cube_position[2] for start in starts if start.cube_position} == {0.02}


def test_a_stored_reward_is_used_when_asked_for_and_missed_when_absent() -> None:
    task = reach.setup("", TaskOptions(reward="stored")).task
    observation = {"target_from_tcp": np.ones(3, np.float32)}
    action = np.zeros(4, np.float32)
    assert task.evaluate(observation, action, {"reward": np.array(0.25)}, observation).reward == 0.25
    with pytest.raises(DataError, match="reward"):
        task.evaluate(observation, action, {}, observation)


def test_data_of_another_robot_are_refused() -> None:
    task = pick_place.setup("", TaskOptions()).task
    with pytest.raises(DataError, match=r"observation\.cube_from_tcp"):
        task.check_recomputable(reach.SPEC, where="store")


@BOTH
@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("x", TaskOptions()),
        ("", TaskOptions(success_when="reward > 1")),
        ("", TaskOptions(env_kwargs={"a": 1})),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(module: ModuleType, argument: str, options: TaskOptions) -> None:
    with pytest.raises(ConfigError):
        module.setup(argument, options)


def test_noise_outside_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="noise"):
        pick_place.make_expert(1.5, 0)


def test_task_and_expert_do_without_the_simulator() -> None:
    code = (
        "import sys; from robot_rlpd.task import TaskOptions; from sim.tasks import pick_place, reach\n"
        "for task in (pick_place, reach):\n"
        "    setup = task.setup('', TaskOptions()); setup.spec.fingerprint; setup.make_expert(0.5, 0)\n"
        "sys.exit('mujoco' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
