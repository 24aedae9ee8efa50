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
from sim.tasks import bimanual_handover, drawer, peg_insert, pick_place, push, reach

if TYPE_CHECKING:
    from types import ModuleType

ALL = pytest.mark.parametrize("module", [reach, pick_place, push, peg_insert, drawer, bimanual_handover])


def episodes(setup: TaskSetup, policy: Policy, num: int) -> list[Episode]:
    robot = setup.make_robot()
    return [rollout(robot, policy, setup.task, seed=seed) for seed in range(num)]


def expert(setup: TaskSetup, noise: float, seed: int = 0) -> Policy:
    assert setup.make_expert is not None
    return setup.make_expert(noise, seed)


@ALL
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_expert_solves_the_task_with_and_without_mistakes(module: ModuleType, noise: float) -> None:
    setup = module.setup("", TaskOptions())
    done = episodes(setup, expert(setup, noise), 20)
    assert sum(bool(episode.info.success) for episode in done) >= 19
    assert all(set(episode.sources) == {Source.SCRIPTED} for episode in done)


@ALL
def test_the_way_that_is_left_is_most_of_all_in_the_beginning_and_next_to_none_in_the_end(module: ModuleType) -> None:
    judge = module.make_expert(0.0, 0)
    for episode in episodes(module.setup("", TaskOptions()), expert(module.setup("", TaskOptions()), 0.0), 5):
        rows = [{name: array[row] for name, array in episode.observations.items()} for row in range(len(episode) + 1)]
        left_m = [judge.remaining_m(row) for row in rows]
        assert left_m[0] > 0.5 * max(left_m)
        assert 0.0 <= left_m[-1] < 0.35 * left_m[0]
        assert judge.remaining_m(rows[len(rows) // 2]) < left_m[0]


@pytest.mark.parametrize("module", [reach, pick_place])
def test_the_expert_solves_simple_tasks_however_clumsy(module: ModuleType) -> None:
    setup = module.setup("", TaskOptions())
    assert sum(bool(episode.info.success) for episode in episodes(setup, expert(setup, 1.0), 20)) >= 19


def test_a_clumsy_expert_takes_longer() -> None:
    setup = pick_place.setup("", TaskOptions())
    steady, clumsy = (np.mean([len(e) for e in episodes(setup, expert(setup, noise), 10)]) for noise in (0.0, 1.0))
    assert steady * 1.3 < clumsy


def test_equal_seeds_give_equal_demonstrations() -> None:
    setup = pick_place.setup("", TaskOptions())
    first, second = (episodes(setup, expert(setup, 0.7, seed=4), 2) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)


@pytest.mark.parametrize("module", [pick_place, push, peg_insert, drawer, bimanual_handover])
def test_random_actions_never_solve_the_task(module: ModuleType) -> None:
    setup = module.setup("", TaskOptions())
    done = episodes(setup, RandomPolicy(setup.spec, np.random.default_rng(0)), 10)
    assert not any(episode.info.success for episode in done)
    assert all(episode.info.ended is Ended.TRUNCATED for episode in done)


@ALL
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


@ALL
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
    assert min(start.target_position[2] for start in starts if start.target_position) >= 0.08
    assert {start.thing_position[2] for start in starts if start.thing_position} == {0.02}


def test_a_stored_reward_is_used_when_asked_for_and_missed_when_absent() -> None:
    task = reach.setup("", TaskOptions(reward="stored")).task
    observation = {"target_from_tcp": np.ones(3, np.float32)}
    action = np.zeros(4, np.float32)
    assert task.evaluate(observation, action, {"reward": np.array(0.25)}, observation).reward == 0.25
    with pytest.raises(DataError, match="reward"):
        task.evaluate(observation, action, {}, observation)


def test_a_stored_reward_comes_with_the_end_and_the_success_that_were_signalled() -> None:
    task = reach.setup("", TaskOptions(reward="stored")).task
    observation = {"target_from_tcp": np.ones(3, np.float32)}
    signals = {"reward": np.array(0.0), "terminated": np.array(True), "success": np.array(True)}
    action = np.zeros(4, np.float32)
    outcome = task.evaluate(observation, action, signals, observation)
    assert (outcome.terminated, outcome.success) == (True, True)
    assert not reach.setup("", TaskOptions()).task.evaluate(observation, action, signals, observation).success


def test_data_of_another_robot_are_refused() -> None:
    task = pick_place.setup("", TaskOptions()).task
    with pytest.raises(DataError, match=r"observation\.cube_from_tcp"):
        task.check_recomputable(reach.SPEC, where="store")


@ALL
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


def test_a_block_counts_only_where_it_lies_flat() -> None:
    assert push.is_solved({"target_from_block": np.array([0.01, -0.01, 0.0], np.float32)})
    assert not push.is_solved({"target_from_block": np.array([0.02, -0.01, 0.0], np.float32)})
    assert not push.is_solved({"target_from_block": np.array([0.0, 0.0, -0.015], np.float32)})


def test_a_peg_counts_only_deep_in_the_hole() -> None:
    assert peg_insert.is_solved({"hole_from_tip": np.array([0.0, 0.0, 0.025], np.float32)})
    assert not peg_insert.is_solved({"hole_from_tip": np.array([0.0, 0.0, 0.015], np.float32)})
    # On the table beside the socket the tip is deeper still.
    assert not peg_insert.is_solved({"hole_from_tip": np.array([0.05, 0.0, 0.04], np.float32)})


def test_a_peg_that_comes_down_beside_the_hole_does_not_go_in() -> None:
    setup = peg_insert.setup("", TaskOptions())
    robot = setup.make_robot()
    observation = robot.reset(seed=0).observation
    for _ in range(60):
        way = observation["hole_from_tip"] + np.array([0.0, 0.004, 0.0])
        down = -0.01 if np.linalg.norm(way[:2]) < 0.002 else 0.015 + way[2]
        result = robot.step(
            np.array([*np.clip(0.8 * way[:2], -0.03, 0.03), np.clip(down, -0.03, 0.03), 0.0], np.float32)
        )
        observation = result.observation
        assert not result.signals["success"]
    assert abs(observation["hole_from_tip"][2]) < 0.005


def test_the_bar_has_to_be_handed_over_not_held_by_both() -> None:
    held = {
        "left_gripper_opening": np.array([0.08], np.float32),
        "right_gripper_opening": np.array([0.016], np.float32),
        "bar_position": np.array([0.4, 0.0, 0.15], np.float32),
        "bar_yaw": np.zeros(1, np.float32),
        "bar_from_right_tcp": np.array([-0.06, 0.0, 0.0], np.float32),
    }
    assert bimanual_handover.is_solved(held)
    assert not bimanual_handover.is_solved(held | {"left_gripper_opening": np.array([0.016], np.float32)})
    assert not bimanual_handover.is_solved(held | {"bar_position": np.array([0.4, 0.0, 0.01], np.float32)})
    assert not bimanual_handover.is_solved(held | {"right_gripper_opening": np.array([0.08], np.float32)})


def test_noise_outside_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="noise"):
        pick_place.make_expert(1.5, 0)


def test_task_and_expert_do_without_the_simulator() -> None:
    code = (
        "import sys; from robot_rlpd.task import TaskOptions\n"
        "from sim.tasks import bimanual_handover, drawer, peg_insert, pick_place, push, reach\n"
        "for task in (bimanual_handover, drawer, peg_insert, pick_place, push, reach):\n"
        "    setup = task.setup('', TaskOptions()); setup.spec.fingerprint; setup.make_expert(0.5, 0)\n"
        "sys.exit('mujoco' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
