"""Any robot that LeRobot supports: `--robot lerobot:FILE`, where FILE names its type and configuration in TOML.

Needs `pip install 'robot-rlpd[lerobot]'`, which is imported only when such a robot is opened.
"""

from __future__ import annotations

import importlib
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from deploy.runtime.robots.hardware import HardwareRobot
from deploy.runtime.robots.lerobot_cameras import make_patient
from robot_rlpd.errors import ConfigError, RobotError, SpecError, UnknownNameError
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec, from_builtins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from robot_rlpd.clock import Clock
    from robot_rlpd.robot import Action, Observation, Robot
    from robot_rlpd.task import TaskOptions

STATE, SENT = "state", "sent_action"
GRIPPER = "gripper.pos"
POSITION_SUFFIX = ".pos"
NORMALISED, NORMALISED_GRIPPER = (-100.0, 100.0), (0.0, 100.0)
"""Bounds of LeRobot's normalised joint and gripper positions."""
HOMING_PERIODS = 200


class Device(Protocol):
    """What is used of `lerobot.robots.Robot`; values and targets are plain numbers by name."""

    name: str

    @property
    def observation_features(self) -> Mapping[str, Any]:
        """By name: a type, or the shape of an image."""
        ...

    @property
    def action_features(self) -> Mapping[str, Any]:
        """By name: a type."""
        ...

    def connect(self, calibrate: bool = True) -> None:
        """Open the hardware."""
        ...

    def get_observation(self) -> dict[str, Any]:
        """All values."""
        ...

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Returns what was really sent."""
        ...

    def disconnect(self) -> None:
        """Close the hardware."""
        ...


@dataclass(frozen=True, kw_only=True)
class LeRobotFile:
    """What the file states."""

    type: str
    """LeRobot's name of the robot, such as so101_follower."""
    module: str
    """Module that defines it, such as lerobot.robots.so_follower."""
    config: dict[str, Any] = field(default_factory=dict)
    """Fields of its configuration: port, id, cameras ..."""
    control_rate_hz: float = 30.0
    """Control steps per second."""
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest target by name; default for positions -100 to 100, for the gripper 0 to 100."""
    home: dict[str, float] = field(default_factory=dict)
    """Targets to go to at a reset, slowly; empty leaves the robot where it is."""


class LeRobotRobot(HardwareRobot):
    """Targets by name become one action vector, numbers become the field `state`, pictures a field each.

    What LeRobot really sent to the motors (it may clip a target by where the robot is) is the signal `sent_action`.

    Args:
        device: Not connected yet.
        settings: Rate, bounds and home.
        clock: Paces the steps.

    Raises:
        ConfigError: A target without bounds, or a name that the robot does not have.
    """

    def __init__(self, device: Device, settings: LeRobotFile, clock: Clock | None = None) -> None:
        self._device = device
        self._targets = list(device.action_features)
        self._home = settings.home
        self._sent = np.zeros(len(self._targets), np.float32)
        features = device.observation_features
        self._numbers = [name for name, kind in features.items() if not isinstance(kind, tuple)]
        self._images = [name for name, kind in features.items() if isinstance(kind, tuple)]
        for group in ("bounds", "home"):
            for name in getattr(settings, group):
                if name not in self._targets:
                    raise ConfigError(
                        "no such target", field=f"{group}.{name}", found=name, allowed=", ".join(self._targets)
                    )
        super().__init__(_spec(device, settings, self._targets, self._numbers), clock)
        self._state: Mapping[str, Any] = {}
        device.connect()
        self._cameras = make_patient(
            device, {name: features[name] for name in self._images}, self.spec.control_period_s
        )

    def prepare(self, seed: int | None, options: dict[str, Any]) -> None:
        """Go home in a straight line over some seconds, where there is one."""
        del seed, options
        if not self._home:
            return
        begin = self._device.get_observation()
        start = {name: float(begin.get(name, target)) for name, target in self._home.items()}
        self._rate.start()
        for part in np.linspace(0.0, 1.0, HOMING_PERIODS):
            self._device.send_action({n: a + float(part) * (self._home[n] - a) for n, a in start.items()})
            self._rate.wait()

    def send(self, action: Action) -> None:
        """By name."""
        wanted = {name: float(value) for name, value in zip(self._targets, action, strict=True)}
        sent = self._device.send_action(wanted)
        self._sent = np.array([sent.get(name, wanted[name]) for name in self._targets], np.float32)

    def observe(self) -> Observation:
        """Numbers in one field, pictures each in their own.

        Raises:
            RobotError: A value is missing.
        """
        seen = self._device.get_observation()
        try:
            observation: Observation = {STATE: np.array([seen[name] for name in self._numbers], np.float32)}
            return observation | {name: np.array(seen[name], np.uint8) for name in self._images}
        except KeyError as error:
            raise RobotError("the robot returned no such value", field=f"observation.{error.args[0]}") from None

    def signals(self) -> dict[str, NDArray[Any]]:
        """What was sent last."""
        return {SENT: self._sent.copy()}

    def dropped_frames(self) -> tuple[str, ...]:
        """Cameras whose picture is the one before."""
        return tuple(name for name, camera in self._cameras.items() if camera.dropped)

    def halt(self) -> None:
        """Hold the present positions."""
        seen = self._device.get_observation()
        hold = {name: float(seen[name]) for name in self._targets if name in seen and name.endswith(POSITION_SUFFIX)}
        still = {name: 0.0 for name in self._targets if not name.endswith(POSITION_SUFFIX)}
        self._device.send_action(hold | still)

    def disconnect(self) -> None:
        """Let LeRobot release the hardware."""
        self._device.disconnect()


def make_robot(argument: str, options: TaskOptions) -> Robot:
    """Open the LeRobot robot that a file describes.

    Raises:
        ConfigError: The file is wrong.
        UnknownNameError: LeRobot is not installed, or does not know the robot.
    """
    del options
    settings = _read(Path(argument))
    try:
        importlib.import_module(settings.module)
        draccus, robots = importlib.import_module("draccus"), importlib.import_module("lerobot.robots")
    except ModuleNotFoundError as error:
        raise UnknownNameError(
            f"needs the module '{error.name}'",
            field=f"{argument}: module",
            found=settings.module,
            hint="pip install 'robot-rlpd[lerobot]'",
        ) from None
    try:
        config = draccus.decode(robots.RobotConfig, {"type": settings.type, **settings.config})
    except Exception as error:  # draccus raises errors of its own for each thing that can be wrong
        raise ConfigError(str(error), field=f"{argument}: config") from None
    return LeRobotRobot(robots.make_robot_from_config(config), settings)


def _read(path: Path) -> LeRobotFile:
    try:
        return from_builtins(tomllib.loads(path.read_text()), LeRobotFile)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", field=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, SpecError) as error:
        raise ConfigError(str(error), field=str(path)) from None


def _spec(device: Device, settings: LeRobotFile, targets: list[str], numbers: list[str]) -> RobotSpec:
    pictures = [
        ArraySpec(name=name, shape=tuple(shape), dtype="uint8", is_image=True)
        for name, shape in device.observation_features.items()
        if isinstance(shape, tuple)
    ]
    return RobotSpec(
        name=device.name,
        observation=(ArraySpec(name=STATE, shape=(len(numbers),), components=tuple(numbers)), *pictures),
        action=ActionSpec(components=tuple(_component(name, settings) for name in targets)),
        control_rate_hz=settings.control_rate_hz,
        signals=(ArraySpec(name=SENT, shape=(len(targets),), components=tuple(targets)),),
        metadata={"driver": "lerobot", "type": settings.type},
    )


def _component(name: str, settings: LeRobotFile) -> ActionComponent:
    default = None
    if name.endswith(POSITION_SUFFIX):
        default = NORMALISED_GRIPPER if name.endswith(GRIPPER) else NORMALISED
    low, high = settings.bounds.get(name, default or (math.nan, math.nan))
    if math.isnan(low):
        raise ConfigError("needs bounds", field=f"bounds.{name}", allowed=f'such as "{name}" = [-1.0, 1.0]')
    return ActionComponent(name=name, low=low, high=high, frame="joint")
