"""What the page is shown: the newest observation and the state of the session, as messages."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from demos.teleop.browser import HOLD_WITHIN_S
from robot_rlpd import images
from robot_rlpd.images import is_encodable
from robot_rlpd.specs import to_builtins

if TYPE_CHECKING:
    from demos.recording.state import RecorderState
    from demos.teleop.browser import BrowserDevice
    from robot_rlpd.episode import Step
    from robot_rlpd.robot import Observation
    from robot_rlpd.specs import ArraySpec, RobotSpec

VIEW_QUALITY = 80
"""JPEG quality of what is looked at; what is recorded has its own."""
MAX_SHOWN = 64
"""Larger fields are not shown as numbers."""


class View:
    """Takes what the loop shows, gives what the page is sent; from two threads.

    Args:
        spec: Of the robot.
        device: Whose commands are shown.
    """

    def __init__(self, spec: RobotSpec, device: BrowserDevice) -> None:
        self._spec = spec
        self._device = device
        self._lock = threading.Lock()
        self._cameras, self._fields = shown_fields(spec)
        self._observation: Observation | None = None
        self._step: Step | None = None
        self._state: dict[str, Any] = {}
        self._jpegs: tuple[int, list[bytes]] = (0, [])
        self.version = 0

    def show(self, state: RecorderState) -> None:
        """A new state."""
        shown = asdict(state)
        with self._lock:
            self._state = shown

    def observe(self, observation: Observation, step: Step | None = None) -> None:
        """A new observation, and the step that led to it."""
        with self._lock:
            self._observation, self._step = observation, step
            self.version += 1

    def hello(self) -> bytes:
        """What does not change, for a page that has just connected."""
        return _encode(
            type="hello",
            robot=self._spec.name,
            control_rate_hz=self._spec.control_rate_hz,
            cameras=[field.name for field in self._cameras],
            fields=described(self._fields),
            action=[component.name for component in self._spec.action.components],
            axes=self._device.axes,
            gripper=self._device.gripper_high is not None,
            hold_within_ms=round(1000 * HOLD_WITHIN_S),
            max_age_ms=round(1000 * self._device.max_age_s),
        )

    def state(self, *, driving: bool, watchers: int) -> bytes:
        """How things stand.

        Args:
            driving: Whether the page that this is for has the robot.
            watchers: Pages that look on.
        """
        with self._lock:
            state, observation, step = self._state, self._observation, self._step
        values = {} if observation is None else shown_numbers(self._fields, observation)
        return _encode(
            type="state",
            session=state,
            observation=values,
            action=None if step is None else _numbers(step.executed_action),
            reward=None if step is None else float(step.outcome.reward),
            success=step is not None and step.outcome.success,
            holding=self._device.holding,
            gripper_high=self._device.gripper_high,
            driving=driving,
            watchers=watchers,
        )

    def frames(self) -> list[bytes]:
        """One message per camera: its number as one byte, then the JPEG file. Called from one thread."""
        with self._lock:
            version, observation = self.version, self._observation
        if observation is None:
            return []
        if self._jpegs[0] != version:
            self._jpegs = (version, encoded_frames(self._cameras, observation))
        return self._jpegs[1]


def shown_fields(spec: RobotSpec) -> tuple[list[ArraySpec], list[ArraySpec]]:
    """The cameras, and the fields that are shown as numbers."""
    cameras = [field for field in spec.observation if is_encodable(field)]
    return cameras, [field for field in spec.observation if not field.is_image and field.size <= MAX_SHOWN]


def described(fields: list[ArraySpec]) -> list[dict[str, Any]]:
    """What a page has to know of fields."""
    told = [to_builtins(field) for field in fields]
    return [{key: field[key] for key in ("name", "unit", "components", "low", "high")} for field in told]


def shown_numbers(fields: list[ArraySpec], observation: Observation) -> dict[str, list[float]]:
    """Values by field."""
    return {field.name: _numbers(observation[field.name]) for field in fields}


def encoded_frames(cameras: list[ArraySpec], observation: Observation) -> list[bytes]:
    """One message per camera: its number as one byte, then the JPEG file."""
    return [
        bytes([number]) + images.encode(observation[field.name], VIEW_QUALITY) for number, field in enumerate(cameras)
    ]


def _numbers(array: Any) -> list[float]:
    return [round(float(value), 4) for value in np.asarray(array).ravel()]


def _encode(**message: Any) -> bytes:
    return msgspec.json.encode(message)
