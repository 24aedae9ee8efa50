"""Replies as a client hands them on: checked against the spec once for each layout, images decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robot_rlpd.bridge.templates import Template, reply_template
from robot_rlpd.errors import ProtocolError
from robot_rlpd.images import decode, is_encodable
from robot_rlpd.robot import StepResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from robot_rlpd.bridge.arrays import Buffer, Layout
    from robot_rlpd.bridge.wire import Reply
    from robot_rlpd.specs import RobotSpec


class Results:
    """Makes results of replies.

    Args:
        spec: Of the robot.
        jpeg: Whether camera images come as JPEG.
    """

    def __init__(self, spec: RobotSpec, *, jpeg: bool = False) -> None:
        self._spec = spec
        self._cameras = {f"observation.{s.name}": s for s in spec.observation if jpeg and is_encodable(s)}
        self._observation = tuple((s.name, f"observation.{s.name}") for s in spec.observation)
        self._signals: tuple[tuple[str, str], ...] = ()
        self._layout: Layout | None = None
        self._template: Template | None = None

    def result(self, reply: Reply, layout: Layout, arrays: dict[str, NDArray[Any]]) -> StepResult:
        """The result of a step or a reset.

        Raises:
            ProtocolError: Other arrays than the spec has.
            DataError: A JPEG that cannot be read or has another size.
        """
        if layout is not self._layout:
            self._accept(layout)
        if self._cameras:
            arrays |= {key: decode(arrays[key], camera.shape, key) for key, camera in self._cameras.items()}
        result = self._made(arrays, reply.robot_time_s)
        result.fault, result.randomization = reply.fault, reply.randomization
        result.frame_times_s, result.dropped_frames = reply.frame_times_s, reply.dropped_frames
        return result

    def read(self, frames: Sequence[Buffer], sequence: int) -> StepResult | None:
        """The result in a reply that differs from the last one in its numbers only; None of any other.

        Raises:
            ProtocolError: The frames after the header are not those that its table names.
        """
        found = None if self._template is None else self._template.read(frames, sequence)
        return None if found is None else self._made(found[1], found[0])

    def _made(self, arrays: dict[str, NDArray[Any]], robot_time_s: float) -> StepResult:
        observation, signals = {}, {}
        for name, key in self._observation:
            observation[name] = arrays[key]
        for name, key in self._signals:
            signals[name] = arrays[key]
        return StepResult(observation, arrays.get("executed_action"), signals, robot_time_s)

    def _accept(self, layout: Layout) -> None:
        spec = self._spec
        fields = {f"observation.{s.name}": (s.dtype, s.shape) for s in spec.observation}
        allowed = fields | {f"signals.{s.name}": (s.dtype, s.shape) for s in spec.signals}
        allowed["executed_action"] = ("float32", (spec.action.size,))
        found = {entry.name: (entry.dtype, entry.shape) for entry in layout.entries}
        for name in self._cameras.keys() & found.keys():
            if found[name][0] == "uint8" and len(found[name][1]) == 1:  # bytes of an image, as many as it takes
                allowed[name] = fields[name] = found[name]
        for name in [*found, *fields]:
            if name not in found or found[name] != allowed.get(name):
                raise ProtocolError(
                    "the reply does not follow the spec",
                    field=name,
                    found=str(found.get(name, "nothing")),
                    allowed=str(allowed.get(name, "nothing")),
                )
        self._signals = tuple((key[8:], key) for key in found if key.startswith("signals."))
        self._layout = layout
        self._template = None if self._cameras else reply_template(layout)
