"""How steps get from the control loop to the writer's process: shared memory for the arrays, a socket for the rest.

Both processes map one block of memory, cut into slots of one step each. The loop copies a step into a free slot and
sends a message of some hundred bytes that names it; the writer spools the step and sends the number of the slot back,
which acknowledges the step and frees the slot. What was sent is read also when the sender has been killed.
"""

from __future__ import annotations

import mmap
import socket
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

from robot_rlpd.episode import EpisodeInfo
from robot_rlpd.images import ImageCodec
from robot_rlpd.robot import StepResult
from robot_rlpd.specs import ArraySpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.robot import Action
    from robot_rlpd.specs import RobotSpec

MEMORY_BYTES = 128 * 2**20
MIN_SLOTS, MAX_SLOTS = 8, 1024
MAX_MESSAGE_BYTES = 2**20
_ALIGNMENT = 64


class Open(msgspec.Struct, tag=True):
    """The first message: the store to write to, the shape of everything, and how images are kept if that was said."""

    path: str
    spec: Any
    exist_ok: bool
    codec: ImageCodec | None


class Opened(msgspec.Struct, tag=True):
    """The store is open for writing; `last_seed` is the largest reset seed in it, -1 without one."""

    episodes: int
    last_seed: int


class Times(msgspec.Struct):
    """When an observation was made, and its frames."""

    robot_time_s: float
    wall_time_s: float
    frame_times_s: dict[str, float]
    dropped_frames: tuple[str, ...]

    @classmethod
    def of(cls, result: StepResult, wall_time_s: float) -> Self:
        """Those of a result."""
        return cls(result.robot_time_s, wall_time_s, result.frame_times_s, result.dropped_frames)


class Start(msgspec.Struct, tag=True):
    """An episode begins with the observation in a slot."""

    slot: int
    info: EpisodeInfo
    times: Times


class Step(msgspec.Struct, tag=True):
    """A step is in a slot."""

    slot: int
    source: int
    times: Times


class Spooled(msgspec.Struct, tag=True):
    """What was in the slot is safe, and the slot is free."""

    slot: int


class End(msgspec.Struct, tag=True):
    """An episode is over."""

    info: EpisodeInfo
    keep: bool


class Commit(msgspec.Struct, tag=True):
    """Store the last episode."""


class Undo(msgspec.Struct, tag=True):
    """Drop the last episode."""


class Close(msgspec.Struct, tag=True):
    """Store everything and end."""


class Done(msgspec.Struct, tag=True):
    """`Close` is done; so many episodes are in the store now."""

    episodes: int


class Failed(msgspec.Struct, tag=True):
    """The writer cannot go on; an error of `robot_rlpd.errors` in parts."""

    kind: str
    message: str
    field: str = ""
    found: str | None = None
    allowed: str = ""
    hint: str = ""


ToWriter = Open | Start | Step | End | Commit | Undo | Close
FromWriter = Opened | Spooled | Done | Failed


class Slots:
    """Steps in shared memory.

    Args:
        descriptor: Of a file in memory of `size_bytes`.
        spec: Decides how a step lies in a slot.

    Attributes:
        slot_bytes: Size of a slot.
        count: Number of slots.
    """

    def __init__(self, descriptor: int, spec: RobotSpec) -> None:
        self._spec = spec
        self._places, self.slot_bytes = _places(spec)
        self.count = _slot_count(self.slot_bytes)
        self._memory = mmap.mmap(descriptor, self.count * self.slot_bytes)

    def write(self, slot: int, result: StepResult, action: Action | None = None) -> None:
        """Copy a step, or the result of a reset, into a slot."""
        for field in self._spec.observation:
            self._array(slot, f"o/{field.name}")[...] = result.observation[field.name]
        if action is None:
            return
        self._array(slot, "action")[...] = action
        self._array(slot, "executed_action")[...] = action if result.executed_action is None else result.executed_action
        for field in self._spec.signals:
            self._array(slot, f"s/{field.name}")[...] = result.signals.get(field.name, 0)

    def read(self, slot: int, times: Times) -> tuple[Action, StepResult]:
        """A step; its arrays are those of the slot: use them before it is free again."""
        result = StepResult(
            observation={field.name: self._array(slot, f"o/{field.name}") for field in self._spec.observation},
            executed_action=self._array(slot, "executed_action"),
            signals={field.name: self._array(slot, f"s/{field.name}") for field in self._spec.signals},
            robot_time_s=times.robot_time_s,
            frame_times_s=times.frame_times_s,
            dropped_frames=times.dropped_frames,
        )
        return self._array(slot, "action"), result

    def _array(self, slot: int, name: str) -> NDArray[Any]:
        start, field = self._places[name]
        flat = np.frombuffer(self._memory, field.dtype, field.size, slot * self.slot_bytes + start)
        return flat.reshape(field.shape)


def size_bytes(spec: RobotSpec) -> int:
    """Memory that `Slots` needs; pages that are never touched cost nothing."""
    _, slot_bytes = _places(spec)
    return _slot_count(slot_bytes) * slot_bytes


def _slot_count(slot_bytes: int) -> int:
    return min(max(MEMORY_BYTES // slot_bytes, MIN_SLOTS), MAX_SLOTS)


def _places(spec: RobotSpec) -> tuple[dict[str, tuple[int, ArraySpec]], int]:
    """Where each array begins in a slot, and the size of a slot, in bytes."""
    actions = tuple(ArraySpec(name=name, shape=(spec.action.size,)) for name in ("action", "executed_action"))
    places: dict[str, tuple[int, ArraySpec]] = {}
    at = 0
    for prefix, group in (("", actions), ("o/", spec.observation), ("s/", spec.signals)):
        for field in group:
            places[prefix + field.name] = (at, field)
            at += -(-field.size * np.dtype(field.dtype).itemsize // _ALIGNMENT) * _ALIGNMENT
    return places, at


def send(connection: socket.socket, message: ToWriter | FromWriter) -> None:
    """Send one message.

    Raises:
        OSError: The other side is gone.
    """
    connection.send(msgspec.msgpack.encode(message))


def receive(connection: socket.socket, *, blocking: bool = True) -> bytes | None:
    """One message; b"" when the other side is gone, None when nothing is there and `blocking` is False.

    Raises:
        TimeoutError: The socket has a timeout and it ran out.
    """
    flags = 0 if blocking else socket.MSG_DONTWAIT
    while True:
        try:
            return connection.recv(MAX_MESSAGE_BYTES, flags)
        except BlockingIOError:
            return None
        except ConnectionResetError:  # told once when the other side was killed, before what it had sent
            continue
