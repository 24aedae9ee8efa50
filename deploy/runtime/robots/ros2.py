"""A ROS 2 robot through ros2_control's topics: `--robot ros2:FILE`, where FILE names joints and topics in TOML.

It talks to rosbridge (`ros2 launch rosbridge_server rosbridge_websocket_launch.xml`) over a websocket: ROS's own
Python packages come with a ROS installation only, for its one Python, and not from the package index. Needs
`pip install 'robot-rlpd[ros2]'`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from deploy.runtime.robots.hardware import HardwareRobot
from robot_rlpd.errors import ConfigError, DeadlineError, RobotError, SpecError, UnknownNameError
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec, from_builtins

if TYPE_CHECKING:
    from robot_rlpd.clock import Clock
    from robot_rlpd.robot import Action, Observation, Robot
    from robot_rlpd.task import TaskOptions

COMMAND_TYPE, STATE_TYPE = "std_msgs/msg/Float64MultiArray", "sensor_msgs/msg/JointState"
FIRST_STATE_S = 10.0
UNITS = {"position": "rad", "velocity": "rad/s"}


@dataclass(frozen=True, kw_only=True)
class Ros2File:
    """What the file states."""

    joints: tuple[str, ...]
    """Names of the joints, in the order of the controller."""
    low: tuple[float, ...]
    """Lowest command of each joint."""
    high: tuple[float, ...]
    """Highest command of each joint."""
    quantity: Literal["position", "velocity"] = "position"
    """What the controller takes: targets in rad, or speeds in rad/s."""
    control_rate_hz: float = 50.0
    """Control steps per second."""
    url: str = "ws://127.0.0.1:9090"
    """Of rosbridge."""
    command_topic: str = "/forward_position_controller/commands"
    """Where a forward command controller listens."""
    state_topic: str = "/joint_states"
    """Where the joint state broadcaster publishes."""

    def __post_init__(self) -> None:
        for side in ("low", "high"):
            if len(getattr(self, side)) != len(self.joints) or not self.joints:
                raise ConfigError(
                    field=side, found=list(getattr(self, side)), allowed=f"{len(self.joints)} numbers, one per joint"
                )


@dataclass(frozen=True)
class JointState:
    """The newest message of the state topic, by joint.

    Attributes:
        time_s: Stamp of the message, seconds.
        positions: In rad.
        velocities: In rad/s; zero where the message has none.
    """

    time_s: float
    positions: dict[str, float]
    velocities: dict[str, float]


class Topics(Protocol):
    """The thin connection to ROS."""

    def state(self) -> JointState:
        """The newest state; waits for the first.

        Raises:
            DeadlineError: None came.
            RobotError: The connection is lost.
        """
        ...

    def command(self, values: list[float]) -> None:
        """Publish one command."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


class Ros2Robot(HardwareRobot):
    """Joints of a controller as action; their positions and velocities as observation.

    The robot's time is that of the newest state message, so a broadcaster that fell silent looks like a clock that
    stands still: set `observation_timeout_s` in the robot file. ros2_control keeps the last command: a killed process
    leaves a position controller holding, and a velocity controller moving, unless it has a command timeout of its own.

    Args:
        topics: Connected.
        settings: Joints, bounds and rate.
        clock: Paces the steps.
    """

    def __init__(self, topics: Topics, settings: Ros2File, clock: Clock | None = None) -> None:
        super().__init__(_spec(settings), clock)
        self._topics = topics
        self._settings = settings
        self._time_s = 0.0

    def prepare(self, seed: int | None, options: dict[str, Any]) -> None:
        """Leave robot and scene to the person who resets them."""
        del seed, options

    def send(self, action: Action) -> None:
        """Publish."""
        self._topics.command([float(value) for value in action])

    def observe(self) -> Observation:
        """The newest state, in the order of the controller.

        Raises:
            RobotError: A joint is missing.
        """
        state = self._topics.state()
        joints = self._settings.joints
        for joint in joints:
            if joint not in state.positions:
                raise RobotError(
                    "no such joint in the state",
                    field=f"joints.{joint}",
                    found=joint,
                    allowed=", ".join(state.positions),
                )
        self._time_s = state.time_s
        return {
            "joint_positions": np.array([state.positions[j] for j in joints], np.float32),
            "joint_velocities": np.array([state.velocities.get(j, 0.0) for j in joints], np.float32),
        }

    def time_s(self) -> float:
        """Stamp of the last state."""
        return self._time_s

    def halt(self) -> None:
        """Hold the present positions, or set all speeds to zero."""
        if self._settings.quantity == "velocity":
            self._topics.command([0.0] * len(self._settings.joints))
        else:
            positions = self._topics.state().positions
            self._topics.command([positions[joint] for joint in self._settings.joints])

    def disconnect(self) -> None:
        """Leave rosbridge."""
        self._topics.close()


class RosbridgeTopics:
    """rosbridge's protocol 2: JSON over a websocket; a thread of its own keeps the newest state.

    Args:
        settings: Address and topics.

    Raises:
        UnknownNameError: The library is not installed.
        DeadlineError: Nobody answers at the address.
    """

    def __init__(self, settings: Ros2File) -> None:
        try:
            client = importlib.import_module("websockets.sync.client")
        except ModuleNotFoundError:
            raise UnknownNameError(
                "needs the module 'websockets'", field="robot", hint="pip install 'robot-rlpd[ros2]'"
            ) from None
        self._open = contextlib.ExitStack()
        try:
            self._socket = self._open.enter_context(client.connect(settings.url))
        except Exception as error:  # what a wrong address, a silent host or another protocol make the library raise
            raise DeadlineError(f"no rosbridge there: {error}", field="url", found=settings.url) from None
        self._settings = settings
        self._newest: JointState | None = None
        self._arrived = threading.Event()
        self._lost = ""
        self._send({"op": "advertise", "topic": settings.command_topic, "type": COMMAND_TYPE})
        self._send({"op": "subscribe", "topic": settings.state_topic, "type": STATE_TYPE, "queue_length": 1})
        self._thread = threading.Thread(target=self._listen, name="rosbridge", daemon=True)
        self._thread.start()

    def state(self) -> JointState:
        """The newest state."""
        if not self._arrived.wait(FIRST_STATE_S):
            raise DeadlineError(
                f"no state within {FIRST_STATE_S:g} s", field="state_topic", found=self._settings.state_topic
            )
        if self._lost or self._newest is None:
            raise RobotError(f"the connection to rosbridge is lost: {self._lost}", field=self._settings.url)
        return self._newest

    def command(self, values: list[float]) -> None:
        """Publish one command."""
        self._send({"op": "publish", "topic": self._settings.command_topic, "msg": {"data": values}})

    def close(self) -> None:
        """Close the socket and end the thread."""
        self._open.close()
        self._thread.join()

    def _send(self, message: dict[str, Any]) -> None:
        self._socket.send(json.dumps(message))

    def _listen(self) -> None:
        try:
            for text in self._socket:
                message = json.loads(text)
                if message.get("op") == "publish" and message.get("topic") == self._settings.state_topic:
                    self._newest = _joint_state(message["msg"])
                    self._arrived.set()
            self._lost = "closed by the other side"
        except Exception as error:  # whatever ends the stream, the robot must not go on with the last state
            self._lost = f"{type(error).__name__}: {error}"
        self._arrived.set()


def make_robot(argument: str, options: TaskOptions) -> Robot:
    """Open the ROS 2 robot that a file describes.

    Raises:
        ConfigError: The file is wrong.
        DeadlineError: No rosbridge, or no state.
    """
    del options
    path = Path(argument)
    try:
        settings = from_builtins(tomllib.loads(path.read_text()), Ros2File)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", field=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, SpecError) as error:
        raise ConfigError(str(error), field=str(path)) from None
    return Ros2Robot(RosbridgeTopics(settings), settings)


def _joint_state(message: dict[str, Any]) -> JointState:
    names, stamp = message["name"], message["header"]["stamp"]
    return JointState(
        stamp["sec"] + stamp["nanosec"] * 1e-9,
        dict(zip(names, message["position"], strict=True)),
        dict(zip(names, message.get("velocity") or [], strict=False)),
    )


def _spec(settings: Ros2File) -> RobotSpec:
    joints, unit = settings.joints, UNITS[settings.quantity]
    size = (len(joints),)
    return RobotSpec(
        name="ros2",
        observation=(
            ArraySpec(name="joint_positions", shape=size, unit="rad", components=joints),
            ArraySpec(name="joint_velocities", shape=size, unit="rad/s", components=joints),
        ),
        action=ActionSpec(
            components=tuple(
                ActionComponent(name=joint, low=low, high=high, unit=unit, frame="joint")
                for joint, low, high in zip(joints, settings.low, settings.high, strict=True)
            )
        ),
        control_rate_hz=settings.control_rate_hz,
        metadata={"driver": "ros2"},
    )
