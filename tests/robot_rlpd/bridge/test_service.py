"""What a server answers, without sockets, threads or waiting."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.service import RobotService
from robot_rlpd.clock import ManualClock
from robot_rlpd.errors import RobotError
from robot_rlpd.robot import StepResult
from robot_rlpd.specs import to_builtins
from robot_rlpd.testing import FakeRobot, fake_spec

if TYPE_CHECKING:
    from robot_rlpd.robot import Action

ACTION = np.array([0.25, -0.25], np.float32)


class Bench:
    """A service with a manual clock, and one client that loses nothing unless told to."""

    def __init__(self, robot: FakeRobot | None = None) -> None:
        self.robot = robot or FakeRobot()
        self.clock = ManualClock()
        self.service = RobotService(self.robot, self.clock, pace="fast", command_timeout_s=5.0)

    def ask(self, message: wire.AnyMessage) -> Any:
        return self.ask_frames([wire.encode(message)])

    def ask_frames(self, frames: Any) -> Any:
        answer = self.service.answer([bytes(f) for f in frames])
        return None if answer is None else wire.decode([bytes(f) for f in answer])[0]

    def hello(self, client: str = "learner", nonce: str = "n", **more: Any) -> Any:
        return self.ask(wire.Hello(wire.PROTOCOL_VERSION, client, nonce, **more))

    def step(self, session: str, sequence: int, action: Action = ACTION) -> Any:
        return self.ask_frames(wire.encode_step(session, sequence, action))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def session(bench: Bench) -> str:
    welcome = bench.hello()
    assert isinstance(bench.ask(wire.Reset(welcome.session, 1, seed=0)), wire.Reply)
    return str(welcome.session)


def test_a_step_is_executed_once_however_often_it_arrives(bench: Bench, session: str) -> None:
    first = bench.step(session, 2)
    assert isinstance(first, wire.Reply)
    assert bench.step(session, 2) == first
    assert bench.step(session, 2, -ACTION) == first
    assert len(bench.robot.executed) == 1


def test_an_older_or_skipped_number_is_refused_without_moving(bench: Bench, session: str) -> None:
    bench.step(session, 2)
    for sequence in (0, 1, 4):
        answer = bench.step(session, sequence)
        assert (answer.code, answer.field, answer.allowed) == ("sequence", "sequence", "3")
    assert len(bench.robot.executed) == 1
    assert isinstance(bench.step(session, 3), wire.Reply)


@given(st.lists(st.sampled_from(["deliver", "lose", "twice", "answer lost", "old again"]), max_size=30))
def test_whatever_the_network_does_every_step_runs_exactly_once_in_order(events: list[str]) -> None:
    bench = Bench()
    session = bench.hello().session
    bench.ask(wire.Reset(session, 1, seed=0))
    sent: list[Action] = []
    sequence = 1
    for event in [*events, "deliver"]:
        action = np.array([len(sent) / 100, 0.0], np.float32)
        if len(sent) < sequence:  # the client goes on only after an answer; else it repeats
            sent.append(action)
        arrivals = {"lose": 0, "twice": 2}.get(event, 1)
        answers = [bench.step(session, sequence + 1, sent[sequence - 1]) for _ in range(arrivals)]
        if event == "old again":
            bench.step(session, sequence)
        if answers and event != "answer lost":
            assert isinstance(answers[-1], wire.Reply)
            sequence += 1
    np.testing.assert_array_equal(bench.robot.executed, sent)


def test_a_repeated_hello_gets_the_same_session(bench: Bench) -> None:
    assert bench.hello() == bench.hello()


def test_a_second_commander_is_refused_by_name(bench: Bench, session: str) -> None:
    answer = bench.hello("intruder", "other")
    assert answer.code == "seat"
    assert "'learner'" in answer.message
    assert isinstance(bench.step(session, 2), wire.Reply)


def test_the_seat_is_free_after_a_goodbye_and_the_robot_stands(bench: Bench, session: str) -> None:
    assert bench.ask(wire.Bye(session)) is None
    assert bench.robot.stops == ["the commander left"]
    assert isinstance(bench.hello("next", "other"), wire.Welcome)


def test_the_watchdog_stops_the_robot_once_when_commands_cease(bench: Bench, session: str) -> None:
    bench.clock.advance(5.0)
    bench.service.watch()
    assert bench.robot.stops == []
    bench.clock.advance(0.1)
    bench.service.watch()
    bench.service.watch()
    assert bench.robot.stops == ["no command for 5 s"]
    answer = bench.step(session, 2)
    assert (answer.code, answer.message) == ("robot", "stopped: no command for 5 s")
    assert bench.robot.executed == []
    assert isinstance(bench.ask(wire.Reset(session, 3)), wire.Reply)
    assert isinstance(bench.step(session, 4), wire.Reply)


def test_repetitions_do_not_keep_the_watchdog_quiet(bench: Bench, session: str) -> None:
    for _ in range(6):
        bench.clock.advance(1.0)
        bench.ask(wire.Reset(session, 1, seed=0))
        bench.service.watch()
    assert bench.robot.stops == ["no command for 5 s"]


def test_a_command_that_waited_longer_than_the_limit_is_not_obeyed(bench: Bench, session: str) -> None:
    bench.clock.advance(5.1)
    assert bench.step(session, 2).message == "stopped: no command for 5 s"
    assert bench.robot.executed == []


def test_what_waited_for_a_frozen_server_is_refused_even_a_reset(bench: Bench, session: str) -> None:
    bench.service.thawed(4.9)
    assert isinstance(bench.step(session, 2), wire.Reply)
    bench.service.thawed(5.1)
    assert bench.robot.stops == ["its server was frozen for 5.1 s"]
    assert bench.ask(wire.Reset(session, 3)).code == "session"


def test_a_silent_commander_loses_the_seat_to_a_new_one_only(bench: Bench, session: str) -> None:
    bench.clock.advance(60.0)
    bench.service.watch()
    assert isinstance(bench.ask(wire.Reset(session, 2)), wire.Reply)
    bench.clock.advance(60.0)
    assert isinstance(bench.hello("next", "other"), wire.Welcome)
    assert bench.step(session, 3).code == "session"


def test_a_client_may_replace_its_own_session(bench: Bench, session: str) -> None:
    welcome = bench.hello("learner", "again", replaces=session)
    assert isinstance(welcome, wire.Welcome)
    assert bench.robot.stops == ["another session begins"]
    assert bench.step(session, 2).code == "session"


def test_a_restarted_server_does_not_resume_a_session(session: str) -> None:
    answer = Bench().step(session, 2)
    assert answer.code == "session"
    assert answer.sequence == 2


def test_a_step_before_the_first_reset_is_refused(bench: Bench) -> None:
    answer = bench.step(bench.hello().session, 1)
    assert answer.message == "stopped: not reset yet"
    assert bench.robot.executed == []


def test_a_nan_action_is_refused_by_component_and_the_robot_stopped(bench: Bench, session: str) -> None:
    answer = bench.step(session, 2, np.array([0.0, np.nan], np.float32))
    assert (answer.code, answer.field, answer.found, answer.sequence) == ("spec", "action[y]", "nan", 2)
    assert bench.robot.stops
    assert bench.robot.executed == []
    assert "reset" in bench.step(session, 3).hint


def test_a_step_without_an_action_or_of_another_size_is_refused(bench: Bench, session: str) -> None:
    assert bench.ask(wire.Step(session, 2)).found == "shape (0,)"
    bench.ask(wire.Reset(session, 3))
    assert bench.step(session, 4, np.zeros(3, np.float32)).found == "shape (3,)"
    assert bench.robot.executed == []


def test_actions_are_limited_on_the_robots_side(bench: Bench, session: str) -> None:
    bench.step(session, 2, np.array([9.0, 0.0], np.float32))
    np.testing.assert_array_equal(bench.robot.executed, [[0.5, 0.0]])


def test_another_contract_is_refused_naming_the_field(bench: Bench) -> None:
    wanted = to_builtins(fake_spec(control_rate_hz=20.0).contract())
    answer = bench.hello(contract=wanted)
    assert (answer.code, answer.field, answer.found, answer.allowed) == ("mismatch", "control_rate_hz", "10.0", "20.0")
    assert bench.service.commander == ""
    assert bench.hello(contract={"nonsense": 1}).code == "spec"


def test_another_protocol_version_is_refused(bench: Bench) -> None:
    answer = bench.ask(wire.Hello(99, "future", "n"))
    assert (answer.code, answer.found, answer.allowed, answer.nonce) == (
        "version",
        "99",
        str(wire.PROTOCOL_VERSION),
        "n",
    )


def test_a_fault_is_reported_with_the_observation_and_stops_the_robot(bench: Bench, session: str) -> None:
    bench.robot.fault = "joint 3 too hot"
    answer = bench.step(session, 2)
    assert isinstance(answer, wire.Reply)
    assert answer.fault == "joint 3 too hot"
    assert bench.robot.stops == ["joint 3 too hot"]
    assert bench.step(session, 3).message == "stopped: joint 3 too hot"


class BrokenRobot(FakeRobot):
    """Raises what it is told to."""

    error: Exception | None = None

    def step(self, action: Action) -> StepResult:
        """Raise."""
        if self.error is not None:
            raise self.error
        return super().step(action)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RobotError("protective stop", hint="release it"), "protective stop"),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
    ],
)
def test_a_robot_that_raises_is_stopped_and_served_again(error: Exception, said: str) -> None:
    robot = BrokenRobot()
    bench = Bench(robot)
    session = bench.hello().session
    bench.ask(wire.Reset(session, 1))
    robot.error = error
    answer = bench.step(session, 2)
    assert (answer.code, answer.message) == ("robot", said)
    assert bench.step(session, 2) == answer
    assert robot.stops
    robot.error = None
    assert isinstance(bench.ask(wire.Reset(session, 3)), wire.Reply)
    assert isinstance(bench.step(session, 4), wire.Reply)


class LooseRobot(FakeRobot):
    """Tells of the executed action in another form than the spec says."""

    told: Any = None

    def step(self, action: Action) -> StepResult:
        """Tell it."""
        return replace(super().step(action), executed_action=self.told)


def test_an_executed_action_is_sent_as_the_spec_says_or_refused() -> None:
    robot = LooseRobot()
    bench = Bench(robot)
    session = bench.hello().session
    bench.ask(wire.Reset(session, 1))
    robot.told = np.array([0.25, -0.25], np.float64)
    frames = bench.service.answer([bytes(f) for f in wire.encode_step(session, 2, ACTION)])
    assert frames is not None
    executed = wire.decode(frames)[2]["executed_action"]
    assert executed.dtype == np.float32
    assert executed.tolist() == [0.25, -0.25]
    robot.told = np.zeros(3, np.float32)
    answer = bench.step(session, 3)
    assert (answer.code, answer.field) == ("spec", "action")
    assert robot.stops


def test_a_stop_is_confirmed_and_only_the_commanders_counts(bench: Bench, session: str) -> None:
    assert bench.ask(wire.Stop("other session", "mischief")).code == "session"
    assert bench.robot.stops == []
    assert isinstance(bench.ask(wire.Stop(session, "enough")), wire.Stopped)
    assert bench.robot.stops == ["learner: enough"]


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_malformed_frames_are_answered_and_harm_nothing(frames: list[bytes]) -> None:
    bench = Bench()
    session = bench.hello().session
    bench.ask(wire.Reset(session, 1, seed=0))
    assert isinstance(bench.ask_frames(frames), wire.Refused)
    assert isinstance(bench.step(session, 2), wire.Reply)


def test_messages_of_a_server_are_not_requests(bench: Bench) -> None:
    assert bench.ask(wire.Stopped("s")).code == "protocol"


def test_closing_stops_and_closes_the_robot(bench: Bench, session: str) -> None:
    del session
    bench.service.close()
    assert bench.robot.closed
    assert bench.robot.stops


def test_anybody_may_look_and_sees_how_it_goes_without_disturbing(bench: Bench, session: str) -> None:
    for sequence in (2, 3, 3):
        bench.clock.advance(0.5)
        bench.step(session, sequence)
    bench.step(session, 9)
    seen = bench.ask(wire.Look("look"))
    assert seen.nonce == "look"
    told = seen.status
    assert (told["commander"], told["episodes"], told["env_steps"]) == ("learner", 1, 2)
    assert (told["repeated"], told["refused"], told["halted"]) == (1, {"sequence": 1}, "")
    assert told["held_s"] == 0.5
    assert told["wait_ms"]["max"] == 500.0
    assert told["last_command_s"] == 0.5
    assert isinstance(bench.step(session, 4), wire.Reply)


def test_a_look_shows_the_newest_observation_to_those_who_ask(bench: Bench, session: str) -> None:
    _, _, none = wire.decode([bytes(f) for f in bench.service.answer([wire.encode(wire.Look("a"))]) or []])
    assert none == {}
    bench.step(session, 2)
    frames = bench.service.answer([wire.encode(wire.Look("b", observation=True))]) or []
    _, _, arrays = wire.decode([bytes(f) for f in frames])
    np.testing.assert_array_equal(arrays["observation.position"], bench.robot.position)


class Watchful(FakeRobot):
    """Tells what it sees without moving, and how often it was asked."""

    looks = 0

    def look(self) -> StepResult:
        self.looks += 1
        if self.fault:
            raise RobotError(self.fault)
        return StepResult(self._observation(), robot_time_s=7.0, dropped_frames=("front",))


def test_a_robot_that_stands_is_looked_at_anew_and_not_while_it_moves() -> None:
    robot = Watchful()
    bench = Bench(robot)
    look = wire.Look("look", observation=True)
    seen = bench.ask(look)
    assert (seen.robot_time_s, seen.dropped_frames, robot.looks) == (7.0, ("front",), 1)
    bench.ask(look)
    assert robot.looks == 1
    session = bench.hello().session
    bench.ask(wire.Reset(session, 1, seed=0))
    bench.clock.advance(1.0)
    assert bench.ask(look).robot_time_s == 0.0
    assert robot.looks == 1
    bench.ask(wire.Stop(session, "enough"))
    bench.ask(look)
    assert robot.looks == 2


def test_a_look_that_fails_shows_the_newest_observation(caplog: pytest.LogCaptureFixture) -> None:
    robot = Watchful()
    bench = Bench(robot)
    robot.fault = "the camera is gone"
    assert bench.ask(wire.Look("look", observation=True)).dropped_frames == ()
    assert "the camera is gone" in caplog.text


def test_a_look_does_not_keep_the_watchdog_quiet(bench: Bench, session: str) -> None:
    del session
    for _ in range(6):
        bench.clock.advance(1.0)
        bench.ask(wire.Look("look"))
        bench.service.watch()
    assert bench.robot.stops == ["no command for 5 s"]


class SlowRobot(FakeRobot):
    """Takes as long as it is told."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock, self.took_s = clock, 0.1

    def step(self, action: Action) -> StepResult:
        self.clock.advance(self.took_s)
        return super().step(action)


def test_late_ticks_are_counted_where_the_pace_is_real() -> None:
    for pace, late in (("real", 1), ("fast", 0)):
        clock = ManualClock()
        robot = SlowRobot(clock)
        service = RobotService(robot, clock, pace=pace, command_timeout_s=5.0)
        bench = Bench(robot)
        bench.service = service
        session = bench.hello().session
        bench.ask(wire.Reset(session, 1))
        for sequence, robot.took_s in ((2, 0.1), (3, 0.12), (4, 0.1)):
            bench.step(session, sequence)
        assert service.status()["late_ticks"] == late
        assert service.status()["step_ms"]["max"] == 120.0
