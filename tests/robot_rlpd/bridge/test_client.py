"""A robot driven over a socket."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zmq

from robot_rlpd.bridge import wire
from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.connection import Connection
from robot_rlpd.bridge.observer import Observer
from robot_rlpd.bridge.results import Results
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.cli import main
from robot_rlpd.errors import (
    ConfigError,
    DeadlineError,
    MismatchError,
    OutcomeUnknownError,
    ProtocolError,
    RefusedError,
    RobotError,
    SpecError,
)
from robot_rlpd.robot import StepResult, look_at
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import ArraySpec
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, RobotConformance, fake_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from robot_rlpd.robot import Action, Robot

ACTION = np.array([0.25, -0.25], np.float32)
ANYWHERE = "tcp://127.0.0.1:0"


@contextlib.contextmanager
def served(robot: Robot, address: str = ANYWHERE, **options: Any) -> Iterator[str]:
    """A robot served from a thread; leaves the thread ended."""
    server = RobotServer(robot, address, pace="fast", **options)
    over = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(over.is_set,))
    thread.start()
    try:
        yield server.address
    finally:
        over.set()
        thread.join()


class Network:
    """Stands between client and server; loses and doubles what it is told to, counted in requests from the client."""

    def __init__(
        self, server_address: str, *, lost_requests: set[int], lost_answers: set[int], doubled: set[int]
    ) -> None:
        self._front: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._front.bind(ANYWHERE)
        self._back: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._back.connect(server_address)
        self.address: str = self._front.getsockopt_string(zmq.LAST_ENDPOINT)
        self._lost_requests, self._lost_answers, self._doubled = lost_requests, lost_answers, doubled
        self.loses_every_answer = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Network:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        requests = answers = 0
        client = b""
        while not self._over.is_set():
            if self._front.poll(5):
                client, *frames = self._front.recv_multipart()
                requests += 1
                for _ in range(0 if requests in self._lost_requests else 2 if requests in self._doubled else 1):
                    self._back.send_multipart(frames)
            if self._back.poll(5):
                frames = self._back.recv_multipart()
                answers += 1
                if answers not in self._lost_answers and not self.loses_every_answer.is_set():
                    self._front.send_multipart([client, *frames])
        self._front.close(linger=0)
        self._back.close(linger=0)


@pytest.fixture
def fake() -> FakeRobot:
    return FakeRobot()


@pytest.fixture
def address(fake: FakeRobot) -> Iterator[str]:
    with served(fake) as address:
        yield address


class TestRemoteRobot(RobotConformance):
    """A served robot is a robot like any other."""

    @pytest.fixture(autouse=True)
    def _serve(self, address: str) -> None:
        self.address = address

    def make_robot(self) -> Robot:
        return RemoteRobot(self.address)


def test_a_remote_episode_equals_the_local_one(address: str) -> None:
    local = rollout(FakeRobot(), FakePolicy(), FakeTask(), seed=3)
    with RemoteRobot(address) as robot:
        assert robot.spec == fake_spec()
        remote = rollout(robot, FakePolicy(), FakeTask(), seed=3)
    remote.validate()
    np.testing.assert_array_equal(remote.executed_actions, local.executed_actions)
    np.testing.assert_array_equal(remote.robot_times_s, local.robot_times_s)
    for name, array in local.observations.items():
        np.testing.assert_array_equal(remote.observations[name], array)
    assert remote.info.success


class Drawn(FakeRobot):
    """Tells what was drawn at a reset, and when its camera saw."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        return replace(super().reset(seed=seed, options=options), randomization={"payload_kg": 0.5})

    def step(self, action: Action) -> StepResult:
        result = super().step(action)
        return replace(result, frame_times_s={"front": 1.25}, dropped_frames=("front", "wrist"))


def test_times_of_frames_and_what_was_drawn_arrive() -> None:
    with served(Drawn()) as address, RemoteRobot(address) as robot:
        first = robot.reset(seed=1)
        assert first.randomization == {"payload_kg": 0.5}
        assert (first.frame_times_s, first.dropped_frames) == ({}, ())
        second = robot.step(np.zeros(2, np.float32))
        assert second.frame_times_s == {"front": 1.25}
        assert second.dropped_frames == ("front", "wrist")
        assert second.randomization == {}


def test_served_over_ipc(fake: FakeRobot, tmp_path: Path) -> None:
    path = f"ipc://{tmp_path}/robot"
    with served(fake, path), RemoteRobot(path) as robot:
        robot.reset(seed=0)
        assert robot.step(ACTION).executed_action is not None
        with pytest.raises(ConfigError, match="in use"):
            RobotServer(FakeRobot(), path)
    with served(FakeRobot(), path), RemoteRobot(path) as robot:  # a path left behind is no obstacle
        robot.reset(seed=0)


def test_lost_requests_lost_answers_and_doubles_execute_every_step_once(fake: FakeRobot, address: str) -> None:
    with (
        Network(address, lost_requests={1, 5}, lost_answers={1, 4}, doubled={2, 4, 7}) as network,
        RemoteRobot(network.address) as robot,
    ):
        robot.reset(seed=0)
        actions = [np.array([0.01 * i, 0.0], np.float32) for i in range(6)]
        for action in actions:
            np.testing.assert_array_equal(robot.step(action).executed_action, action)
    np.testing.assert_array_equal(fake.executed, actions)


def test_a_second_commander_is_refused_by_name(address: str) -> None:
    with RemoteRobot(address, client_name="alice"), pytest.raises(RefusedError, match="commanded by 'alice'"):
        RemoteRobot(address, client_name="bob")
    RemoteRobot(address, client_name="bob").close()


def test_a_lost_goodbye_does_not_keep_a_process_from_its_own_robot(address: str) -> None:
    with Network(address, lost_requests={2}, lost_answers=set(), doubled=set()) as network:
        RemoteRobot(network.address).close()
        with pytest.raises(RefusedError, match="commanded by"):
            RemoteRobot(address, client_name="bob")  # by another way, as another process would
        with RemoteRobot(network.address) as robot:
            robot.reset(seed=0)


def test_the_wrong_contract_names_the_field(address: str) -> None:
    with pytest.raises(MismatchError, match=r"control_rate_hz.*found 10.0.*allowed: 25.0"):
        RemoteRobot(address, contract=fake_spec(control_rate_hz=25.0).contract())


def test_a_nan_action_is_a_spec_error_and_stops_the_robot(fake: FakeRobot, address: str) -> None:
    with RemoteRobot(address) as robot:
        robot.reset(seed=0)
        with pytest.raises(SpecError, match=r"action\[x\].*nan"):
            robot.step(np.array([np.nan, 0.0], np.float32))
        assert fake.stops
        with pytest.raises(RobotError, match="reset it first"):
            robot.step(ACTION)
        robot.reset(seed=0)
        robot.step(ACTION)


def test_a_stop_reaches_the_robot_before_it_returns(fake: FakeRobot, address: str) -> None:
    with RemoteRobot(address, client_name="alice") as robot:
        robot.reset(seed=0)
        robot.stop("enough")
        assert fake.stops == ["alice: enough"]


def test_nobody_there_is_told_within_the_deadline() -> None:
    with pytest.raises(DeadlineError, match=r"127.0.0.1:1: no answer within 0.1 s; nobody .*robot-rlpd serve"):
        RemoteRobot("tcp://127.0.0.1:1", connect_timeout_s=0.1)


def test_a_restarted_server_ends_the_episode_and_the_next_reset_goes_on(tmp_path: Path) -> None:
    path = f"ipc://{tmp_path}/robot"
    with contextlib.ExitStack() as stack:
        with served(FakeRobot(), path):
            robot = stack.enter_context(RemoteRobot(path))
            robot.reset(seed=0)
            robot.step(ACTION)
        after = FakeRobot()
        with served(after, path):
            with pytest.raises(RefusedError, match=r"session .* is over"):
                robot.step(ACTION)
            assert after.executed == []
            robot.reset(seed=0)
            robot.step(ACTION)
            assert len(after.executed) == 1


def test_a_restart_between_episodes_goes_unnoticed(tmp_path: Path) -> None:
    path = f"ipc://{tmp_path}/robot"
    with contextlib.ExitStack() as stack:
        with served(FakeRobot(), path):
            robot = stack.enter_context(RemoteRobot(path))
            robot.reset(seed=0)
        with served(FakeRobot(), path):
            robot.reset(seed=0)
            robot.step(ACTION)


def test_a_server_restarted_with_another_robot_is_refused(tmp_path: Path) -> None:
    path = f"ipc://{tmp_path}/robot"
    with contextlib.ExitStack() as stack:
        with served(FakeRobot(), path):
            robot = stack.enter_context(RemoteRobot(path))
            robot.reset(seed=0)
        other = FakeRobot(fake_spec(control_rate_hz=20.0))
        with served(other, path):
            with pytest.raises(MismatchError, match="control_rate_hz"):
                robot.reset(seed=0)
            with pytest.raises(RobotError):
                robot.step(ACTION)
            assert other.executed == []


def test_a_step_without_answer_is_unknown_the_robot_is_stopped_and_the_next_reset_goes_on(
    fake: FakeRobot, address: str
) -> None:
    with (
        Network(address, lost_requests=set(), lost_answers=set(), doubled=set()) as network,
        RemoteRobot(network.address, step_timeout_s=0.5) as robot,
    ):
        robot.reset(seed=0)
        network.loses_every_answer.set()
        with pytest.raises(OutcomeUnknownError):
            robot.step(ACTION)
        network.loses_every_answer.clear()
        robot.reset(seed=0)
        assert len(fake.executed) == 1
        assert fake.stops
        robot.step(ACTION)
        assert len(fake.executed) == 2


def test_options_that_cannot_be_sent_leave_the_session_whole(address: str) -> None:
    with RemoteRobot(address) as robot:
        with pytest.raises(ProtocolError, match="cannot be sent"):
            robot.reset(options={"callback": object()})
        robot.reset(options={"height_m": 0.1})


def test_an_answer_that_breaks_the_spec_is_refused_by_field() -> None:
    spec = fake_spec()
    wider = tuple(s if s.name != "target" else replace(s, shape=(3,), components=()) for s in spec.observation)
    result = FakeRobot().reset(seed=0)
    arrays = {f"observation.{name}": array for name, array in result.observation.items()}
    reply, layout, received = wire.decode(wire.encode_reply(1, result, arrays))
    assert isinstance(reply, wire.Reply)
    assert layout is not None
    assert Results(spec).result(reply, layout, received).observation.keys() == result.observation.keys()
    with pytest.raises(ProtocolError, match=r"observation\.target"):
        Results(replace(spec, observation=wider)).result(reply, layout, received)


def test_garbage_on_the_socket_does_not_disturb_the_commander(address: str) -> None:
    vandal: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    vandal.connect(address)
    try:
        with RemoteRobot(address) as robot:
            robot.reset(seed=0)
            for frames in ([b""], [b"\xff" * 100], [wire.encode(wire.Bye("guess"))], [b"\x80", b"x", b"y"]):
                vandal.send_multipart(frames)
                assert vandal.poll(5000)
                assert isinstance(wire.decode(vandal.recv_multipart())[0], wire.Refused)
            vandal.send(b"x" * (wire.MAX_REQUEST_BYTES + 1))
            robot.step(ACTION)
    finally:
        vandal.close(linger=0)


def test_observers_are_welcome_while_somebody_commands(fake: FakeRobot, address: str) -> None:
    with RemoteRobot(address, client_name="alice") as robot, Observer(address) as one, Observer(address) as other:
        robot.reset(seed=0)
        robot.step(ACTION)
        assert one.status()["commander"] == other.status()["commander"] == "alice"
        np.testing.assert_array_equal(one.observation()["position"], fake.position)
        robot.step(ACTION)


def test_the_status_command_tells_it_to_people(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bridge", "status", address]) == 0
    told = capsys.readouterr().out
    assert "commander          -" in told
    assert main(["bridge", "status", "tcp://127.0.0.1:1", "--timeout-s", "0.1"]) == 1
    assert "nobody listens there" in capsys.readouterr().err


class SeeingRobot(FakeRobot):
    """Sees a slope of grey, brighter at every step."""

    def __init__(self) -> None:
        super().__init__()
        camera = ArraySpec(name="camera", shape=(32, 32, 3), dtype="uint8", is_image=True)
        self.spec = replace(self.spec, observation=(*self.spec.observation, camera))

    def _observation(self) -> dict[str, Any]:
        slope = np.arange(32, dtype=np.uint8)[:, None, None] + np.uint8(10 * len(self.executed))
        return {**super()._observation(), "camera": np.broadcast_to(slope, (32, 32, 3)).copy()}


@pytest.mark.parametrize(("images", "largest_error"), [("raw", 0), ("jpeg", 3)])
def test_images_travel_as_the_client_asks(images: Any, largest_error: int) -> None:
    fake = SeeingRobot()
    with served(fake) as address, RemoteRobot(address, images=images) as robot:
        results = [robot.reset(seed=0), robot.step(ACTION), robot.step(ACTION)]
        for number, result in enumerate(results):
            camera = result.observation["camera"]
            assert (camera.dtype.name, camera.shape) == ("uint8", (32, 32, 3))
            assert np.abs(camera[:, 0, 0].astype(int) - np.arange(32) - 10 * number).max() <= largest_error
            assert result.observation["position"].shape == (2,)


def test_there_are_two_ways_for_images() -> None:
    with pytest.raises(ConfigError, match="images: found png; allowed: raw, jpeg"):
        RemoteRobot("tcp://127.0.0.1:1", images="png")  # type: ignore[arg-type]


def test_a_learner_that_is_not_there_is_not_called_a_robot() -> None:
    with contextlib.closing(Connection("tcp://127.0.0.1:9", peer="learner")) as connection:
        told = r"^learner at tcp://127.0.0.1:9: .*robot-rlpd train --listen tcp://127.0.0.1:9 running"
        with pytest.raises(DeadlineError, match=told):
            connection.exchange([b""], lambda frames: frames, 0.1)


class Watchful(FakeRobot):
    """Tells what it sees without moving; its camera is unplugged."""

    def look(self) -> StepResult:
        return StepResult({**self._observation(), "position": np.full(2, 4.0, np.float32)}, dropped_frames=("front",))


def test_a_served_robot_can_be_looked_at_between_episodes() -> None:
    with served(Watchful()) as address, RemoteRobot(address) as robot:
        seen = look_at(robot)
        assert seen is not None
        assert seen.observation["position"].tolist() == [4.0, 4.0]
        assert seen.dropped_frames == ("front",)
        robot.reset(seed=0)
        during = look_at(robot)
        assert during is not None
        assert during.observation["position"].tolist() == [0.0, 0.0]
        robot.step(ACTION)
    assert look_at(robot) is None


def test_a_served_robot_that_does_not_tell_what_it_sees_shows_nothing_before_its_first_reset() -> None:
    with served(FakeRobot()) as address, RemoteRobot(address) as robot:
        assert look_at(robot) is None
