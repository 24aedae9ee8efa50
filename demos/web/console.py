"""The browser as a device of the recorder: what the page commands, what it is shown, and the server between them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from demos.teleop.browser import BrowserDevice
from demos.web.server import ConsoleServer
from demos.web.view import View
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from demos.recording.state import RecorderState
    from robot_rlpd.episode import Episode, EpisodeInfo, Step
    from robot_rlpd.robot import StepResult
    from robot_rlpd.specs import RobotSpec

SWITCH_INTERVAL_S = 0.0005


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """Where the page is.

    Attributes:
        host: Address to listen at.
        port: 0 takes a free one.
        token: Has to be in the page's address; needed wherever others can reach it.
        certificate: Files of the certificate chain and its key, for https.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    certificate: tuple[Path, Path] | None = None


class BrowserConsole(BrowserDevice):
    """A `BrowserDevice` that serves its page.

    Args:
        spec: Of the robot.
        serving: Where.

    Attributes:
        url: Address of the page.

    Raises:
        ConfigError: The robot takes no deltas, or the address cannot be used.
    """

    def __init__(self, spec: RobotSpec, serving: ServingOptions) -> None:
        super().__init__(spec.action, spec.control_rate_hz)
        # The server's thread must not keep the interpreter from the control loop for Python's usual 5 ms.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._view = View(spec, self)
        self._server = ConsoleServer(self, self._view, serving)
        self.url = self._server.url
        sys.stderr.write(f"the page is at {self.url}\n")

    def show(self, state: RecorderState) -> None:
        """Show the state of the session."""
        self._view.show(state)

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
        self._server.close()


def parse_port(text: str) -> int:
    """A port from an option.

    Raises:
        ConfigError: Not one.
    """
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise ConfigError(field="port", found=text, allowed="0 to 65535")
    return int(text)
