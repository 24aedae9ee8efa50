"""A command that does not come: the robot is at rest until the next one, and the episode goes on."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.service import RobotService
from robot_rlpd.clock import ManualClock
from robot_rlpd.errors import RobotError
from robot_rlpd.judging import JudgedRobot
from robot_rlpd.limits import ComponentLimits, SafetyLimits, Watch
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.safety import SafeRobot
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec
from robot_rlpd.watchdog import watch_beside

if TYPE_CHECKING:
    from robot_rlpd.robot import Action, Robot, StepResult

PERIOD_S = 0.1
HOLD = Watch(hold_after_ticks=1.0)
MOVING = np.array([0.5, -0.25], np.float32)


def commanded_in(*units: str) -> FakeRobot:
    """A fake robot whose action components have these units and modes: "m" is a delta, "m target" absolute."""
    spec = fake_spec(1.0 / PERIOD_S)
    components = tuple(
        replace(c, unit=unit.split()[0], mode="absolute" if "target" in unit else "delta")
        for c, unit in zip(spec.action.components, units, strict=True)
    )
    return FakeRobot(replace(spec, action=replace(spec.action, components=components)))


def driven(fake: FakeRobot, limits: SafetyLimits | None = None) -> tuple[SafeRobot, ManualClock]:
    clock = ManualClock()
    robot = SafeRobot(PacedRobot(fake, clock), limits or SafetyLimits(watch=HOLD), clock)
    robot.reset(seed=0)
    return robot, clock


def applied(fake: FakeRobot) -> list[list[float]]:
    return [action.tolist() for action in fake.executed]


def test_a_speed_goes_to_zero_one_period_after_the_command_was_due_and_the_next_command_goes_on() -> None:
    fake = commanded_in("m/s", "m/s")
    robot, clock = driven(fake)
    robot.step(MOVING)
    clock.advance(PERIOD_S)
    robot.watch()
    assert applied(fake) == [[0.5, -0.25]]
    clock.advance(0.001)
    robot.watch()
    robot.watch()
    assert applied(fake) == [[0.5, -0.25], [0.0, 0.0]]
    assert not fake.stops
    clock.advance(3600.0)
    assert robot.step(MOVING).fault == ""
    assert applied(fake)[2:] == [[0.5, -0.25]]
    assert robot.counts.holds == 1


def test_every_missing_command_is_a_hold_of_its_own() -> None:
    fake = commanded_in("m/s", "m")
    robot, clock = driven(fake)
    for _ in range(3):
        robot.step(MOVING)
        clock.advance(2 * PERIOD_S)
        robot.watch()
    assert robot.counts.holds == 3
    assert applied(fake)[1::2] == [[0.0, 0.0]] * 3


def test_a_target_stays_where_it_is_while_the_other_component_is_held() -> None:
    fake = commanded_in("m/s", "m target")
    robot, clock = driven(fake)
    robot.step(MOVING)
    clock.advance(2 * PERIOD_S)
    robot.watch()
    assert applied(fake)[-1] == [0.0, -0.25]


def test_a_robot_that_stands_by_itself_after_each_step_is_given_nothing() -> None:
    fake = commanded_in("m", "m target")
    robot, clock = driven(fake)
    robot.step(MOVING)
    clock.advance(3600.0)
    robot.watch()
    assert len(fake.executed) == 1
    assert robot.counts.holds == 0
    assert robot.next_look_s() == float("inf")


def test_forces_cannot_be_held_so_the_robot_is_stopped() -> None:
    fake = commanded_in("Nm", "m/s")
    robot, clock = driven(fake)
    robot.step(MOVING)
    clock.advance(2 * PERIOD_S)
    robot.watch()
    assert fake.stops == ["a command is missing, and forces cannot be held"]
    with pytest.raises(RobotError, match="forces cannot be held"):
        robot.step(MOVING)


def test_a_hold_brakes_within_the_acceleration_limit() -> None:
    fake = commanded_in("m/s", "m/s")
    limits = SafetyLimits(components={"x": ComponentLimits(acceleration=1.0)}, watch=HOLD)
    robot, clock = driven(fake, limits)
    for _ in range(5):
        robot.step(np.array([0.5, 0.25], np.float32))
    clock.advance(2 * PERIOD_S)
    robot.watch()
    speeds = [action[0] for action in applied(fake)[4:]]
    assert speeds[:6] == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], abs=1e-6)
    assert speeds[-1] == 0.0
    assert applied(fake)[5][1] == 0.0
    robot.step(np.array([0.5, 0.0], np.float32))
    assert applied(fake)[-1][0] == pytest.approx(0.1)


def test_a_stop_from_beside_ends_a_hold_that_is_still_braking() -> None:
    class Pressed(FakeRobot):
        def step(self, action: Action) -> StepResult:
            result = super().step(action)
            if action[0] < 0.35 and len(self.executed) > 5 and not self.stops:
                thread = threading.Thread(target=robot.stop, args=("the red button",))
                thread.start()
                thread.join()
            return result

    fake = Pressed(commanded_in("m/s", "m target").spec)
    robot, clock = driven(fake, SafetyLimits(components={"x": ComponentLimits(acceleration=1.0)}, watch=HOLD))
    for _ in range(5):
        robot.step(np.array([0.5, 0.25], np.float32))
    clock.advance(2 * PERIOD_S)
    robot.watch()
    assert [action[0] for action in applied(fake)[5:]] == pytest.approx([0.4, 0.3])
    assert fake.stops == ["the red button"]
    with pytest.raises(RobotError, match="the red button"):
        robot.step(MOVING)


def test_a_robot_that_is_stopped_is_not_held() -> None:
    fake = commanded_in("m/s", "m/s")
    robot, clock = driven(fake)
    robot.step(MOVING)
    robot.stop("enough")
    clock.advance(2 * PERIOD_S)
    robot.watch()
    assert robot.hold(np.zeros(2, np.float32)) == ""
    assert len(fake.executed) == 1


def test_a_command_timeout_still_stops_a_held_robot() -> None:
    fake = commanded_in("m/s", "m/s")
    robot, clock = driven(fake, SafetyLimits(watch=replace(HOLD, command_timeout_s=1.0)))
    robot.step(MOVING)
    clock.advance(2 * PERIOD_S)
    assert robot.watch() == ""
    clock.advance(1.0)
    assert robot.watch() == "no command for 1 s"
    assert fake.stops == ["no command for 1 s"]


def test_a_robot_that_cannot_be_held_is_stopped() -> None:
    class Broken(FakeRobot):
        def step(self, action: Action) -> StepResult:
            if not action.any():
                raise OSError("cable out")
            return super().step(action)

    fake = Broken(commanded_in("m/s", "m/s").spec)
    robot, clock = driven(fake)
    robot.step(MOVING)
    clock.advance(2 * PERIOD_S)
    robot.watch()
    assert fake.stops == ["it could not be held: cable out"]


@pytest.mark.parametrize("wrap", [PacedRobot, SafeRobot, lambda robot: JudgedRobot(robot, FakeTask())])
def test_a_hold_reaches_the_driver_through_every_wrapper_from_another_thread(wrap: Any) -> None:
    fake, clock = commanded_in("m/s", "m/s"), ManualClock()
    inner: Robot = wrap(fake)
    robot = SafeRobot(inner, SafetyLimits(watch=HOLD), clock)
    robot.reset(seed=0)
    robot.step(MOVING)
    clock.advance(2 * PERIOD_S)
    thread = threading.Thread(target=robot.watch)
    thread.start()
    thread.join()
    assert applied(fake) == [[0.5, -0.25], [0.0, 0.0]]
    assert not fake.stops


def test_the_thread_beside_holds_while_the_commander_hangs() -> None:
    held = threading.Event()

    class Told(FakeRobot):
        def step(self, action: Action) -> StepResult:
            if not action.any():
                held.set()
            return super().step(action)

    robot = SafeRobot(Told(commanded_in("m/s", "m/s").spec), SafetyLimits(watch=HOLD))
    thread = watch_beside(robot)
    assert thread is not None
    robot.reset(seed=0)
    robot.step(MOVING)
    assert held.wait(60.0)
    robot.close()
    thread.join(60.0)
    assert not thread.is_alive()


def test_the_thread_beside_sleeps_until_something_may_be_due() -> None:
    fake = commanded_in("m/s", "m/s")
    robot, clock = driven(fake, SafetyLimits(watch=replace(HOLD, command_timeout_s=1.0, step_timeout_s=3.0)))
    robot.step(MOVING)
    clock.advance(0.04)
    assert robot.next_look_s() == pytest.approx(0.06)
    clock.advance(0.1)
    robot.watch()
    assert robot.next_look_s() == pytest.approx(1.0 - 0.14)
    robot.stop("enough")
    assert robot.next_look_s() == pytest.approx(1.0)


def test_a_served_robot_is_held_between_commands_and_stopped_after_the_timeout() -> None:
    fake, clock = commanded_in("m/s", "m/s"), ManualClock()
    robot = SafeRobot(PacedRobot(fake, clock), SafetyLimits(watch=HOLD), clock)
    service = RobotService(robot, clock, pace="real", command_timeout_s=5.0)

    def ask(frames: list[Any]) -> Any:
        answer = service.answer([bytes(f) for f in frames])
        assert answer is not None
        return wire.decode([bytes(f) for f in answer])[0]

    session = ask([wire.encode(wire.Hello(wire.PROTOCOL_VERSION, "learner", "n"))]).session
    ask([wire.encode(wire.Reset(session, 1, seed=0))])
    ask(wire.encode_step(session, 2, MOVING))
    clock.advance(2 * PERIOD_S)
    robot.watch()
    assert isinstance(ask(wire.encode_step(session, 3, MOVING)), wire.Reply)
    assert applied(fake) == [[0.5, -0.25], [0.0, 0.0], [0.5, -0.25]]
    clock.advance(5.1)
    robot.watch()
    service.watch()
    assert applied(fake)[3:] == [[0.0, 0.0]]
    assert fake.stops[-1] == "no command for 5 s"
    assert "no command for 5 s" in ask(wire.encode_step(session, 4, MOVING)).message
