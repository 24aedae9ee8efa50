"""Prediction of recorded steps, and finding the quantities that predict them best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from robot_rlpd.errors import DataError, MismatchError, RobotRlpdError
from robot_rlpd.rollout import rollout
from robot_rlpd.task import SignalTask, TaskOptions
from sim.identification import SEARCHED, identify
from sim.options import SimOptions
from sim.prediction import Predictor, rms_m
from sim.quantities import QUANTITIES
from sim.randomization import Randomization
from sim.standin import make_robot
from sim.tasks import bimanual_handover, drawer, peg_insert, pick_place, push, reach

if TYPE_CHECKING:
    from robot_rlpd.episode import Episode
    from sim.sim_task import SimTask

HIDDEN = {"servo_gain_scale": 0.5, "action_delay_s": 0.04}


def recorded(task: SimTask, values: dict[str, float], num: int = 2) -> list[Episode]:
    options = SimOptions(randomization=Randomization.constant(values))
    robot = task.make_robot(options, TaskOptions(max_episode_steps=25))
    return [rollout(robot, task.make_expert(0.5, seed), SignalTask(), seed=seed) for seed in range(num)]


@pytest.mark.parametrize(
    "task",
    [m.TASK for m in (reach, pick_place, push, peg_insert, drawer, bimanual_handover)],
    ids=lambda task: task.name,
)
def test_the_world_that_recorded_an_episode_predicts_it(task: SimTask) -> None:
    predictor = Predictor(task, recorded(task, HIDDEN))
    right, wrong = rms_m(predictor.residuals(HIDDEN)), rms_m(predictor.residuals({}))
    # The things' velocities and tilts are not observed, so a grasp is not predicted to the last digit.
    assert right < 0.0015
    assert wrong > 4.0 * right


def test_a_longer_horizon_lets_errors_add_up() -> None:
    episodes = recorded(reach.TASK, HIDDEN)
    short, long = (rms_m(Predictor(reach.TASK, episodes, horizon=h).residuals({})) for h in (1, 5))
    assert long > 1.5 * short


def test_hidden_quantities_are_recovered() -> None:
    predictor = Predictor(pick_place.TASK, recorded(pick_place.TASK, HIDDEN, num=1))
    told: list[tuple[int, float]] = []
    found = identify(
        predictor, tuple(HIDDEN), evaluations=90, seed=0, on_progress=lambda count, best: told.append((count, best))
    )
    assert found.values["servo_gain_scale"] == pytest.approx(0.5, rel=0.05)
    assert found.values["action_delay_s"] == pytest.approx(0.04, abs=0.005)
    assert all(found.determined.values())
    assert found.after_m < 0.1 * found.before_m
    assert [best for _, best in told] == sorted((best for _, best in told), reverse=True)
    assert told[-1][0] == found.evaluations >= 90


def test_the_prediction_of_a_stand_in_becomes_better() -> None:
    robot = make_robot("pick_place:hard", TaskOptions(max_episode_steps=25))
    predictor = Predictor(pick_place.TASK, [rollout(robot, pick_place.make_expert(0.3, 0), SignalTask(), seed=0)])
    found = identify(predictor, ("servo_gain_scale", "observation_delay_s"), evaluations=40, seed=1)
    assert found.after_m < 0.7 * found.before_m


def test_a_quantity_that_nothing_depends_on_is_said_to_be_undetermined() -> None:
    episodes = recorded(reach.TASK, {})
    found = identify(Predictor(reach.TASK, episodes), ("table_friction_scale",), evaluations=8, seed=0)
    assert found.determined == {"table_friction_scale": False}
    assert found.values == {"table_friction_scale": pytest.approx(1.0)}


def test_equal_seeds_search_alike_and_leave_the_global_generator_alone() -> None:
    predictor = Predictor(reach.TASK, recorded(reach.TASK, HIDDEN, num=1))
    before = global_state()
    first, second = (identify(predictor, ("servo_gain_scale",), evaluations=30, seed=3) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(before, global_state())


def test_an_interrupted_search_gives_what_it_has_found() -> None:
    def interrupt(count: int, least: float) -> None:
        del least
        if count > 10:
            raise KeyboardInterrupt

    predictor = Predictor(reach.TASK, recorded(reach.TASK, HIDDEN, num=1))
    found = identify(predictor, ("servo_gain_scale",), evaluations=200, seed=0, on_progress=interrupt)
    assert 10 < found.evaluations < 30
    assert found.after_m < found.before_m


def global_state() -> Any:
    """Of the generator that nobody here may use."""
    return np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002


def test_everything_that_is_searched_is_a_quantity_within_its_range_around_the_nominal_value() -> None:
    for name, (low, high) in SEARCHED.items():
        assert QUANTITIES[name].low <= low <= QUANTITIES[name].nominal <= high <= QUANTITIES[name].high


@pytest.mark.parametrize(
    ("parameters", "evaluations"),
    [((), 5), (("seen_dx_m",), 5), (("moon",), 5), (("payload_kg", "payload_kg"), 5), (("payload_kg",), 0)],
)
def test_what_cannot_be_identified_is_refused(parameters: tuple[str, ...], evaluations: int) -> None:
    predictor = Predictor(reach.TASK, recorded(reach.TASK, {}, num=1))
    with pytest.raises(RobotRlpdError, match=r"parameters|evaluations"):
        identify(predictor, parameters, evaluations=evaluations, seed=0)


def test_episodes_of_another_robot_and_empty_stores_are_refused() -> None:
    with pytest.raises(MismatchError):
        Predictor(pick_place.TASK, recorded(reach.TASK, {}, num=1))
    with pytest.raises(DataError, match="no step"):
        Predictor(pick_place.TASK, [])
