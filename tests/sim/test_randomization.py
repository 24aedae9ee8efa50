"""Distributions, the quantities that they draw, and what each does to the robot."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import ConfigError, RobotRlpdError, UnknownNameError
from robot_rlpd.rollout import rollout
from robot_rlpd.task import TaskOptions
from sim.distributions import Constant, LogUniform, Normal, Uniform, parse_distribution
from sim.options import SimOptions
from sim.quantities import QUANTITIES
from sim.randomization import MILD, PRESETS, WIDE, Randomization, parse_randomization
from sim.tasks import bimanual_handover, drawer, peg_insert, pick_place, push, reach

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.robot import Observation
    from sim.robot import SimRobot
    from sim.sim_task import SimTask

WAY = np.array([0.02, -0.02, -0.02, 0.0], np.float32)


def robot_with(values: dict[str, float], task: SimTask = pick_place.TASK) -> SimRobot:
    return task.make_robot(SimOptions(randomization=Randomization.constant(values)), TaskOptions())


def run(robot: SimRobot, steps: int, seed: int = 3) -> list[Observation]:
    seen = [robot.reset(seed=seed).observation]
    action = np.tile(WAY, robot.spec.action.size // 4)
    return seen + [robot.step(action * (-1.0) ** (k // 4)).observation for k in range(steps)]


@pytest.mark.parametrize("kind", [Constant(2.0), Uniform(-1.0, 3.0), LogUniform(0.5, 2.0), Normal(1.0, 0.25)])
def test_draws_stay_within_their_bounds_and_reach_them(kind: Any) -> None:
    rng = np.random.default_rng(0)
    drawn = [kind.draw(rng) for _ in range(2000)]
    low, high = kind.bounds
    assert low <= min(drawn) <= low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) <= max(drawn) <= high


def test_half_and_twice_are_as_likely_for_factors() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([LogUniform(0.5, 2.0).draw(rng) for _ in range(2000)])
    assert (drawn < 1.0).mean() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (0.3, Constant(0.3)),
        ([1, 2], Uniform(1.0, 2.0)),
        ({"uniform": [1, 2]}, Uniform(1.0, 2.0)),
        ({"log_uniform": [0.5, 2]}, LogUniform(0.5, 2.0)),
        ({"normal": [1, 0.1]}, Normal(1.0, 0.1)),
    ],
)
def test_distributions_are_read_from_plain_values(given: Any, meant: Any) -> None:
    assert parse_distribution(given, field="x") == meant


@pytest.mark.parametrize(
    "wrong",
    [
        "often",
        3,
        {"thing_mass_scale": "heavy"},
        {"thing_mass_scale": [2.0, 1.0]},
        {"thing_mass_scale": [1.0, float("nan")]},
        {"thing_mass_scale": {"log_uniform": [0.0, 1.0]}},
        {"thing_mass_scale": {"normal": [1.0, -0.1]}},
        {"thing_mass_scale": {"poisson": [1.0, 2.0]}},
        {"thing_mass_scale": [0.001, 1.0]},
        {"thing_mass_scale": {"normal": [1.0, 0.9]}},
        {"action_delay_s": True},
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="randomization"):
        parse_randomization(wrong)


def test_an_unknown_quantity_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match="thing_mass_scale"):
        parse_randomization({"mass": 2.0})


def test_every_quantity_of_the_presets_exists_and_the_wide_one_contains_the_mild_one() -> None:
    for preset in PRESETS.values():
        assert preset.distributions.keys() <= QUANTITIES.keys()
    for name, narrow in MILD.distributions.items():
        (low, high), (lowest, highest) = narrow.bounds, WIDE.distributions[name].bounds
        assert lowest <= low <= high <= highest


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=lambda quantity: quantity.name)
def test_every_quantity_changes_something_and_leaves_no_trace(quantity: Any) -> None:
    slides = quantity.name.startswith("slide_")
    task = drawer.TASK if slides else push.TASK
    value = quantity.high if quantity.nominal == 0.0 else min(1.4, quantity.high)
    drawn: dict[str, float] = {}
    robot = task.make_robot(SimOptions(), TaskOptions())
    robot._draw_reality = lambda _: drawn
    nominal, looks = play(robot, slides)
    drawn[quantity.name] = value
    changed, looks_changed = play(robot, slides)
    assert not (nominal == changed and looks == looks_changed)
    drawn.clear()
    assert play(robot, slides) == (nominal, looks)


def play(robot: SimRobot, slides: bool) -> tuple[bytes, bytes]:
    """An episode in which the thing is pushed or the drawer slides, and what a camera would see by."""
    observation = robot.reset(seed=1).observation
    if slides:
        robot.data.qvel[robot.model.joint("drawer").dofadr[0]] = 0.5
    expert = (drawer if slides else push).make_expert(0.0, 0)
    expert.reset()
    for step in range(12 if slides else 22):
        # The fingers open and close once, which shows their force.
        action = expert(observation) if step > 2 else np.array([0.0, 0.0, 0.0, 0.04], np.float32)
        observation = robot.step(action).observation
    state = b"".join(value.tobytes() for value in observation.values()) + robot.data.qpos.tobytes()
    model = robot.model
    looks = b"".join(a.tobytes() for a in (model.cam_pos, model.cam_quat, model.light_diffuse))
    return state + model.geom_friction.tobytes() + model.body_mass.tobytes(), looks


def test_an_action_delay_of_one_period_shifts_the_motion_by_one_step() -> None:
    nominal, late = run(robot_with({}), 8), run(robot_with({"action_delay_s": 0.1}), 8)
    np.testing.assert_array_equal(late[1]["joint_positions"], nominal[0]["joint_positions"])
    for before, after in zip(nominal[:-1], late[1:], strict=True):
        np.testing.assert_allclose(after["tcp_position"], before["tcp_position"], atol=1e-6)


def test_an_observation_delay_shows_the_world_as_it_was() -> None:
    nominal = run(robot_with({}), 8)
    for late in (run(robot_with({"observation_delay_s": delay_s}), 8) for delay_s in (0.1, 0.15)):
        assert not np.array_equal(late[5]["tcp_position"], nominal[5]["tcp_position"])
    one = run(robot_with({"observation_delay_s": 0.1}), 8)
    for before, after in zip(nominal[:-1], one[1:], strict=True):
        np.testing.assert_array_equal(after["tcp_position"], before["tcp_position"])
    # Half a period later lies between.
    half = run(robot_with({"observation_delay_s": 0.15}), 8)
    for earlier, shown, later in zip(nominal, half[2:], nominal[1:], strict=False):
        low, high = (
            np.minimum(earlier["tcp_position"], later["tcp_position"]),
            np.maximum(earlier["tcp_position"], later["tcp_position"]),
        )
        assert (shown["tcp_position"] > low - 0.006).all()
        assert (shown["tcp_position"] < high + 0.006).all()


def test_a_lost_frame_shows_the_one_before() -> None:
    seen = run(robot_with({"drop_probability": 0.9}), 12)
    repeated = sum(np.array_equal(a["tcp_position"], b["tcp_position"]) for a, b in itertools.pairwise(seen))
    assert 6 <= repeated < 12


def test_wrong_calibration_shifts_what_is_seen_and_the_differences_with_it() -> None:
    true = run(robot_with({}), 3)[-1]
    shown = run(robot_with({"seen_dx_m": 0.01}), 3)[-1]
    for field, shift in (("cube_position", 0.01), ("target_position", 0.01), ("cube_from_tcp", 0.01)):
        np.testing.assert_allclose(shown[field] - true[field], [shift, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(shown["target_from_cube"], true["target_from_cube"], atol=1e-6)
    np.testing.assert_array_equal(shown["tcp_position"], true["tcp_position"])


def test_wrong_encoders_let_the_arm_take_itself_to_be_elsewhere() -> None:
    robot = robot_with({"base_yaw_offset_rad": 0.02})
    shown = robot.reset(seed=3).observation
    true = robot.data.site("tcp").xpos
    radius = float(np.hypot(*true[:2]))
    assert np.linalg.norm(shown["tcp_position"] - true) == pytest.approx(0.02 * radius, rel=0.01)
    np.testing.assert_allclose(
        shown["tcp_position"], robot_with({}).reset(seed=3).observation["tcp_position"], atol=1e-6
    )


def test_noise_has_the_stated_deviation_and_differences_share_it() -> None:
    seen = run(robot_with({"position_noise_m": 0.002}, reach.TASK), 400)
    errors = np.array([o["target_position"] for o in seen]) - np.mean([o["target_position"] for o in seen], axis=0)
    assert errors.std() == pytest.approx(0.002, rel=0.1)
    for observation in seen[:20]:
        difference = observation["target_position"] - observation["tcp_position"]
        np.testing.assert_allclose(observation["target_from_tcp"], difference, atol=1e-6)


def test_play_swallows_small_motions_and_not_large_ones() -> None:
    small, large = (np.array([0.0, step, 0.0, 0.08], np.float32) for step in (0.001, 0.03))
    robot = robot_with({"backlash_rad": 0.02}, reach.TASK)
    start = robot.reset(seed=0).observation["tcp_position"]
    assert np.abs(robot.step(small).observation["tcp_position"] - start).max() < 0.0005
    assert robot.step(large).observation["tcp_position"][1] - start[1] > 0.01


def test_a_start_is_the_same_whatever_else_is_drawn() -> None:
    plain, wide = (push.TASK.make_robot(SimOptions(randomization=r), TaskOptions()) for r in (PRESETS["none"], MILD))
    for seed in range(3):
        first, second = plain.reset(seed=seed).observation, wide.reset(seed=seed).observation
        np.testing.assert_allclose(first["block_position"], second["block_position"], atol=0.004)


@pytest.mark.parametrize("module", [reach, pick_place, push, peg_insert, drawer, bimanual_handover])
def test_equal_seeds_give_equal_episodes_under_randomization(module: Any) -> None:
    setup = module.setup("", TaskOptions(env_kwargs={"randomization": "wide"}, max_episode_steps=15))
    first, second = (rollout(setup.make_robot(), setup.make_expert(0.3, 0), setup.task, seed=5) for _ in range(2))
    assert first.info.randomization == second.info.randomization
    for name, values in first.observations.items():
        np.testing.assert_array_equal(values, second.observations[name])
    other = rollout(setup.make_robot(), setup.make_expert(0.3, 0), setup.task, seed=6)
    assert other.info.randomization != first.info.randomization


def test_what_was_drawn_is_kept_with_the_episode(tmp_path: Path) -> None:
    setup = push.setup("", TaskOptions(env_kwargs={"randomization": {"thing_mass_scale": [0.5, 2]}}))
    assert setup.make_expert is not None
    robot = setup.make_robot()
    with EpisodeStore.create(tmp_path / "store", setup.spec) as store:
        for seed in range(2):
            store.append(rollout(robot, setup.make_expert(0.0, 0), setup.task, seed=seed))
    with EpisodeStore.open(tmp_path / "store") as store:
        drawn = [store.read(index).info.randomization for index in range(2)]
    assert all(list(values) == ["thing_mass_scale"] and 0.5 <= values["thing_mass_scale"] <= 2.0 for values in drawn)
    assert drawn[0] != drawn[1]


def test_quantities_of_what_is_not_there_are_not_drawn() -> None:
    drawn = reach.TASK.make_robot(SimOptions(randomization=WIDE), TaskOptions()).reset(seed=0).randomization
    assert "servo_gain_scale" in drawn
    assert not [name for name in drawn if name.startswith(("thing_", "slide_", "camera_", "light_"))]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"moon": 1}, "moon"),
        ({"cameras": "moon"}, "moon"),
        ({"cameras": 3}, "cameras"),
        ({"cameras": ["front", "front"]}, "cameras"),
        ({"image_size": 2}, "image_size"),
        ({"image_size": [64, 5000]}, "image_size"),
        ({"image_size": "big"}, "image_size"),
        ({"randomization": "often"}, "randomization"),
    ],
)
def test_unknown_options_of_a_task_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(RobotRlpdError, match=named):
        push.setup("", TaskOptions(env_kwargs=options))
