"""Where a server listens, and how it ends."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest

from robot_rlpd.bridge import commands, robots
from robot_rlpd.bridge.commands import ServeConfig, serve
from robot_rlpd.bridge.robots import open_robot
from robot_rlpd.bridge.security import check_address, is_local
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.errors import ConfigError, UnknownNameError
from robot_rlpd.limits import ComponentLimits, SafetyLimits
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.safety import SafeRobot
from robot_rlpd.task import TaskOptions, TaskSetup
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.robot import Robot

ANYWHERE = "tcp://127.0.0.1:0"


def test_insecure_listens_on_the_network(caplog: pytest.LogCaptureFixture) -> None:
    server = RobotServer(FakeRobot(), "tcp://0.0.0.0:0", insecure=True)
    server.close()
    assert "without encryption" in caplog.text


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:5555", "tcp://localhost:1", "tcp://[::1]:5555", "ipc:///tmp/x"])
def test_this_machine_is_local(address: str) -> None:
    check_address(address)
    assert is_local(address)


@pytest.mark.parametrize("address", ["", "127.0.0.1:5555", "tcp://127.0.0.1", "tcp://:5", "udp://a:1", "ipc://"])
def test_other_forms_are_no_addresses(address: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        check_address(address)


def test_a_port_in_use_is_told_and_the_robot_closed() -> None:
    first = RobotServer(FakeRobot(), ANYWHERE)
    robot = FakeRobot()
    with pytest.raises(ConfigError, match="in use"):
        RobotServer(robot, first.address)
    first.close()
    assert robot.closed


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_watchdog_that_never_barks_is_refused(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="command_timeout_s"):
        RobotServer(FakeRobot(), ANYWHERE, command_timeout_s=timeout_s)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_every_way_out_stops_and_closes_the_robot(error: type[BaseException]) -> None:
    robot = FakeRobot()

    def should_stop() -> bool:
        raise error

    with pytest.raises(error):
        RobotServer(robot, ANYWHERE).serve_forever(should_stop)
    assert robot.stops
    assert robot.closed


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRobot:
    robot = FakeRobot()
    seen: list[TaskOptions] = []

    def make_robot(argument: str, options: TaskOptions) -> Robot:
        assert argument == "one"
        seen.append(options)
        return robot

    monkeypatch.setattr(robots, "entry_points", lambda group: {"fake": group})
    monkeypatch.setattr(robots, "load_entry_point", lambda group, name: make_robot)
    return robot


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_tells_its_address_and_ends_in_order_at_a_signal(
    fake: FakeRobot, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RobotServer, "serve_once", lambda self: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    assert serve(ServeConfig(robot="fake:one", address=ANYWHERE, json=True)) == 0
    assert signal.getsignal(number) is before
    assert fake.closed
    listening, status = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert listening["address"].startswith("tcp://127.0.0.1:")
    assert listening["robot"] == "fake"
    assert listening["fingerprint"] == fake_spec().fingerprint
    assert status["env_steps"] == 0


@pytest.mark.parametrize("as_json", [True, False])
def test_serve_tells_at_its_end_what_limits_held_back(
    as_json: bool, fake: FakeRobot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = SafetyLimits(components={"x": ComponentLimits(velocity=1.0, measured="position[x]")})
    monkeypatch.setattr(commands, "open_robot", lambda *_, **__: SafeRobot(fake, slow))

    def step_and_end(server: RobotServer) -> None:
        server.service.robot.reset()
        for x in (0.4, 0.05, 0.7):
            server.service.robot.step(np.array([x, 0.0], np.float32))
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RobotServer, "serve_once", step_and_end)
    serve(ServeConfig(robot="fake:one", address=ANYWHERE, pace="fast", json=as_json))
    told = capsys.readouterr().out.splitlines()[-1]
    if as_json:
        ended = json.loads(told)
        assert (ended["clipped_actions"], ended["limited_actions"], ended["limited_by"]["velocity"]) == (1, 2, 2)
    else:
        assert told.endswith(
            "1 actions clipped, 0 refused, held 0 times; held back by limits: 2 of 3 steps (bounds 1, velocity 2)"
        )


@pytest.mark.parametrize(("pace", "paced"), [("real", True), ("fast", False)])
def test_serve_paces_inside_the_safety_filter(
    fake: FakeRobot, pace: str, paced: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inside: list[Robot] = []
    served: list[Robot] = []

    class Recorded(PacedRobot):
        def __init__(self, robot: Robot) -> None:
            inside.append(robot)
            super().__init__(robot)

    def interrupt(server: RobotServer) -> None:
        served.append(server.service.robot)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(commands, "PacedRobot", Recorded)
    monkeypatch.setattr(RobotServer, "serve_once", interrupt)
    config = ServeConfig(robot="fake:one", address=ANYWHERE, pace="real" if pace == "real" else "fast")
    assert serve(config) == 0
    assert inside == [fake] * paced
    assert isinstance(served[0], SafeRobot)
    assert fake.closed
    assert "serving robot 'fake' at tcp://127.0.0.1:" in capsys.readouterr().out


def test_serve_refuses_what_it_cannot_use(fake: FakeRobot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"nonsense.*fake"):
        serve(ServeConfig(robot="nonsense:one"))
    with pytest.raises(ConfigError, match="env_kwargs"):
        serve(ServeConfig(robot="fake:one", env_kwargs="{"))
    with pytest.raises(ConfigError, match="env_kwargs"):
        serve(ServeConfig(robot="fake:one", env_kwargs="[1]"))
    with pytest.raises(ConfigError, match="max_episode_steps"):
        ServeConfig(robot="fake:one", max_episode_steps=0)
    with pytest.raises(ConfigError, match="robot"):
        ServeConfig(robot="tcp://127.0.0.1:5555")
    monkeypatch.setenv("ROBOT_RLPD_KEYS", str(tmp_path))
    with pytest.raises(ConfigError, match="no key of its own"):
        serve(ServeConfig(robot="fake:one", address="tcp://0.0.0.0:5555"))
    assert fake.closed


def test_an_empty_name_is_the_tasks_own_robot() -> None:
    setup = TaskSetup(task=FakeTask(), spec=fake_spec(), make_robot=FakeRobot)
    assert isinstance(open_robot("", task_setup=setup), FakeRobot)
    with pytest.raises(ConfigError, match="robot"):
        open_robot("")
