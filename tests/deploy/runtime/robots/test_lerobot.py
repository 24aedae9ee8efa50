from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from deploy.runtime.robots.lerobot import LeRobotFile, LeRobotRobot, make_robot
from robot_rlpd.clock import ManualClock
from robot_rlpd.errors import ConfigError, RobotError, UnknownNameError
from robot_rlpd.limits import ComponentLimits, SafetyLimits
from robot_rlpd.safety import SafeRobot
from robot_rlpd.task import TaskOptions
from robot_rlpd.testing import RobotConformance

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.robot import Robot

JOINTS = ("shoulder_pan.pos", "elbow_flex.pos", "gripper.pos")
SETTINGS = LeRobotFile(type="so101_follower", module="lerobot.robots.so_follower")


@dataclass
class FakeDevice:
    """A LeRobot robot as its documentation describes one: goes at most 20 of the way to a target at once."""

    name: str = "so101_follower"
    targets: tuple[str, ...] = JOINTS
    positions: dict[str, float] = field(default_factory=lambda: dict.fromkeys(JOINTS, 10.0))
    sent: list[dict[str, float]] = field(default_factory=list)
    connected: bool = False

    @property
    def observation_features(self) -> dict[str, Any]:
        return {**dict.fromkeys(self.positions, float), "front": (4, 6, 3)}

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(self.targets, float)

    def connect(self, calibrate: bool = True) -> None:
        self.connected = True

    def get_observation(self) -> dict[str, Any]:
        assert self.connected
        return {**self.positions, "front": np.full((4, 6, 3), 7, np.uint8)}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        assert self.connected
        self.sent.append(dict(action))
        for name, target in action.items():
            here = self.positions[name]
            self.positions[name] = here + max(-20.0, min(20.0, target - here))
        return {name: self.positions[name] for name in action}

    def disconnect(self) -> None:
        self.connected = False


class TestLeRobotRobot(RobotConformance):
    def make_robot(self) -> Robot:
        return LeRobotRobot(FakeDevice(), SETTINGS, ManualClock())


def opened(**settings: Any) -> tuple[LeRobotRobot, FakeDevice, ManualClock]:
    device, clock = FakeDevice(), ManualClock()
    file = LeRobotFile(**{"type": "so101_follower", "module": "x", "control_rate_hz": 10.0, **settings})
    return LeRobotRobot(device, file, clock), device, clock


def test_names_become_components_with_lerobots_bounds_unless_told_otherwise() -> None:
    robot, _, _ = opened(bounds={"elbow_flex.pos": (-90.0, 45.0)})
    assert [(c.name, c.low, c.high) for c in robot.spec.action.components] == [
        ("shoulder_pan.pos", -100.0, 100.0),
        ("elbow_flex.pos", -90.0, 45.0),
        ("gripper.pos", 0.0, 100.0),
    ]
    state, front = robot.spec.observation
    assert (state.name, state.components) == ("state", JOINTS)
    assert (front.name, front.shape, front.is_image) == ("front", (4, 6, 3), True)


def test_a_step_sends_by_name_lasts_a_period_and_tells_what_was_really_sent() -> None:
    robot, device, clock = opened()
    robot.reset()
    action = np.array([50.0, 15.0, 0.0], np.float32)
    result = robot.step(action)
    assert device.sent[-1] == dict(zip(JOINTS, [50.0, 15.0, 0.0], strict=True))
    assert clock.now_s() == pytest.approx(0.1)
    assert result.executed_action is not None
    assert np.array_equal(result.executed_action, action)
    assert result.signals["sent_action"].tolist() == [30.0, 15.0, 0.0]
    assert result.observation["state"].tolist() == [30.0, 15.0, 0.0]
    assert (result.observation["front"] == 7).all()


def test_a_reset_goes_home_in_small_steps_where_there_is_a_home() -> None:
    robot, device, _ = opened(home={"shoulder_pan.pos": 90.0})
    assert robot.reset().observation["state"].tolist() == [90.0, 10.0, 10.0]
    targets = [sent["shoulder_pan.pos"] for sent in device.sent]
    assert max(np.diff(targets)) < 0.5
    robot, device, _ = opened()
    robot.reset()
    assert device.sent == []


def test_a_stop_holds_where_the_robot_is() -> None:
    robot, device, _ = opened()
    robot.reset()
    robot.stop("enough")
    assert device.sent[-1] == dict.fromkeys(JOINTS, 10.0)
    robot.close()
    assert not device.connected


def test_the_filter_finds_the_positions_by_name() -> None:
    robot, device, _ = opened()
    safe = SafeRobot(robot, SafetyLimits(components={"elbow_flex.pos": ComponentLimits(velocity=50.0)}))
    safe.reset()
    safe.step(np.array([10.0, 90.0, 10.0], np.float32))
    assert device.sent[-1]["elbow_flex.pos"] == pytest.approx(15.0)


def test_targets_that_are_no_positions_need_bounds_and_stand_still_at_a_stop() -> None:
    def base(**settings: Any) -> LeRobotRobot:
        device = FakeDevice(targets=("x.vel",), positions={"x.vel": 0.0})
        return LeRobotRobot(device, LeRobotFile(type="lekiwi", module="x", **settings), ManualClock())

    with pytest.raises(ConfigError, match=r"bounds\.x\.vel: needs bounds"):
        base()
    robot = base(bounds={"x.vel": (-0.3, 0.3)})
    robot.reset()
    robot.step(np.array([0.2], np.float32))
    robot.stop("enough")
    assert robot._device.sent[-1] == {"x.vel": 0.0}  # type: ignore[attr-defined]


def test_a_name_that_the_robot_does_not_have_is_told() -> None:
    with pytest.raises(ConfigError, match=r"home\.wrist\.pos: no such target; .*shoulder_pan\.pos"):
        opened(home={"wrist.pos": 1.0})


def test_a_value_that_is_missing_is_a_fault_of_the_robot() -> None:
    robot, device, _ = opened()
    del device.positions["gripper.pos"]
    with pytest.raises(RobotError, match=r"observation\.gripper\.pos"):
        robot.reset()


@pytest.fixture
def lerobot(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """LeRobot's modules, as far as they are used."""
    device = FakeDevice()
    draccus, robots, own = types.ModuleType("draccus"), types.ModuleType("lerobot.robots"), types.ModuleType("own")

    def decode(kind: str, values: dict[str, Any]) -> dict[str, Any]:
        if "port" not in values:
            raise ValueError("`port` is required")
        return {"kind": kind, **values}

    draccus.decode = decode  # type: ignore[attr-defined]
    robots.RobotConfig = "a robot"  # type: ignore[attr-defined]
    robots.make_robot_from_config = (  # type: ignore[attr-defined]
        lambda config: device if config == {"kind": "a robot", "type": "so101_follower", "port": "/dev/x"} else None
    )
    for module in (draccus, types.ModuleType("lerobot"), robots, own):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return device


def test_a_file_names_type_module_and_configuration(lerobot: FakeDevice, tmp_path: Path) -> None:
    file = tmp_path / "arm.toml"
    file.write_text('type = "so101_follower"\nmodule = "own"\n[config]\nport = "/dev/x"\n')
    with make_robot(str(file), TaskOptions()) as robot:
        assert robot.spec.control_rate_hz == 30.0
        assert lerobot.connected
    file.write_text('type = "so101_follower"\nmodule = "own"\n')
    with pytest.raises(ConfigError, match=r"config: `port` is required"):
        make_robot(str(file), TaskOptions())


def test_what_is_wrong_with_file_or_installation_is_told(tmp_path: Path) -> None:
    file = tmp_path / "arm.toml"
    with pytest.raises(ConfigError, match="cannot be read"):
        make_robot(str(file), TaskOptions())
    file.write_text('type = "so101_follower"')
    with pytest.raises(ConfigError, match="module"):
        make_robot(str(file), TaskOptions())
    file.write_text('type = "x"\nmodule = "no_such_module_at_all"')
    with pytest.raises(UnknownNameError, match=r"no_such_module_at_all.*pip install 'robot-rlpd\[lerobot\]'"):
        make_robot(str(file), TaskOptions())


class FakeCamera:
    """A camera of LeRobot: counts its pictures, and fails when it is unplugged."""

    def __init__(self) -> None:
        self.plugged, self.pictures, self.timeouts_ms, self.disconnected = True, 0, set[float](), False

    def async_read(self, timeout_ms: float = 200) -> Any:
        self.timeouts_ms.add(timeout_ms)
        if not self.plugged:
            raise TimeoutError("Timed out waiting for frame from camera")
        self.pictures += 1
        return np.full((4, 6, 3), self.pictures, np.uint8)

    def disconnect(self) -> None:
        self.disconnected = True


class FilmedDevice(FakeDevice):
    """Reads motors, then cameras, as LeRobot's arms do."""

    def __init__(self) -> None:
        super().__init__()
        self.camera = FakeCamera()
        self.cameras: dict[str, Any] = {"front": self.camera}

    def get_observation(self) -> dict[str, Any]:
        return {**self.positions, **{name: camera.async_read() for name, camera in self.cameras.items()}}

    def disconnect(self) -> None:
        for camera in self.cameras.values():
            camera.disconnect()


def filmed() -> tuple[LeRobotRobot, FilmedDevice]:
    device = FilmedDevice()
    return LeRobotRobot(device, LeRobotFile(type="x", module="x", control_rate_hz=10.0), ManualClock()), device


def test_a_camera_that_is_unplugged_costs_its_pictures_only_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    robot, device = filmed()
    action = np.array([12.0, 10.0, 10.0], np.float32)
    assert robot.reset().dropped_frames == ()
    device.camera.plugged = False
    for _ in range(3):
        result = robot.step(action)
        assert result.dropped_frames == ("front",)
        assert (result.observation["front"] == 1).all()
        assert result.observation["state"][0] == 12.0
    device.camera.plugged = True
    assert robot.step(action).dropped_frames == ()
    assert device.camera.timeouts_ms == {100.0}
    assert caplog.text.count("camera 'front' gives no image") == 1
    robot.close()
    assert device.camera.disconnected


def test_an_arm_is_halted_although_a_camera_is_gone() -> None:
    robot, device = filmed()
    robot.reset()
    device.camera.plugged = False
    robot.stop("test")
    assert device.sent[-1] == dict.fromkeys(JOINTS, 10.0)


def test_a_camera_that_never_gave_a_picture_is_black() -> None:
    robot, device = filmed()
    device.camera.plugged = False
    first = robot.reset()
    assert first.dropped_frames == ("front",)
    assert not first.observation["front"].any()
