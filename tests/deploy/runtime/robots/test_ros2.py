"""The driver against a rosbridge of its own: a websocket server that answers as rosbridge's protocol says."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from deploy.runtime.robots import ros2
from deploy.runtime.robots.ros2 import JointState, Ros2File, Ros2Robot, RosbridgeTopics, make_robot
from robot_rlpd.clock import ManualClock
from robot_rlpd.errors import ConfigError, DeadlineError, RobotError
from robot_rlpd.task import TaskOptions
from robot_rlpd.testing import RobotConformance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from robot_rlpd.robot import Robot

SETTINGS = Ros2File(joints=("a", "b"), low=(-2.0, -1.0), high=(2.0, 1.0))
LONG_S = 60.0


class FakeTopics:
    """A controller that is where it is told to be; its states come in another order of the joints."""

    def __init__(self) -> None:
        self.commands: list[list[float]] = []
        self.positions = {"b": 0.2, "other": 9.0, "a": 0.1}
        self.stamp_s = 100.0
        self.closed = False

    def state(self) -> JointState:
        self.stamp_s += 0.02
        return JointState(self.stamp_s, dict(self.positions), {"a": 0.5})

    def command(self, values: list[float]) -> None:
        self.commands.append(values)
        self.positions |= dict(zip("ab", values, strict=True))

    def close(self) -> None:
        self.closed = True


class TestRos2Robot(RobotConformance):
    def make_robot(self) -> Robot:
        return Ros2Robot(FakeTopics(), SETTINGS, ManualClock())


def test_joints_are_commanded_and_observed_in_the_order_of_the_controller() -> None:
    topics, clock = FakeTopics(), ManualClock()
    robot = Ros2Robot(topics, SETTINGS, clock)
    first = robot.reset()
    assert first.observation["joint_positions"].tolist() == pytest.approx([0.1, 0.2])
    assert first.observation["joint_velocities"].tolist() == [0.5, 0.0]
    result = robot.step(np.array([1.5, -0.5], np.float32))
    assert topics.commands == [[1.5, -0.5]]
    assert clock.now_s() == pytest.approx(0.02)
    assert result.robot_time_s == pytest.approx(topics.stamp_s)
    assert result.observation["joint_positions"].tolist() == [1.5, -0.5]


def test_a_stop_holds_positions_or_sets_speeds_to_zero() -> None:
    topics = FakeTopics()
    with Ros2Robot(topics, SETTINGS, ManualClock()) as robot:
        robot.stop("enough")
        assert topics.commands == [[0.1, 0.2]]
    assert topics.closed
    topics = FakeTopics()
    speeds = Ros2Robot(topics, replace(SETTINGS, quantity="velocity"), ManualClock())
    speeds.stop("enough")
    assert topics.commands == [[0.0, 0.0]]
    assert speeds.spec.action.components[0].unit == "rad/s"


def test_a_joint_that_nobody_publishes_is_told() -> None:
    robot = Ros2Robot(FakeTopics(), replace(SETTINGS, joints=("a", "z")), ManualClock())
    with pytest.raises(RobotError, match=r"joints\.z: no such joint in the state; found z; allowed: b, other, a"):
        robot.reset()


class Rosbridge:
    """One connection of rosbridge: publishes a joint state after the subscription and after every command."""

    def __init__(self) -> None:
        server = pytest.importorskip("websockets.sync.server", reason="the extra ros2 is not installed")
        self.received: list[dict[str, Any]] = []
        self.commanded = threading.Event()
        self.stamp = 5
        self.server = server.serve(self._serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def _serve(self, connection: Any) -> None:
        position = [0.0, 0.0]
        for text in connection:
            message = json.loads(text)
            self.received.append(message)
            if message["op"] == "publish":
                position = message["msg"]["data"]
            if message["op"] in ("publish", "subscribe"):
                self.stamp += 1
                state = {
                    "header": {"stamp": {"sec": self.stamp, "nanosec": 500_000_000}, "frame_id": ""},
                    "name": ["b", "a"],
                    "position": position[::-1],
                    "velocity": [],
                    "effort": [],
                }
                connection.send(json.dumps({"op": "publish", "topic": "/joint_states", "msg": state}))
                connection.send(json.dumps({"op": "status", "level": "warning", "msg": "not for us"}))
            if message["op"] == "publish":
                self.commanded.set()
            if message.get("msg", {}).get("data") == [2.0, 1.0]:
                connection.close()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()


@pytest.fixture
def bridge() -> Iterator[Rosbridge]:
    rosbridge = Rosbridge()
    yield rosbridge
    rosbridge.close()


def test_over_a_websocket_the_controller_is_advertised_commanded_and_read(bridge: Rosbridge, tmp_path: Path) -> None:
    file = tmp_path / "arm.toml"
    lines = ['joints = ["a", "b"]', "low = [-2, -1]", "high = [2, 1]", f'url = "{bridge.url}"', "control_rate_hz = 200"]
    file.write_text("\n".join(lines))
    with make_robot(str(file), TaskOptions()) as robot:
        first = robot.reset()
        assert first.robot_time_s == 6.5
        robot.step(np.array([0.5, -0.5], np.float32))
        assert bridge.commanded.wait(LONG_S)
    assert bridge.received[0] == {
        "op": "advertise",
        "topic": "/forward_position_controller/commands",
        "type": "std_msgs/msg/Float64MultiArray",
    }
    assert bridge.received[1]["op"] == "subscribe"
    assert bridge.received[1]["type"] == "sensor_msgs/msg/JointState"
    assert bridge.received[2]["msg"] == {"data": [0.5, -0.5]}


def test_a_lost_connection_is_a_fault_and_not_an_old_state(bridge: Rosbridge) -> None:
    topics = RosbridgeTopics(replace(SETTINGS, url=bridge.url))
    assert topics.state().positions == {"a": 0.0, "b": 0.0}
    topics.command([2.0, 1.0])
    topics._thread.join(LONG_S)
    with pytest.raises(RobotError, match="the connection to rosbridge is lost"):
        topics.state()
    topics.close()


def test_nobody_at_the_address_and_no_state_are_told(bridge: Rosbridge, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeadlineError, match="url: no rosbridge there"):
        RosbridgeTopics(replace(SETTINGS, url="ws://127.0.0.1:1"))
    monkeypatch.setattr(ros2, "FIRST_STATE_S", 0.01)
    topics = RosbridgeTopics(replace(SETTINGS, url=bridge.url, state_topic="/nobody"))
    with pytest.raises(DeadlineError, match="state_topic: no state within"):
        topics.state()
    topics.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('joints = ["a"]\nlow = [0]\nhigh = []', r"high: found \[\]; allowed: 1 numbers"),
        ("joints = []\nlow = []\nhigh = []", "low"),
        ('joints = ["a"]', "low"),
        ('joints = ["a"]\nlow = [0]\nhigh = [1]\nquantity = "effort"', "effort"),
        ("joints", "toml"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "arm.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        make_robot(str(tmp_path / "arm.toml"), TaskOptions())


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        make_robot(str(tmp_path / "none.toml"), TaskOptions())
