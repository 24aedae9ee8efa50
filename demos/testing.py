"""Conformance suite of teleoperation devices, shipped for the tests of users' own.

Subclass it in a test module, and say how to make the device with a fake of its driver and how to play on that:

    class TestMyDevice(TeleopConformance):
        def make_device(self) -> Policy:
            self.driver = FakeDriver()
            return MyDevice(self.make_spec().action, self.driver)

        def push(self) -> None:
            self.driver.stick = 1.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from demos.teleop.device import REQUESTS, Controls
from robot_rlpd.errors import RobotError
from robot_rlpd.robot import Policy, Source
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

if TYPE_CHECKING:
    from demos.teleop.device import Request
    from robot_rlpd.robot import Action


def arm_spec() -> RobotSpec:
    """A robot as most devices drive it: three deltas with uneven bounds, and a gripper."""
    moves = (ActionComponent(name=f"tcp_d{axis}", low=-0.1, high=0.2, unit="m", mode="delta") for axis in "xyz")
    gripper = ActionComponent(name="gripper_opening", low=0.0, high=0.08, unit="m")
    return RobotSpec(
        name="arm",
        observation=(
            ArraySpec(name="tcp_position", shape=(3,), unit="m", components=("x", "y", "z")),
            ArraySpec(name="gripper_opening", shape=(1,), unit="m"),
        ),
        action=ActionSpec(components=(*moves, gripper)),
        control_rate_hz=10.0,
    )


class TeleopConformance:
    """What every teleoperation device has to do. Needs pytest's collection only, no fixtures."""

    def make_spec(self) -> RobotSpec:
        """Spec of a robot that the device drives; its first component is a delta."""
        return arm_spec()

    def make_device(self) -> Policy:
        """A fresh device under test, with a fake of its driver that nobody touches."""
        raise NotImplementedError("return the device under test")

    def push(self) -> None:
        """Push the first component up as far as the device can, until `let_go`."""
        raise NotImplementedError("push on the fake driver")

    def let_go(self) -> None:
        """Touch nothing any more."""
        raise NotImplementedError("let go of the fake driver")

    def ask(self) -> Request | None:
        """Press something that asks for a request, and return that; None for a device without buttons."""
        return None

    def unplug(self) -> bool:
        """Take the driver away; False for a device that cannot lose it."""
        return False

    def test_is_a_policy_of_a_person(self) -> None:
        """Steps are recorded as human."""
        device = self.make_device()
        assert isinstance(device, Policy)
        assert device.source is Source.HUMAN

    def test_holds_the_robot_until_it_is_touched_and_after(self) -> None:
        """Deltas are zero when nobody touches it."""
        device = self._started()
        assert not self._moves(self._act(device)).any()
        self.push()
        assert self._moves(self._act(device))[0] > 0.0
        self.let_go()
        for _ in range(20):
            action = self._act(device)
        assert not self._moves(action).any()

    def test_a_push_reaches_the_bound_and_no_further(self) -> None:
        """Full deflection is the upper bound of the component."""
        device = self._started()
        self.push()
        spec = self.make_spec().action
        action = self._act(device)
        assert action[0] == spec.high[0]
        assert (action >= spec.low).all()
        assert (action <= spec.high).all()

    def test_actions_belong_to_the_caller(self) -> None:
        """A later action does not change one returned before."""
        device = self._started()
        before = self._act(device)
        copy = before.copy()
        self.push()
        self._act(device)
        assert np.array_equal(before, copy)

    def test_a_request_is_told_once_and_forgotten_at_a_reset(self) -> None:
        """Also when the action was asked for in between."""
        device = self._started()
        request = self.ask()
        if request is None:
            assert not isinstance(device, Controls)
            return
        assert isinstance(device, Controls)
        self._act(device)
        assert request in REQUESTS
        assert device.poll() == [request]
        assert device.poll() == []
        self.let_go()
        device.poll()
        self.ask()
        device.reset()
        assert device.poll() == []

    def test_a_lost_driver_is_an_error_of_the_robot(self) -> None:
        """So the loop stops the robot."""
        device = self._started()
        if not self.unplug():
            return
        try:
            self._act(device)
        except RobotError:
            return
        raise AssertionError("a device without its driver went on")

    def test_can_be_closed(self) -> None:
        """Whether it was used or not."""
        device = self.make_device()
        close = getattr(device, "close", lambda: None)
        close()

    def _started(self) -> Policy:
        device = self.make_device()
        device.reset()
        return device

    def _act(self, device: Policy) -> Action:
        spec = self.make_spec()
        action = device({s.name: np.zeros(s.shape, s.dtype) for s in spec.observation})
        assert action.dtype == np.float32
        return spec.action.validate(action)

    def _moves(self, action: Action) -> Action:
        is_delta = [component.mode == "delta" for component in self.make_spec().action.components]
        return action[is_delta]
