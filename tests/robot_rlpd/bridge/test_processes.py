"""Servers and commanders as processes that are killed, frozen and asked to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.observer import Observer
from robot_rlpd.errors import BridgeError, DeadlineError, OutcomeUnknownError, RobotError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from robot_rlpd.robot import Action

pytest.importorskip("mujoco", reason="a simulated robot is served")
pytestmark = pytest.mark.slow
COMMAND = str(Path(sys.executable).with_name("robot-rlpd"))
COMMANDER = """
import numpy as np, sys
from robot_rlpd.bridge.client import RemoteRobot
robot = RemoteRobot(sys.argv[1], client_name="the other")
robot.reset(seed=0)
print("commanding", flush=True)
while True:
    robot.step(np.zeros(robot.spec.action.size, np.float32))
"""


class Served:
    """`robot-rlpd serve` at one path."""

    def __init__(self, path: Path) -> None:
        self.address = f"ipc://{path}"
        self.start()

    def start(self) -> None:
        typed = [COMMAND, "serve", "--robot", "sim:reach", "--address", self.address, "--pace", "fast", "--json"]
        self.process = subprocess.Popen([*typed, "--command-timeout-s", "1"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def end(self) -> dict[str, Any]:
        """Ask it to end; what it says last."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=30)
        told: dict[str, Any] = json.loads(out)
        return told

    def kill(self) -> None:
        with self.process:
            self.process.kill()

    def status(self) -> dict[str, Any]:
        with Observer(self.address) as observer:
            return observer.status()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "robot")
    yield served
    served.kill()


def still(robot: RemoteRobot) -> Action:
    return np.zeros(robot.spec.action.size, np.float32)


def test_a_frozen_server_is_noticed_and_does_not_obey_what_waited_for_it(served: Served) -> None:
    with RemoteRobot(served.address, step_timeout_s=2.0, connect_timeout_s=0.5) as robot:
        robot.reset(seed=0)
        robot.step(still(robot))
        served.process.send_signal(signal.SIGSTOP)
        with pytest.raises(OutcomeUnknownError):
            robot.step(still(robot))
        with pytest.raises(DeadlineError):
            robot.reset()
        served.process.send_signal(signal.SIGCONT)
        robot.reset()
        robot.step(still(robot))
        assert served.status()["env_steps"] == 2


def test_a_reset_does_not_wait_its_whole_time_for_a_server_that_froze(served: Served) -> None:
    with RemoteRobot(served.address, reset_timeout_s=3600.0) as robot:
        robot.reset(seed=0)
        served.process.send_signal(signal.SIGSTOP)
        with pytest.raises(DeadlineError, match="the connection broke"):
            robot.reset()
        served.process.send_signal(signal.SIGCONT)


def test_a_killed_server_ends_the_episode_and_its_successor_takes_nothing_over(served: Served) -> None:
    with RemoteRobot(served.address) as robot:
        robot.reset(seed=0)
        robot.step(still(robot))
        served.kill()
        served.start()
        with pytest.raises(BridgeError):
            robot.step(still(robot))
        assert served.status()["env_steps"] == 0
        robot.reset(seed=0)
        robot.step(still(robot))
        assert served.status()["env_steps"] == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_when_the_commander_dies_or_freezes_the_robot_stops_and_another_may_come(
    served: Served, number: signal.Signals
) -> None:
    with subprocess.Popen([sys.executable, "-c", COMMANDER, served.address], stdout=subprocess.PIPE) as commander:
        assert commander.stdout is not None
        commander.stdout.readline()
        with pytest.raises(BridgeError, match="commanded by 'the other'"):
            RemoteRobot(served.address)
        commander.send_signal(number)
        while not (told := served.status())["halted"]:
            assert told["last_command_s"] < 10.0
        with RemoteRobot(served.address) as robot:
            robot.reset(seed=0)
            robot.step(still(robot))
        os.kill(commander.pid, signal.SIGKILL)


def test_a_server_that_is_asked_to_end_does_so_in_order(served: Served) -> None:
    robot = RemoteRobot(served.address)
    robot.reset(seed=0)
    robot.step(still(robot))
    assert served.end()["env_steps"] == 1
    with pytest.raises((BridgeError, RobotError)):
        robot.step(still(robot))
    robot.close()
