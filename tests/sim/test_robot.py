"""The simulated arm as a robot."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rlpd.errors import ConfigError, DataError, SpecError
from robot_rlpd.robot import Action, RandomPolicy, Robot, StepResult
from robot_rlpd.task import TaskOptions
from sim.arm import WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from sim.kinematics import joint_positions, tcp_position
from sim.robot import SimRobot
from sim.tasks import pick_place, reach


def make_robot() -> SimRobot:
    robot = pick_place.setup("", TaskOptions()).make_robot()
    assert isinstance(robot, SimRobot)
    return robot


@pytest.fixture(scope="module")
def robot() -> SimRobot:
    return make_robot()


def run(robot: SimRobot, seed: int, steps: int) -> list[StepResult]:
    policy = RandomPolicy(robot.spec, np.random.default_rng(seed))
    results = [robot.reset(seed=seed)]
    for _ in range(steps):
        results.append(robot.step(policy(results[-1].observation)))
    return results


def test_satisfies_the_robot_protocol(robot: SimRobot) -> None:
    assert isinstance(robot, Robot)


def test_every_observation_and_signal_is_as_the_spec_says(robot: SimRobot) -> None:
    for result in run(robot, 1, 30):
        assert list(result.observation) == [field.name for field in robot.spec.observation]
        for field in robot.spec.observation:
            value = result.observation[field.name]
            assert value.dtype == field.dtype
            assert (field.validate(value) >= np.array(field.low)).all()
            assert (value <= np.array(field.high)).all()
        if result.executed_action is not None:
            for signal in robot.spec.signals:
                assert signal.validate(result.signals[signal.name]).dtype == signal.dtype


def test_the_flattened_observation_stays_small() -> None:
    assert pick_place.SPEC.contract().observation_size <= 30
    assert reach.SPEC.contract().observation_size <= 20


def test_equal_seeds_give_equal_episodes_whatever_came_before(robot: SimRobot) -> None:
    fresh = run(make_robot(), 5, 25)
    run(robot, 9, 7)
    for first, second in zip(fresh, run(robot, 5, 25), strict=True):
        for name, value in first.observation.items():
            np.testing.assert_array_equal(value, second.observation[name])


def test_resets_without_a_seed_continue_the_draws_of_the_last_seed(robot: SimRobot) -> None:
    robot.reset(seed=3)
    first, second = (robot.reset().observation["cube_position"] for _ in range(2))
    robot.reset(seed=3)
    np.testing.assert_array_equal(first, robot.reset().observation["cube_position"])
    assert not np.array_equal(first, second)


def test_robot_time_never_goes_back_not_even_across_resets(robot: SimRobot) -> None:
    times = [result.robot_time_s for seed in (1, 2) for result in run(robot, seed, 5)]
    np.testing.assert_allclose(np.diff(times), robot.spec.control_period_s, atol=1e-9)


def test_an_observation_once_returned_never_changes(robot: SimRobot) -> None:
    first = robot.reset(seed=0).observation
    copy = {name: value.copy() for name, value in first.items()}
    robot.step(np.array([0.03, 0.03, -0.03, 0.0], np.float32))
    for name, value in copy.items():
        np.testing.assert_array_equal(first[name], value)


def test_executed_actions_stay_within_the_bounds_and_the_tcp_within_the_workspace(robot: SimRobot) -> None:
    rng = np.random.default_rng(0)
    robot.reset(seed=0)
    for _ in range(40):
        result = robot.step(rng.uniform(-5.0, 5.0, 4).astype(np.float32))
        executed = result.executed_action
        assert executed is not None
        assert (executed >= robot.spec.action.low).all()
        assert (executed <= robot.spec.action.high).all()
        tcp = result.observation["tcp_position"]
        assert (tcp > np.array(WORKSPACE_LOW_M) - 0.03).all()
        assert (tcp < np.array(WORKSPACE_HIGH_M) + 0.03).all()


@pytest.mark.parametrize("bad", [np.full(4, np.nan, np.float32), np.zeros(3, np.float32)])
def test_an_unusable_action_is_refused_and_nothing_moves(robot: SimRobot, bad: Action) -> None:
    robot.reset(seed=0)
    before = robot.data.qpos.copy()
    with pytest.raises(SpecError, match="action"):
        robot.step(bad)
    np.testing.assert_array_equal(robot.data.qpos, before)


def test_a_diverged_simulation_is_a_fault_with_a_finite_observation() -> None:
    robot = make_robot()
    robot.reset(seed=0)
    robot.data.qvel[0] = np.nan
    result = robot.step(np.zeros(4, np.float32))
    assert "diverged" in result.fault
    assert all(np.isfinite(value).all() for value in result.observation.values())
    assert robot.reset(seed=0).fault == ""


def test_an_action_against_the_workspace_s_wall_counts_as_executed(robot: SimRobot) -> None:
    robot.reset(seed=0)
    up = np.array([0.0, 0.0, 0.03, 0.08], np.float32)
    for _ in range(20):
        result = robot.step(up)
    assert result.executed_action is not None
    np.testing.assert_array_equal(result.executed_action, up)
    assert result.observation["tcp_position"][2] == pytest.approx(WORKSPACE_HIGH_M[2], abs=0.005)


def test_stop_brings_the_arm_to_rest_where_it_is(robot: SimRobot) -> None:
    robot.reset(seed=0)
    for _ in range(4):
        moving = robot.step(np.array([0.03, 0.03, 0.0, 0.08], np.float32))
    robot.stop("test")
    robot.stop("again")
    for _ in range(3):
        still = robot.step(np.array([0.0, 0.0, 0.0, 0.08], np.float32))
    shift = np.abs(still.observation["tcp_position"] - moving.observation["tcp_position"])
    assert shift.max() < 0.002


def test_a_commanded_delta_moves_the_tcp_that_way(robot: SimRobot) -> None:
    before = robot.reset(seed=0).observation["tcp_position"]
    for _ in range(3):
        after = robot.step(np.array([0.01, -0.01, 0.01, 0.08], np.float32)).observation["tcp_position"]
    assert (np.sign(after - before) == (1, -1, 1)).all()
    assert np.abs(after - before).max() < 0.035


def test_pressing_down_on_table_and_cube_does_no_harm(robot: SimRobot) -> None:
    cube = robot.reset(seed=2).observation["cube_position"]
    for _ in range(30):
        observation = robot.step(np.array([0.0, 0.0, -0.03, 0.0], np.float32)).observation
    for _ in range(30):
        away = np.clip(cube - observation["tcp_position"], -0.03, 0.03)
        observation = robot.step(np.append(away, 0.0).astype(np.float32)).observation
    assert np.linalg.norm(observation["cube_position"] - cube) < 0.2
    assert abs(observation["cube_position"][2] - 0.02) < 0.02
    assert np.abs(observation["tcp_velocity"]).max() < 0.2


def test_an_observation_puts_another_robot_into_the_same_state(robot: SimRobot) -> None:
    observation = run(robot, 4, 15)[-1].observation
    other = make_robot()
    other.reset(seed=99)
    other.set_state_from_observation(observation)
    np.testing.assert_allclose(other.data.site("tcp").xpos, observation["tcp_position"], atol=1e-4)
    np.testing.assert_allclose(other.data.body("cube").xpos, observation["cube_position"], atol=1e-5)
    np.testing.assert_allclose(other.data.site("target").xpos, observation["target_position"], atol=1e-5)
    with pytest.raises(DataError, match="cube_position"):
        other.set_state_from_observation({k: v for k, v in observation.items() if k != "cube_position"})


def test_the_cube_s_yaw_is_the_start_s_and_comes_back_in_pictures(robot: SimRobot) -> None:
    for seed in range(5):
        observation = robot.reset(seed=seed).observation
        drawn = pick_place.draw_start(np.random.default_rng(seed)).thing_yaw
        np.testing.assert_allclose(observation["cube_yaw"], drawn, atol=1e-6)
        axes = robot.data.body("cube").xmat.copy()
        robot.set_state_from_observation(observation)
        np.testing.assert_allclose(robot.data.body("cube").xmat, axes, atol=1e-6)


def test_reset_options_are_refused(robot: SimRobot) -> None:
    with pytest.raises(ConfigError, match="options"):
        robot.reset(options={"cube": 1})


def test_the_closed_form_kinematics_agree_with_the_model(robot: SimRobot) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        wanted = rng.uniform(WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
        joints = joint_positions(wanted)
        observation = robot.reset(seed=0).observation | {"joint_positions": joints}
        robot.set_state_from_observation(observation)
        np.testing.assert_allclose(robot.data.site("tcp").xpos, wanted, atol=1e-9)
        np.testing.assert_allclose(tcp_position(joints), wanted, atol=1e-9)
        np.testing.assert_allclose(robot.data.site("tcp").xmat, [-1, 0, 0, 0, 1, 0, 0, 0, -1], atol=1e-9)
        low, high = robot.model.jnt_range[:5].T
        assert ((joints > low) & (joints < high)).all()
