"""A robot's own file: which driver, and the limits that hold whoever commands it. `--robot file:PATH` opens it."""

from __future__ import annotations

import fcntl
import os
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rlpd.bridge.robots import REMOTE, open_robot
from robot_rlpd.errors import ConfigError, RobotError, SpecError
from robot_rlpd.limits import BoxLimits, ComponentLimits, SafetyLimits, Watch
from robot_rlpd.previous_actions import check_count, remembering
from robot_rlpd.safety import SafeRobot
from robot_rlpd.specs import from_builtins
from robot_rlpd.watchdog import watch_beside

if TYPE_CHECKING:
    from robot_rlpd.robot import Robot
    from robot_rlpd.task import TaskOptions

NAME = "file"


@dataclass(frozen=True, kw_only=True)
class RobotFile:
    """What a robot file states, in TOML."""

    robot: str
    """The driver, NAME or NAME:ARGUMENT."""
    limits: dict[str, ComponentLimits] = field(default_factory=dict)
    """Limits by action component, tighter than the bounds of the spec."""
    workspace: dict[str, BoxLimits] = field(default_factory=dict)
    """Boxes that observed points must not leave, by observation field."""
    watch: Watch = field(default_factory=Watch)
    """Watchdogs."""
    previous_actions: int = 0
    """How many of the last executed actions are observed, for policies of robots that answer late."""

    @property
    def safety(self) -> SafetyLimits:
        """For the filter."""
        return SafetyLimits(components=self.limits, workspace=self.workspace, watch=self.watch)


def read_robot_file(path: Path) -> RobotFile:
    """Read and check a robot file, as far as that is possible without the robot.

    Raises:
        ConfigError: It cannot be read, is not TOML, or holds something unknown or impossible; names the field.
    """
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", field=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not TOML: {error}", field=str(path)) from None
    _refuse_unknown(data, path)
    try:
        read = from_builtins(data, RobotFile)
    except SpecError as error:
        raise ConfigError(str(error), field=str(path)) from None
    if not read.robot or read.robot.startswith(REMOTE) or read.robot.partition(":")[0] == NAME:
        raise ConfigError(
            field=f"{path}: robot", found=read.robot, allowed="a driver of this machine, NAME or NAME:ARGUMENT"
        )
    check_count(read.previous_actions, field=f"{path}: previous_actions")
    for name, limits in read.limits.items():
        limits.check(f"limits.{name}")
    return read


def make_robot(argument: str, options: TaskOptions) -> Robot:
    """Open the robot that a file describes, within its limits; the file is locked as long as the robot is open.

    Raises:
        ConfigError: The file is wrong, or its limits do not fit the robot.
        RobotError: Another process has this robot open.
    """
    path = Path(argument)
    described = read_robot_file(path)
    seat = _take_seat(path)
    try:
        driver = open_robot(described.robot, options=options)
        try:
            driver = remembering(driver, described.previous_actions)
            robot = _SeatedRobot(driver, described.safety, seat)
        except BaseException:
            driver.close()
            raise
    except BaseException:
        os.close(seat)
        raise
    watch_beside(robot)
    return robot


class _SeatedRobot(SafeRobot):
    """Keeps other processes from opening the same robot; the operating system frees the seat whatever happens."""

    def __init__(self, robot: Robot, limits: SafetyLimits, seat: int) -> None:
        super().__init__(robot, limits)
        self._seat: int | None = seat

    def close(self) -> None:
        """Close the robot, then let others have it."""
        super().close()
        if self._seat is not None:
            os.close(self._seat)
            self._seat = None


def _take_seat(path: Path) -> int:
    seat = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(seat, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(seat)
        raise RobotError(
            "another process has this robot open", field=str(path), allowed="one commander at a time"
        ) from None
    return seat


def _refuse_unknown(data: dict[str, Any], path: Path) -> None:
    tables = {"limits": ComponentLimits, "workspace": BoxLimits}
    _check_keys(data, RobotFile, path, "")
    if "robot" not in data:
        raise ConfigError("missing", field=f"{path}: robot", allowed='such as robot = "sim:pick_place"')
    _check_keys(data.get("watch", {}), Watch, path, "watch")
    for group, kind in tables.items():
        for name, table in _table(data.get(group, {}), path, group).items():
            _check_keys(table, kind, path, f"{group}.{name}")


def _table(value: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(field=f"{path}: {where}", found=str(value), allowed=f"a table, [{where}]")
    return value


def _check_keys(value: Any, kind: type, path: Path, where: str) -> None:
    allowed = [f.name for f in fields(kind)]
    for key in _table(value, path, where):
        if key not in allowed:
            name = f"{where}.{key}" if where else key
            raise ConfigError("unknown", field=f"{path}: {name}", found=key, allowed=", ".join(allowed))
