"""The two protocols that meet at every control step: Robot and Policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from types import TracebackType

    from robot_rlpd.specs import RobotSpec

Action = NDArray[np.float32]
"""Float32 `(A,)` in robot units."""

Observation = dict[str, NDArray[Any]]
"""Unbatched arrays in robot units, one per field of the spec."""


class Source(IntEnum):
    """Who chose an action. Stored as uint8; the numbers are part of the store format."""

    POLICY = 0
    HUMAN = 1
    SCRIPTED = 2
    RANDOM = 3


@dataclass(slots=True)
class StepResult:
    """What a robot returns from `reset` and `step`; not to be changed any more (`dataclasses.replace` makes another).

    Every robot and every wrapper makes one per step, and a frozen one takes twice as long to make.

    Attributes:
        observation: The observation at the end of the control period; arrays that the caller may keep.
        executed_action: The action after all limits, float32 `(A,)`; None from `reset`.
        signals: The signals declared in the spec; may be empty from `reset`.
        robot_time_s: Time of the observation on the robot's own clock, seconds, never going back.
        fault: Empty, or why the robot cannot go on; the episode then ends as interrupted.
        frame_times_s: When the image of a camera was taken, on the robot's own clock, seconds; a camera that is not
            named took it at `robot_time_s`.
        dropped_frames: Cameras that gave no new image in time; the observation repeats their last one.
        randomization: From `reset`: what was drawn for this episode; empty where nothing was, or where it is not told.
    """

    observation: Observation
    executed_action: Action | None = None
    signals: dict[str, NDArray[Any]] = field(default_factory=dict)
    robot_time_s: float = 0.0
    fault: str = ""
    frame_times_s: dict[str, float] = field(default_factory=dict)
    dropped_frames: tuple[str, ...] = ()
    randomization: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Robot(Protocol):
    """A robot, real or simulated; a context manager that is safe to leave at any time.

    Used from one thread. `step` owns the control period: it applies the action for one period and then observes
    (on a real robot it blocks for that period; a simulator returns at once unless it is paced). After a fault or an
    exception only `stop`, `reset` and `close` are allowed. A reset may take long and may wait for a person.
    """

    spec: RobotSpec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Bring the robot and its scene to a start of an episode.

        Args:
            seed: Decides everything random in the episode; None leaves it to the robot.
            options: Driver-specific, plain values only.

        Raises:
            RobotError: The reset failed.
        """
        ...

    def step(self, action: Action) -> StepResult:
        """Apply `action` for one control period, then observe.

        Raises:
            SpecError: The action has another shape or is not finite; nothing was executed.
            RobotError: The robot cannot go on.
        """
        ...

    def stop(self, reason: str) -> None:
        """Come to a safe standstill; callable at any time, any number of times; must not raise."""
        ...

    def close(self) -> None:
        """Stop and release everything; further calls do nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Looking(Protocol):
    """A robot that tells what it sees also between episodes; optional."""

    def look(self) -> StepResult | None:
        """What is observed now, without moving anything; None where that cannot be told.

        Not while an episode runs. From the robot's thread.
        """
        ...


def look_at(robot: Robot) -> StepResult | None:
    """What a robot sees between episodes; None from one that does not tell."""
    return robot.look() if isinstance(robot, Looking) else None


class ClosingRobot:
    """Base for robots: the context manager part of the protocol, ending in `close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release everything."""


@runtime_checkable
class Policy(Protocol):
    """Anything that chooses actions: a network, an ONNX file, a script, a person at a device.

    Attributes:
        source: Who chose the action returned last.
    """

    source: Source

    def reset(self) -> None:
        """Forget the episode before."""
        ...

    def __call__(self, observation: Observation) -> Action:
        """The action for this observation, float32 `(A,)` in robot units. Must return within the control period."""
        ...


@runtime_checkable
class Expert(Policy, Protocol):
    """A policy that solves a task, and sees how far it is from that."""

    def remaining_m(self, observation: Observation) -> float:
        """The way that is left until the task is solved [m], >= 0; falls while the work goes on, whoever does it."""
        ...


class RandomPolicy:
    """Uniform actions within the bounds of the spec."""

    source = Source.RANDOM

    def __init__(self, spec: RobotSpec, rng: np.random.Generator) -> None:
        self._action_spec = spec.action
        self._rng = rng

    def reset(self) -> None:
        """Nothing to forget."""

    def __call__(self, observation: Observation) -> Action:
        """A uniform action."""
        del observation
        return self._action_spec.from_unit(self._rng.uniform(-1.0, 1.0, self._action_spec.size))
