"""A leader arm: any robot that a person moves by hand leads another."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.bridge.robots import open_robot
from robot_rlpd.clock import Clock, MonotonicClock
from robot_rlpd.errors import ConfigError, RobotError, RobotRlpdError
from robot_rlpd.robot import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from demos.teleop.device import DeviceOptions
    from robot_rlpd.robot import Action, Observation, Robot
    from robot_rlpd.specs import ActionSpec, RobotSpec

SILENT_S = 0.5
"""A leader that has not been heard for so long, beyond one of its control periods, stops the follower [s]."""


@dataclass(frozen=True)
class Reading:
    """Where a number stands in the leader's observation."""

    field: str
    index: int

    def of(self, observation: Observation) -> float:
        """The number."""
        return float(np.asarray(observation[self.field]).ravel()[self.index])


def find_reading(name: str, spec: RobotSpec) -> Reading | None:
    """What of a robot's observation an action component stands for.

    Either a component of the same name (the first field that has one), a field of one entry of that name, or, for a
    component such as `tcp_dx`, the entry `x` of the field `tcp_position`.
    """
    for field in spec.observation:
        if name in field.components:
            return Reading(field.name, field.components.index(name))
        if field.name == name and field.size == 1:
            return Reading(name, 0)
    part, found, axis = name.rpartition("_d")
    for field in spec.observation:
        if found and field.name == f"{part}_position" and axis in field.components:
            return Reading(field.name, field.components.index(axis))
    return None


class LeaderDevice:
    """Reads the leader in a thread of its own, at its own rate, and makes the follower do as it does.

    An absolute component takes the leader's value; a delta one what is left of the way that the leader has gone since
    the episode began, so that a slower follower catches up. The leader itself is asked to stay where it is: deltas of
    zero, or its own reading.

    Args:
        leader: Another robot; closed with this device.
        action_spec: Of the follower.
        clock: Tells how old the leader's last observation is.

    Raises:
        ConfigError: The leader has no reading for a component of the follower.
    """

    source = Source.HUMAN

    def __init__(self, leader: Robot, action_spec: ActionSpec, clock: Clock | None = None) -> None:
        self._leader = leader
        self._spec = action_spec
        self._clock = clock or MonotonicClock()
        readings = [(component.name, find_reading(component.name, leader.spec)) for component in action_spec.components]
        known = ", ".join(".".join([field.name, "/".join(field.components)]) for field in leader.spec.observation)
        for name, reading in readings:
            if reading is None:
                raise ConfigError("the leader has no such reading", field=f"action.{name}", allowed=known)
        self._readings = [reading for _, reading in readings if reading is not None]
        self._is_delta = np.array([component.mode == "delta" for component in action_spec.components])
        self._own = [
            None if component.mode == "delta" else find_reading(component.name, leader.spec)
            for component in leader.spec.action.components
        ]
        self._followed = np.zeros(action_spec.size)
        self._observation: Observation = {}
        self._heard_s = 0.0
        self._failure: RobotRlpdError | None = None
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def reset(self) -> None:
        """A new episode: deltas count from where the leader is now."""
        if self._thread is None:
            self._hear(self._leader.reset().observation)
            self._thread = threading.Thread(target=self._read, name="leader", daemon=True)
            self._thread.start()
        self._followed = self._values()

    def __call__(self, observation: Observation) -> Action:
        """The action that brings the follower to where the leader is.

        Raises:
            RobotError: The leader has failed, or has not been heard.
        """
        del observation
        values = self._values()
        wanted = np.where(self._is_delta, values - self._followed, values)
        action = np.clip(wanted, self._spec.low, self._spec.high).astype(np.float32)
        self._followed = self._followed + action
        return action

    def close(self) -> None:
        """Let go of the leader."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        self._leader.close()

    def _values(self) -> NDArray[np.float64]:
        with self._lock:
            observation, heard_s, failure = self._observation, self._heard_s, self._failure
        if failure is not None:
            raise RobotError(f"the leader has failed: {failure}", field="device leader") from failure
        silent_s = self._clock.now_s() - heard_s
        if silent_s > SILENT_S + self._leader.spec.control_period_s:
            raise RobotError(f"the leader has not been heard for {silent_s:.1f} s", field="device leader")
        return np.array([reading.of(observation) for reading in self._readings])

    def _read(self) -> None:
        while not self._ending.is_set():
            try:
                self._hear(self._leader.step(self._stay()).observation)
            except RobotRlpdError as error:
                with self._lock:
                    self._failure = error
                return

    def _hear(self, observation: Observation) -> None:
        with self._lock:
            self._observation, self._heard_s = observation, self._clock.now_s()

    def _stay(self) -> Action:
        spec = self._leader.spec.action
        middle = spec.from_unit(np.zeros(spec.size))
        stay = [
            0.0 if component.mode == "delta" else rest if own is None else own.of(self._observation)
            for component, own, rest in zip(spec.components, self._own, middle.tolist(), strict=True)
        ]
        return np.clip(np.array(stay, np.float32), spec.low, spec.high)


def make_device(options: DeviceOptions) -> LeaderDevice:
    """The robot that the argument names: `leader:tcp://HOST:PORT`, or `leader:NAME:ARGUMENT` of a driver here.

    Raises:
        ConfigError: No robot was named, or it cannot lead this one.
        BridgeError: It does not answer.
    """
    if not options.argument:
        raise ConfigError("names no robot", field="device", found="leader", allowed="leader:tcp://HOST:PORT")
    leader = open_robot(options.argument)
    try:
        return LeaderDevice(leader, options.spec.action)
    except ConfigError:
        leader.close()
        raise
