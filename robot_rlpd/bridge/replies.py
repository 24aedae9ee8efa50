"""Results of a robot as replies: the same arrays at every step, so their layout is looked up by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd import images
from robot_rlpd.bridge import wire
from robot_rlpd.bridge.arrays import layout_of
from robot_rlpd.bridge.templates import Template, reply_template

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.bridge.arrays import Buffer
    from robot_rlpd.robot import StepResult
    from robot_rlpd.specs import RobotSpec


class Replies:
    """Encodes results.

    Args:
        spec: Of the robot, which checks its observations against it itself (`SafeRobot`).
        jpeg: Whether camera images travel as JPEG.
    """

    def __init__(self, spec: RobotSpec, *, jpeg: bool = False) -> None:
        self._observation = tuple((s.name, f"observation.{s.name}") for s in spec.observation)
        self._signals = tuple((s, f"signals.{s.name}") for s in spec.signals)
        self._cameras = [f"observation.{s.name}" for s in spec.observation if jpeg and images.is_encodable(s)]
        self._action = spec.action
        self._shape = spec.action.low.shape
        self._templates: dict[tuple[str, ...], Template] = {}

    def encode(self, sequence: int, result: StepResult) -> list[Buffer]:
        """The frames of a reply.

        Raises:
            SpecError: A signal or the executed action is not what the spec says.
        """
        observation, signals, executed = result.observation, result.signals, result.executed_action
        arrays = {}
        for name, key in self._observation:
            arrays[key] = observation[name]
        if signals:
            for spec, key in self._signals:
                if spec.name in signals:
                    arrays[key] = spec.validate(signals[spec.name])
        if executed is not None:
            is_as_said = executed.dtype == wire.ACTION_DTYPE and executed.shape == self._shape
            arrays["executed_action"] = executed if is_as_said else self._action.validate(executed)
        if self._cameras:
            arrays |= {key: _jpeg(arrays[key]) for key in self._cameras}
        if self._cameras or result.fault or result.frame_times_s or result.dropped_frames or result.randomization:
            return wire.encode_reply(sequence, result, arrays)
        names = tuple(arrays)
        template = self._templates.get(names)
        if template is None:
            template = self._templates[names] = reply_template(layout_of(arrays))
        return template.frames(sequence, arrays, result.robot_time_s)


def _jpeg(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(images.encode(image), np.uint8)
