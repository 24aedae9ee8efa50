from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robot_rlpd.component_filter import braking_speed
from robot_rlpd.errors import ConfigError, RobotError, SpecError
from robot_rlpd.limits import BoxLimits, ComponentLimits, SafetyLimits, measured_entry
from robot_rlpd.motion_filter import REASONS, MotionFilter
from robot_rlpd.robot import Action, ClosingRobot, Observation, StepResult
from robot_rlpd.safety import SafeRobot
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

NAMES = ("shoulder", "reach", "slide", "gripper", "press")
SPEC = RobotSpec(
    name="bench",
    observation=(ArraySpec(name="where", shape=(5,), dtype="float64", components=NAMES),),
    action=ActionSpec(
        components=(
            ActionComponent(name="shoulder", low=-3.0, high=3.0, unit="rad"),
            ActionComponent(name="reach", low=-0.2, high=0.2, unit="m", mode="delta"),
            ActionComponent(name="slide", low=-4.0, high=4.0, unit="m/s"),
            ActionComponent(name="gripper", kind="binary"),
            ActionComponent(name="press", low=-50.0, high=50.0, unit="N"),
        )
    ),
    control_rate_hz=20.0,
)
PERIOD_S = 0.05
COMPONENTS = {
    "shoulder": ComponentLimits(
        low=-1.1, high=1.7, velocity=2.0, acceleration=6.0, margin=0.2, measured="where[shoulder]"
    ),
    "reach": ComponentLimits(low=-0.3, high=0.5, velocity=1.5, acceleration=4.0, measured="where[1]"),
    "slide": ComponentLimits(low=-2.0, high=1.0, velocity=3.0, acceleration=9.0, margin=0.5, measured="where[slide]"),
    "press": ComponentLimits(low=-20.0, high=30.0, change=100.0),
}
LIMITS = SafetyLimits(components=COMPONENTS)


class Bench(ClosingRobot):
    """Goes exactly where it is told, in double precision; remembers actions and places."""

    def __init__(self) -> None:
        self.spec = SPEC
        self.where = np.zeros(5)
        self.given: list[Action] = []
        self.places = [self.where.copy()]
        self.forces: list[list[float]] = []
        self.stops: list[str] = []
        self._time_s = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        self.forces.append([0.0])
        return StepResult(self._observation(), robot_time_s=self._time_s)

    def step(self, action: Action) -> StepResult:
        exact = action.astype(np.float64)
        self.where[0] = exact[0]
        self.where[1] += exact[1]
        self.where[2] += exact[2] * PERIOD_S
        self.given.append(action.copy())
        self.forces[-1].append(float(exact[4]))
        self.places.append(self.where.copy())
        self._time_s += PERIOD_S
        return StepResult(self._observation(), robot_time_s=self._time_s)

    def stop(self, reason: str) -> None:
        self.stops.append(reason)

    def _observation(self) -> Observation:
        return {"where": self.where.copy()}


def reset_and_try(robot: SafeRobot, actions: list[Action]) -> list[StepResult]:
    robot.reset()
    results = []
    for action in actions:
        try:
            results.append(robot.step(action))
        except (SpecError, RobotError):
            robot.reset()
    return results


any_action = arrays(np.float32, 5, elements=st.floats(width=32, allow_nan=True, allow_infinity=True))
bounded_action = arrays(np.float32, 5, elements=st.floats(-60.0, 60.0, width=32))


NO_HURRY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_braking_beside_a_limit_does_not_pass_it_by_a_rounding_error() -> None:
    bench = Bench()
    wanted = [-1.0] * 5 + [0.0] + [-1.0] * 3 + [0.0]
    with SafeRobot(bench, LIMITS) as robot:
        reset_and_try(
            robot, [np.array([x, 0.0, 0.0, 0.0, 0.0], np.float32) for x in wanted] + [np.full(5, -1.0, np.float32)] * 2
        )
    assert_within(bench)


@NO_HURRY
@given(st.lists(st.one_of(any_action, bounded_action), max_size=40))
def test_no_sequence_of_actions_leads_out_of_the_limits(actions: list[Action]) -> None:
    bench = Bench()
    robot = SafeRobot(bench, LIMITS)
    reset_and_try(robot, actions)
    robot.close()
    assert_within(bench)


def assert_within(bench: Bench) -> None:
    for given_action in bench.given:
        assert np.isfinite(given_action).all()
        assert (given_action >= SPEC.action.low).all()
        assert (given_action <= SPEC.action.high).all()
        assert given_action[3] in (-1.0, 1.0)
        assert -20.0 <= given_action[4] <= 30.0
    for before, after in itertools.chain.from_iterable(itertools.pairwise(since_reset) for since_reset in bench.forces):
        assert abs(after - before) <= 5.0 * (1 + 1e-6)
    places = np.array(bench.places)
    speeds = np.diff(places, axis=0) / PERIOD_S
    for i, name in enumerate(NAMES[:3]):
        limits = COMPONENTS[name]
        assert limits.low is not None
        assert limits.high is not None
        assert limits.velocity is not None
        assert limits.acceleration is not None
        # The robot's own float32 steps add up to rounding errors; absolute targets have none.
        slack = 0.0 if name == "shoulder" else 1e-6
        assert places[:, i].min() >= limits.low - slack
        assert places[:, i].max() <= limits.high + slack
        assert np.abs(speeds[:, i]).max(initial=0.0) <= limits.velocity + 1e-4
        changes = np.diff(np.concatenate([[0.0], speeds[:, i]])) / PERIOD_S
        assert np.abs(changes).max(initial=0.0) <= limits.acceleration + 1e-3


def test_pushing_against_every_limit_stays_within_and_comes_close() -> None:
    bench = Bench()
    robot = SafeRobot(bench, LIMITS)
    reset_and_try(robot, [np.full(5, 60.0, np.float32)] * 200 + [np.full(5, -60.0, np.float32)] * 200)
    robot.close()
    assert_within(bench)
    places = np.array(bench.places)
    assert places[:, 0].max() == pytest.approx(1.7, abs=0.01)
    assert places[:, 1].max() == pytest.approx(0.5, abs=1e-4)
    assert places[:, 1].min() == pytest.approx(-0.3, abs=1e-4)
    assert places[:, 2].min() == pytest.approx(-2.0, abs=0.05)


@NO_HURRY
@given(st.floats(0.0, 10.0), st.floats(0.1, 50.0), st.floats(0.001, 0.2))
def test_the_braking_speed_is_the_highest_that_stops_in_time(room: float, acceleration: float, period_s: float) -> None:
    def distance(speed: float) -> float:
        covered = 0.0
        while speed > 0.0:
            covered += speed * period_s
            speed -= acceleration * period_s
        return covered

    speed = braking_speed(room, acceleration, period_s)
    assert distance(speed) <= room * (1 + 1e-9) + 1e-12
    assert distance(speed * 1.001 + 1e-9) >= room * (1 - 1e-9)


def test_what_was_commanded_is_stored_and_what_was_applied_is_told_beside_it() -> None:
    bench = Bench()
    robot = SafeRobot(bench, LIMITS)
    robot.reset()
    commanded = np.array([9.0, 0.2, 4.0, 0.3, 50.0], np.float32)
    result = robot.step(commanded)
    assert result.executed_action is not None
    assert result.executed_action.tolist() == pytest.approx([3.0, 0.2, 4.0, 1.0, 50.0])
    assert np.array_equal(result.signals["applied_action"], bench.given[0])
    assert not np.array_equal(bench.given[0], result.executed_action)
    named = {reason for i, reason in enumerate(REASONS) if int(result.signals["limited_by"]) >> i & 1}
    assert named == {"bounds", "acceleration", "change"}
    assert robot.counts.by_reason["acceleration"] == robot.counts.limited_steps == robot.counts.clipped_steps == 1
    for spec in robot.spec.signals:
        spec.validate(result.signals[spec.name])


def test_a_filter_outside_counts_what_one_inside_held_back() -> None:
    outer = SafeRobot(SafeRobot(Bench(), LIMITS))
    outer.reset()
    outer.step(np.array([2.0, 0.0, 0.0, 1.0, 0.0], np.float32))
    assert (outer.counts.limited_steps, outer.counts.by_reason["acceleration"]) == (1, 1)


def test_an_action_within_all_limits_is_applied_as_it_is() -> None:
    bench = Bench()
    robot = SafeRobot(bench, LIMITS)
    robot.reset()
    action = np.array([0.01, -0.005, 0.3, -1.0, 4.9], np.float32)
    result = robot.step(action)
    assert np.array_equal(bench.given[0], action)
    assert int(result.signals["limited_by"]) == 0
    assert robot.counts.limited_steps == 0


def test_a_robot_that_is_found_outside_is_led_back_gently() -> None:
    bench = Bench()
    bench.where[:3] = [2.5, 0.9, 3.0]
    bench.places = [bench.where.copy()]
    reset_and_try(SafeRobot(bench, LIMITS), [np.full(5, 60.0, np.float32)] * 100)
    places = np.array(bench.places)
    speeds = np.diff(places, axis=0)[:, :3] / PERIOD_S
    assert (np.abs(speeds).max(axis=0) <= np.array([2.0, 1.5, 3.0]) + 1e-4).all()
    outside = places[:-1, :3] > np.array([1.7, 0.5, 1.0]) + 1e-6
    assert outside[0].all()
    assert (speeds[outside] < 0.0).all()
    assert places[-1, 0] <= 1.7
    assert places[-1, 1] <= 0.5 + 1e-6
    assert places[-1, 2] <= 1.0 + 1e-6


def test_a_stop_brakes_within_the_acceleration_before_the_driver_stops() -> None:
    bench = Bench()
    robot = SafeRobot(bench, LIMITS)
    robot.reset()
    for _ in range(10):
        robot.step(np.array([3.0, 0.2, 4.0, 1.0, 30.0], np.float32))
    moved = len(bench.given)
    with pytest.raises(SpecError):
        robot.step(np.full(5, np.nan, np.float32))
    assert len(bench.given) > moved
    assert len(bench.stops) == 1
    assert np.abs(np.diff(np.array(bench.places), axis=0)[-1, :3]).max() < 6.0 * PERIOD_S**2 + 1e-6
    assert_within(bench)


def test_braking_ends_when_the_driver_fails_and_its_own_stop_follows() -> None:
    class Broken(Bench):
        broken = False

        def step(self, action: Action) -> StepResult:
            if self.broken:
                raise OSError("the cable is out")
            return super().step(action)

    bench = Broken()
    robot = SafeRobot(bench, LIMITS)
    robot.reset()
    robot.step(np.array([3.0, 0.2, 4.0, 1.0, 0.0], np.float32))
    bench.broken = True
    robot.stop("enough")
    assert bench.stops == ["enough"]


def test_leaving_the_workspace_stops_and_a_start_outside_is_refused() -> None:
    bench = Bench()
    box = SafetyLimits(workspace={"where": BoxLimits(low=(-math.inf, -0.25, -9.0, -9.0, -9.0))})
    robot = SafeRobot(bench, box)
    robot.reset()
    back = np.array([0.0, -0.2, 0.0, 1.0, 0.0], np.float32)
    assert robot.step(back).fault == ""
    result = robot.step(back)
    assert "where[1] = -0.4 is outside [-0.25, inf]" in result.fault
    assert "outside" in bench.stops[0]
    with pytest.raises(RobotError, match="reset it first"):
        robot.step(back)
    with pytest.raises(RobotError, match="bring it back by hand"):
        robot.reset()


def test_near_the_wall_of_an_observed_box_everything_slows_down() -> None:
    def step_at(where: float) -> float:
        bench = Bench()
        bench.where[1] = where
        box = BoxLimits(low=(-9.0,) * 5, high=(9.0, 1.0, 9.0, 9.0, 9.0), margin=0.4)
        robot = SafeRobot(bench, SafetyLimits(workspace={"where": box}))
        robot.reset()
        robot.step(np.array([0.0, -0.2, 0.0, 1.0, 0.0], np.float32))
        return -float(bench.given[0][1])

    assert step_at(0.0) == pytest.approx(0.2)
    assert step_at(0.8) == pytest.approx(0.1)
    assert step_at(0.999) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"elbow": ComponentLimits()}, r"limits\.elbow: .*allowed: shoulder, reach"),
        ({"gripper": ComponentLimits(velocity=1.0)}, r"limits\.gripper: a binary"),
        ({"reach": ComponentLimits(velocity=0.0)}, r"limits\.reach\.velocity: found 0\.0; allowed: above 0"),
        ({"reach": ComponentLimits(low=1.0, high=1.0)}, r"limits\.reach: .*low below high"),
        ({"reach": ComponentLimits(low=0.0, high=1.0, margin=0.6)}, r"limits\.reach: .*two margins"),
        ({"press": ComponentLimits(velocity=1.0)}, r"limits\.press\.velocity: unit N is no motion"),
        ({"slide": ComponentLimits(change=1.0)}, r"limits\.slide\.change: unit m/s is a motion"),
        ({"reach": ComponentLimits(high=1.0, measured="where[9]")}, r"limits\.reach\.measured: .*where\[shoulder\]"),
        ({"slide": ComponentLimits(high=1.0)}, r'limits\.slide: .*measured = "FIELD\[COMPONENT\]"'),
        ({"shoulder": ComponentLimits(high=1.0, margin=0.1)}, r"limits\.shoulder\.margin: .*largest velocity"),
    ],
)
def test_limits_that_cannot_hold_are_refused(limits: dict[str, ComponentLimits], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        SafeRobot(Bench(), SafetyLimits(components=limits))


@pytest.mark.parametrize(
    ("boxes", "told"),
    [
        ({"tool": BoxLimits()}, r"workspace\.tool: .*allowed: where"),
        ({"where": BoxLimits(low=(0.0,))}, r"workspace\.where\.low: found \[0\.0\]; allowed: 5 numbers"),
        ({"where": BoxLimits(low=(0.0,) * 5, high=(1.0,) * 5, margin=0.5)}, r"workspace\.where: found margin 0\.5"),
    ],
)
def test_boxes_that_cannot_hold_are_refused(boxes: dict[str, BoxLimits], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        SafeRobot(Bench(), SafetyLimits(workspace=boxes))


def test_a_position_is_found_by_name_and_unit_or_as_told() -> None:
    arm = RobotSpec(
        name="arm",
        observation=(
            ArraySpec(name="speeds", shape=(2,), unit="rad/s", components=("a", "b")),
            ArraySpec(name="angles", shape=(2,), unit="rad", components=("a", "b")),
        ),
        action=ActionSpec(components=(ActionComponent(name="b", unit="rad"), ActionComponent(name="c", unit="rad"))),
        control_rate_hz=10.0,
    )
    b, c = arm.action.components
    assert measured_entry(arm, b) == ("angles", 1)
    assert measured_entry(arm, c) is None
    assert measured_entry(arm, c, "angles[a]") == ("angles", 0)
    assert measured_entry(arm, c, "speeds[1]") == ("speeds", 1)


def test_after_a_hold_the_robot_counts_as_standing() -> None:
    motion = MotionFilter(LIMITS, SPEC)
    observation = {"where": np.zeros(5)}
    motion.begin(observation)
    motion.limit(np.array([0.0, 0.2, 0.0, 1.0, 0.0], np.float32), observation)
    assert motion.is_moving
    motion.rest()
    assert not motion.is_moving
    applied, _ = motion.limit(np.array([0.0, 0.2, 0.0, 1.0, 0.0], np.float32), observation)
    assert applied[1] == pytest.approx(4.0 * PERIOD_S**2)
