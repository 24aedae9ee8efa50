from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from robot_rlpd.bridge.robots import open_robot
from robot_rlpd.errors import ConfigError, RobotError
from robot_rlpd.limits import ComponentLimits
from robot_rlpd.robot_file import make_robot, read_robot_file
from robot_rlpd.safety import SafeRobot
from robot_rlpd.task import TaskOptions
from robot_rlpd.testing import RobotConformance

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.robot import Robot

ARM = """
robot = "sim:reach"

[limits.tcp_dx]
low = 0.26
high = 0.5
velocity = 0.2
acceleration = 1.0
margin = 0.01
measured = "tcp_position[x]"

[workspace.tcp_position]
low = [0.2, -0.3, 0.0]
high = [0.6, 0.3, 0.4]
margin = 0.01

[watch]
command_timeout_s = 5
max_missed_ticks = 20
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "arm.toml").write_text(ARM)
    return tmp_path / "arm.toml"


class TestRobotOfAFile(RobotConformance):
    @pytest.fixture(autouse=True)
    def a_file(self, file: Path) -> None:
        self.file = file

    def make_robot(self) -> Robot:
        return make_robot(str(self.file), TaskOptions())


def test_a_file_names_driver_limits_and_watchdogs(file: Path) -> None:
    read = read_robot_file(file)
    assert read.robot == "sim:reach"
    assert read.limits["tcp_dx"] == ComponentLimits(
        low=0.26, high=0.5, velocity=0.2, acceleration=1.0, margin=0.01, measured="tcp_position[x]"
    )
    assert read.watch.command_timeout_s == 5.0
    assert read.safety.workspace["tcp_position"].high == (0.6, 0.3, 0.4)


def test_the_robot_of_a_file_is_opened_by_name_and_stays_within_its_limits(file: Path) -> None:
    with open_robot(f"file:{file}") as robot:
        result = robot.reset(seed=0)
        for _ in range(40):
            result = robot.step(np.array([0.03, 0.0, 0.0, 0.08], np.float32))
            assert float(result.signals["applied_action"][0]) <= 0.02 + 1e-6
        assert 0.45 < float(result.observation["tcp_position"][0]) < 0.51
        assert isinstance(robot, SafeRobot)
        assert robot.counts.limited_steps == 40


def test_one_process_at_a_time_has_the_robot(file: Path) -> None:
    probe = (
        "import sys; from robot_rlpd.robot_file import make_robot; from robot_rlpd.task import TaskOptions\n"
        "make_robot(sys.argv[1], TaskOptions()).close()"
    )

    def other_process() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", probe, str(file)], capture_output=True, text=True, check=False, timeout=120
        )

    with make_robot(str(file), TaskOptions()):
        with pytest.raises(RobotError, match="another process has this robot open; allowed: one commander"):
            make_robot(str(file), TaskOptions())
        assert "another process has this robot open" in other_process().stderr
    assert other_process().returncode == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "robot: missing; allowed: such as"),
        ('robot = "tcp://127.0.0.1:1"', "robot: found tcp.*allowed: a driver of this machine"),
        ('robot = "file:arm.toml"', "robot: found file"),
        ("robot = 3", "Expected `str`, got `int`"),
        ('robot = "sim:reach"\nspeed = 3', "speed: unknown; found speed; allowed: robot, limits, workspace, watch"),
        ('robot = "sim:reach"\nlimits = 3', r"limits: found 3; allowed: a table, \[limits\]"),
        ('robot = "sim:reach"\n[limits.x]\nspeed = 3', r"limits\.x\.speed: unknown; .*velocity"),
        ('robot = "sim:reach"\n[limits.x]\nvelocity = -1', r"limits\.x\.velocity: found -1\.0; allowed: above 0"),
        ('robot = "sim:reach"\n[limits.x]\nvelocity = "fast"', r"Expected `float \| null`, got `str`"),
        ('robot = "sim:reach"\n[workspace.x]\nfoo = 3', r"workspace\.x\.foo: unknown"),
        ('robot = "sim:reach"\n[watch]\ncommand_timeout_s = 0', "command_timeout_s: found 0"),
        ("robot =", "not TOML"),
        ("robot = \xff", "not TOML"),
    ],
)
def test_a_wrong_file_is_told_with_the_field(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "wrong.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=told):
        read_robot_file(tmp_path / "wrong.toml")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        read_robot_file(tmp_path / "none.toml")


def test_limits_that_do_not_fit_the_robot_leave_it_free_for_the_next(file: Path) -> None:
    file.write_text(ARM.replace("tcp_dx", "elbow"))
    with pytest.raises(ConfigError, match=r"limits\.elbow: .*allowed: tcp_dx"):
        make_robot(str(file), TaskOptions())
    file.write_text(ARM)
    make_robot(str(file), TaskOptions()).close()
