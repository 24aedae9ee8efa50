"""The stand-in for a real robot, and the person who demonstrates on it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from robot_rlpd.bridge.robots import open_robot
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.errors import ConfigError, UnknownNameError
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import to_builtins
from robot_rlpd.task import SignalTask, TaskOptions, load_task
from robot_rlpd.testing import RobotConformance
from sim.demonstrator import Demonstrator
from sim.options import SimOptions
from sim.quantities import QUANTITIES, check_values
from sim.randomization import Randomization
from sim.served import find_task
from sim.standin import HARD_BY_TASK, HELD_BACK, hidden_values, make_robot
from sim.tasks import bimanual_handover, pick_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from robot_rlpd.robot import Policy, Robot

TASKS = ("reach", "pick_place", "push", "peg_insert", "drawer", "bimanual_handover")


@contextlib.contextmanager
def served(name: str) -> Iterator[str]:
    stop = threading.Event()
    server = RobotServer(make_robot(name, TaskOptions()), "tcp://127.0.0.1:0", pace="fast")
    thread = threading.Thread(target=server.serve_forever, args=(stop.is_set,))
    thread.start()
    try:
        yield server.address
    finally:
        stop.set()
        thread.join()


class TestHardStandIn(RobotConformance):
    def make_robot(self) -> Robot:
        return make_robot("peg_insert:hard", TaskOptions())


class TestTwoArmedStandIn(RobotConformance):
    def make_robot(self) -> Robot:
        return make_robot("bimanual_handover:held_back:3", TaskOptions())


@pytest.mark.parametrize("task", TASKS)
def test_a_stand_in_takes_the_task_s_policies_and_tells_nothing_of_what_is_hidden(task: str) -> None:
    setup = load_task(task)
    robot = make_robot(f"{task}:hard", TaskOptions())
    assert robot.spec.fingerprint == setup.spec.fingerprint
    told = str(to_builtins(robot.spec)).lower()
    assert not [name for name in (*QUANTITIES, "sim", "mujoco", "hard") if name in told]
    first = robot.reset(seed=0)
    assert first.randomization == {}
    assert set(robot.step(robot.spec.action.low).signals) == {"reward", "terminated", "truncated", "success"}


def test_over_the_bridge_it_is_a_robot_like_any_other() -> None:
    setup = load_task("pick_place")
    assert setup.make_expert is not None
    with served("pick_place:mild") as address, open_robot(address, task_setup=setup) as robot:
        episode = rollout(robot, setup.make_expert(0.0, 0), SignalTask(), seed=0)
    assert episode.info.success
    assert episode.info.randomization == {}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("profile", ["mild", "hard", "held_back:1", "held_back:2"])
def test_every_profile_is_allowed_and_leaves_the_nominal_world(task: str, profile: str) -> None:
    hidden = hidden_values(task, profile)
    check_values(hidden.items(), field=profile)
    assert sum(value != QUANTITIES[name].nominal for name, value in hidden.items()) > 10


def test_the_held_back_family_is_another_robot_for_every_seed_and_the_same_for_one() -> None:
    assert hidden_values("push", "held_back:7") == hidden_values("push", "held_back:7")
    assert hidden_values("push", "held_back:7") != hidden_values("push", "held_back:8")
    assert hidden_values("push", "held_back:7").keys() == HELD_BACK.distributions.keys()
    assert HARD_BY_TASK.keys() <= set(TASKS)


@pytest.mark.parametrize("profile", ["harder", "held_back", "held_back:", "held_back:x", "held_back:-1", "hard:1"])
def test_an_unknown_profile_is_refused_with_those_that_exist(profile: str) -> None:
    with pytest.raises(ConfigError, match="mild, hard, held_back"):
        make_robot(f"push:{profile}", TaskOptions())


def test_an_unknown_task_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"standin:moon.*peg_insert"):
        make_robot("moon:hard", TaskOptions())


def test_reality_is_not_randomized_on_request() -> None:
    with pytest.raises(ConfigError, match="randomization"):
        make_robot("push:mild", TaskOptions(env_kwargs={"randomization": "none"}))


def test_the_nominal_motion_misses_on_the_hard_robot() -> None:
    """The same actions, open loop: what a gap between the worlds is."""
    setup = load_task("reach")
    assert setup.make_expert is not None
    nominal = rollout(setup.make_robot(), setup.make_expert(0.0, 0), setup.task, seed=2)
    misses = []
    for name in ("reach:mild", "reach:hard"):
        robot = make_robot(name, TaskOptions())
        robot.reset(seed=2)
        shown = [robot.step(action).observation["tcp_position"] for action in nominal.executed_actions][-1]
        misses.append(np.linalg.norm(shown - nominal.observations["tcp_position"][-1]))
    assert 0.01 < misses[0] < misses[1]


@pytest.mark.parametrize("task", [pick_place.TASK, bimanual_handover.TASK], ids=lambda task: task.name)
def test_the_demonstrator_sees_through_wrong_calibration(task: Any) -> None:
    wrong = {"seen_dx_m": 0.008, "seen_dy_m": -0.01, "base_yaw_offset_rad": 0.02, "shoulder_pitch_offset_rad": -0.01}
    robot = task.make_robot(SimOptions(randomization=Randomization.constant(wrong)), TaskOptions())
    person = Demonstrator(task, wrong, noise=0.0, seed=0)
    shown = robot.reset(seed=4).observation
    seen, true = person.corrected(shown), robot._truth
    for name in true:
        if name.endswith(("_position", "_tcp", "_from_cube")):
            np.testing.assert_allclose(seen[name], true[name], atol=1e-5)
    thing = f"{task.scene.thing}_position"
    assert np.abs(shown[thing] - true[thing]).max() > 0.005


@pytest.mark.parametrize("name", TASKS)
def test_a_person_sees_the_way_that_is_left_as_it_is_not_as_the_robot_shows_it(name: str) -> None:
    task = find_task(name, field="task")
    robot = make_robot(f"{name}:hard", TaskOptions())
    person = Demonstrator(task, hidden_values(name, "hard"), noise=0.0, seed=0)
    shown = robot.reset(seed=4).observation
    expert = task.make_expert(0.0, 0)
    assert person.remaining_m(shown) == pytest.approx(expert.remaining_m(person.corrected(shown)))
    if name != "drawer":  # its way is mostly that of a slide that is not seen wrong
        assert abs(person.remaining_m(shown) - expert.remaining_m(shown)) > 1e-3


def test_a_person_succeeds_on_the_hard_robot_where_a_clumsy_script_mostly_fails() -> None:
    robot = make_robot("pick_place:hard", TaskOptions())
    hidden = hidden_values("pick_place", "hard")

    def successes(make_policy: Callable[[int], Policy]) -> int:
        done = [rollout(robot, make_policy(seed), SignalTask(), seed=seed) for seed in range(8)]
        return sum(bool(episode.info.success) for episode in done)

    assert successes(lambda seed: Demonstrator(pick_place.TASK, hidden, noise=0.2, seed=seed)) >= 7
    assert successes(lambda seed: pick_place.make_expert(1.0, seed)) <= 4
