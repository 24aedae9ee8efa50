"""The browser as a device of the recorder: what the page commands, what it is shown, and the server between them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from demos.teleop.browser import BrowserDevice
from demos.web.bridge_look import look_at_bridge
from demos.web.driving import DrivingPages
from demos.web.view import View
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from demos.recording.state import RecorderState
    from demos.web.server import ServingOptions
    from robot_rlpd.episode import Episode, EpisodeInfo, Step
    from robot_rlpd.robot import Observation, Robot, StepResult
    from robot_rlpd.specs import RobotSpec

SWITCH_INTERVAL_S = 0.0005


class BrowserConsole(BrowserDevice):
    """A `BrowserDevice` that serves its page.

    Args:
        spec: Of the robot.
        serving: Where.
        robot: If it is a served one, the page shows how the bridge does.

    Attributes:
        url: Address of the page.

    Raises:
        ConfigError: The robot takes no deltas, or the address cannot be used.
    """

    def __init__(self, spec: RobotSpec, serving: ServingOptions, *, robot: Robot | None = None) -> None:
        super().__init__(spec.action, spec.control_rate_hz)
        # The server's thread must not keep the interpreter from the control loop for Python's usual 5 ms.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._view = View(spec, self)
        self._bridge = look_at_bridge(robot)
        try:
            self._pages = DrivingPages(self, self._view, serving, bridge=self._bridge)
        except ConfigError:
            self._close_bridge()
            raise
        self.url = self._pages.url
        sys.stderr.write(f"the page is at {self.url}\n")

    def show(self, state: RecorderState) -> None:
        """Show the state of the session."""
        self._view.show(state)

    def show_between(self, observation: Observation) -> None:
        """Show what the robot sees."""
        self._view.observe(observation)

    def on_start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """Show the first observation."""
        del spec, info, wall_time_s
        self._view.observe(first.observation)

    def on_step(self, step: Step) -> None:
        """Show the step."""
        self._view.observe(step.result.observation, step)

    def on_end(self, episode: Episode) -> None:
        """Nothing."""

    def close(self) -> None:
        """Stop serving."""
        self._pages.close()
        self._close_bridge()

    def _close_bridge(self) -> None:
        if self._bridge is not None:
            self._bridge.close()


def parse_port(text: str) -> int:
    """A port from an option.

    Raises:
        ConfigError: Not one.
    """
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise ConfigError(field="port", found=text, allowed="0 to 65535")
    return int(text)
