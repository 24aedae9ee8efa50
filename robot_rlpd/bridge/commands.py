"""`robot-rlpd serve`."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from robot_rlpd.bridge.robots import REMOTE, open_robot
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.classified import ClassifiedRobot
from robot_rlpd.config import parse_json_object
from robot_rlpd.errors import ConfigError
from robot_rlpd.limits import Watch
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.registry import load_entry_point
from robot_rlpd.safety import SafeRobot
from robot_rlpd.task import RewardKind, TaskOptions
from robot_rlpd.watchdog import watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from robot_rlpd.robot import Robot
    from robot_rlpd.specs import RobotSpec


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Options of `serve`."""

    robot: str
    """Robot to serve: sim:TASK (sim:pick_place), gymnasium:ID (gymnasium:Pendulum-v1), or a driver's NAME:ARGUMENT."""

    address: str = "tcp://127.0.0.1:5555"
    """Where to listen: tcp://HOST:PORT (port 0 takes a free one) or ipc://PATH; encrypted, and for listed clients only
    (robot-rlpd keys allow), unless it is this machine (tcp://127.0.0.1:PORT, ipc)."""

    pace: Literal["real", "fast"] = "real"
    """real: a step takes its control period; fast: a simulator steps as fast as it is asked."""

    command_timeout_s: float = 5.0
    """Seconds without a command after which the robot is stopped and another commander may come; above 0."""

    hold_after_ticks: float = 1.0
    """Control periods by which the next command may be late before a robot that moves on without one is held until it
    comes: speeds go to zero, a robot commanded by forces is stopped; 0 for never. Real pace only."""

    env_kwargs: str = ""
    """JSON object: arguments of a gymnasium environment, such as '{"reward_type": "dense"}', or cameras, image_size,
    randomization, calibration, previous_actions of a simulated task."""

    success_when: str = ""
    """Expression that says when a step of a gymnasium environment is a success."""

    reward: RewardKind = "task"
    """task: as the task defines it; sparse: 0 on success, else -1; stored: as the environment signals it."""

    max_episode_steps: int | None = None
    """Time limit of an episode in control steps, at least 1; default that of the task."""

    classifier: Path | None = None
    """File of a success classifier, as written by robot-rlpd reward train: its verdict becomes the signal success of a
    robot that has none."""

    insecure: bool = False
    """Do not encrypt, wherever it is: anybody who reaches the address can move the robot."""

    encrypt: bool = False
    """Encrypt, and let listed clients in only, on this machine too."""

    json: bool = False
    """Print one JSON object per line."""

    def __post_init__(self) -> None:
        if self.robot.startswith(REMOTE):
            raise ConfigError(
                "serves a robot of this machine", field="robot", found=self.robot, allowed="NAME:ARGUMENT"
            )
        if not 0 <= self.hold_after_ticks < math.inf:
            raise ConfigError(field="hold_after_ticks", found=self.hold_after_ticks, allowed="at least 0, finite")
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise ConfigError(field="max_episode_steps", found=self.max_episode_steps, allowed="at least 1")


def serve(config: ServeConfig) -> int:
    """Serve a robot, simulated or real, to one commander at a time over ZeroMQ."""
    options = TaskOptions(
        success_when=config.success_when,
        reward=config.reward,
        env_kwargs=parse_json_object(config.env_kwargs, field="env_kwargs"),
        max_episode_steps=config.max_episode_steps,
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(_termination_as_interrupt())
        driver = _open_driver(config, options)
        # Safety outermost: an action is refused before its period begins, and a stop does not wait for the pace.
        robot = stack.enter_context(_safe(driver, config))
        server = RobotServer(
            robot,
            config.address,
            pace=config.pace,
            command_timeout_s=config.command_timeout_s,
            insecure=config.insecure,
            encrypt=config.encrypt,
        )
        _tell_address(config, robot.spec, server)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    counts, episodes = robot.counts, server.service.statistics.episodes
    told = [
        f"stopped: {counts.steps} env_steps in {episodes} episodes, {counts.clipped_steps} actions clipped, "
        f"{counts.refused_actions} refused, held {counts.holds} times",
        counts.held_back(),
    ]
    data = {"env_steps": counts.steps, "episodes": episodes, **counts.to_json()}
    _tell(config, "; ".join(filter(None, told)), data)
    return 0


def _open_driver(config: ServeConfig, options: TaskOptions) -> Robot:
    """The robot, with the classifier that speaks for it."""
    driver = open_robot(config.robot, options=options)
    if config.classifier is None:
        return driver
    try:
        open_classifier = load_entry_point("robot_rlpd.classifiers", "onnx", field="classifier")
        return ClassifiedRobot(driver, open_classifier(config.classifier, driver.spec), signal="success")
    except Exception:
        driver.close()
        raise


def _safe(driver: Robot, config: ServeConfig) -> SafeRobot:
    if config.pace == "fast":
        return SafeRobot(driver)
    return watched(PacedRobot(driver), Watch(hold_after_ticks=config.hold_after_ticks or None))


def _tell_address(config: ServeConfig, spec: RobotSpec, server: RobotServer) -> None:
    key = f", key {server.public_key}" if server.public_key else ""
    _tell(
        config,
        f"serving robot '{spec.name}' at {server.address} ({spec.control_rate_hz:g} Hz, pace {config.pace}, "
        f"fingerprint {spec.fingerprint[:12]}{key}); Ctrl-C ends it",
        {
            "address": server.address,
            "robot": spec.name,
            "fingerprint": spec.fingerprint,
            "control_rate_hz": spec.control_rate_hz,
            "pace": config.pace,
            "insecure": config.insecure,
            "public_key": server.public_key or None,
        },
    )


def _tell(config: ServeConfig, text: str, data: dict[str, Any]) -> None:
    print(json.dumps(data) if config.json else text, flush=True)


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM ends like Ctrl-C: at once, whatever the robot is doing; while it is being stopped both are ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(number: int, frame: object) -> None:
        del number, frame
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
