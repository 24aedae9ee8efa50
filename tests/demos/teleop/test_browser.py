from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from demos.teleop.browser import HOLD_WITHIN_S, BrowserDevice
from demos.testing import TeleopConformance, arm_spec
from robot_rlpd.clock import ManualClock

if TYPE_CHECKING:
    from demos.teleop.device import Request
    from robot_rlpd.robot import Policy

ARM = arm_spec().action
HOLD = [0.0, 0.0, 0.0, 0.08]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


def act(device: BrowserDevice) -> list[float]:
    return [round(float(value), 6) for value in device({})]


@pytest.mark.parametrize("rate_hz", [10.0, 20.0, 100.0])
def test_the_robot_stands_still_within_the_limit_after_the_last_command(rate_hz: float, clock: ManualClock) -> None:
    device = BrowserDevice(ARM, rate_hz, clock)
    device.drive([1.0, -1.0, 0.5], device.now_s())
    sent_s, stands_still_s = clock.now_s(), 0.0
    assert act(device) == [0.2, -0.1, 0.1, 0.08]
    for _ in range(200):
        moving = act(device) != HOLD
        clock.advance(1.0 / rate_hz)  # the period in which that action is carried out
        if moving:
            stands_still_s = clock.now_s()
    assert 0.0 < stands_still_s - sent_s <= HOLD_WITHIN_S + 1e-9
    assert device.holding


def test_a_command_that_a_stalled_network_delivers_late_does_not_drive(clock: ManualClock) -> None:
    device = BrowserDevice(ARM, 20.0, clock)
    seen_s = device.now_s()
    clock.advance(1.0)
    device.drive([1.0, 0.0, 0.0], seen_s)
    assert act(device) == HOLD


def test_a_page_cannot_claim_to_have_seen_the_future(clock: ManualClock) -> None:
    device = BrowserDevice(ARM, 20.0, clock)
    device.drive([1.0, 0.0, 0.0], device.now_s() + 1000.0)
    clock.advance(0.3)
    assert act(device) == HOLD


def test_releasing_holds_at_once_and_keeps_the_gripper(clock: ManualClock) -> None:
    device = BrowserDevice(ARM, 20.0, clock)
    device.switch_gripper()
    device.drive([1.0, 0.0, 0.0], device.now_s())
    assert act(device) == [0.2, 0.0, 0.0, 0.0]
    device.release()
    assert act(device) == [0.0, 0.0, 0.0, 0.0]


def test_whatever_the_page_sends_stays_within_the_bounds(clock: ManualClock) -> None:
    device = BrowserDevice(ARM, 20.0, clock)
    device.drive([1e300, float("-inf"), 0.0, 5.0, 5.0], device.now_s())
    action = device({})
    assert np.array_equal(action, np.array([0.2, -0.1, 0.0, 0.08], np.float32))


def test_buttons_are_told_once_and_forgotten_at_a_reset(clock: ManualClock) -> None:
    device = BrowserDevice(ARM, 20.0, clock)
    device.ask("success")
    device.ask("undo")
    assert device.poll() == ["success", "undo"]
    assert device.poll() == []
    device.ask("discard")
    device.reset()
    assert device.poll() == []


class TestBrowserConforms(TeleopConformance):
    def make_device(self) -> Policy:
        self.clock = ManualClock()
        self.device = BrowserDevice(arm_spec().action, 10.0, self.clock)
        return self.device

    def push(self) -> None:
        self.device.drive([1.0, 0.0, 0.0], self.device.now_s())

    def let_go(self) -> None:
        self.clock.advance(HOLD_WITHIN_S)

    def ask(self) -> Request:
        self.device.ask("rerecord")
        return "rerecord"
