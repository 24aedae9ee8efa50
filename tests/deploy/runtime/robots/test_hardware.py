"""What the base for drivers makes of a driver's sensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.runtime.robots.hardware import HardwareRobot
from robot_rlpd.clock import ManualClock
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.robot import look_at
from robot_rlpd.safety import SafeRobot
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.testing import FakeRobot

if TYPE_CHECKING:
    from robot_rlpd.robot import Action, Observation

SPEC = RobotSpec(
    name="filmed",
    observation=(ArraySpec(name="front", shape=(4, 6, 3), dtype="uint8", is_image=True),),
    action=ActionSpec(components=(ActionComponent(name="x", low=-1.0, high=1.0),)),
    control_rate_hz=10.0,
)


class Filmed(HardwareRobot):
    """Counts its images; the camera can be unplugged."""

    def __init__(self) -> None:
        super().__init__(SPEC, ManualClock(5.0))
        self.image, self.is_plugged, self.sent = 0, True, 0

    def prepare(self, seed: int | None, options: dict[str, Any]) -> None: ...

    def send(self, action: Action) -> None:
        self.sent += 1

    def observe(self) -> Observation:
        self.image += int(self.is_plugged)
        return {"front": np.full((4, 6, 3), self.image, np.uint8)}

    def dropped_frames(self) -> tuple[str, ...]:
        return () if self.is_plugged else ("front",)

    def frame_times_s(self) -> dict[str, float]:
        return {"front": self.time_s() - 0.03}

    def halt(self) -> None: ...

    def disconnect(self) -> None: ...


def test_a_driver_tells_which_frames_were_dropped_and_when_the_others_were_taken() -> None:
    robot = Filmed()
    assert robot.reset().frame_times_s == {"front": 5.0 - 0.03}
    robot.is_plugged = False
    result = robot.step(np.zeros(1, np.float32))
    assert result.dropped_frames == ("front",)
    assert result.executed_action is not None
    assert (result.observation["front"] == 1).all()


def test_a_driver_can_be_looked_at_through_all_that_wraps_it_and_nothing_moves() -> None:
    driver = Filmed()
    robot = SafeRobot(PacedRobot(driver, ManualClock()))
    driver.is_plugged = False
    seen = look_at(robot)
    assert seen is not None
    assert (seen.dropped_frames, driver.sent) == (("front",), 0)


def test_a_robot_that_does_not_tell_what_it_sees_says_so() -> None:
    robot = SafeRobot(FakeRobot())
    assert look_at(robot) is None
