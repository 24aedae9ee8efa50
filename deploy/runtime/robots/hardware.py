"""A base for drivers of real hardware: it owns the control period, a driver only sends, observes and halts."""

from __future__ import annotations

import abc
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from robot_rlpd.clock import Clock, MonotonicClock, Rate
from robot_rlpd.errors import RobotError
from robot_rlpd.robot import ClosingRobot, StepResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.specs import RobotSpec

logger = logging.getLogger(__name__)


class HardwareRobot(ClosingRobot, abc.ABC):
    """Sends the action, waits for the end of the control period, observes.

    Limits and watchdogs are the business of `SafeRobot`, which wraps every robot; a driver keeps within what its
    hardware needs and nothing more. An action that the hardware holds back, at the end of a joint for instance, still
    counts as executed: that is the dynamics.

    Args:
        spec: What the robot observes and accepts.
        clock: Paces the steps and gives the robot's time.
    """

    def __init__(self, spec: RobotSpec, clock: Clock | None = None) -> None:
        self.spec = spec
        self._clock = clock or MonotonicClock()
        self._rate = Rate(spec.control_rate_hz, self._clock)
        self._closed = False

    @abc.abstractmethod
    def prepare(self, seed: int | None, options: dict[str, Any]) -> None:
        """Bring robot and scene to the start of an episode; may take long, and may wait for a person."""

    @abc.abstractmethod
    def send(self, action: Action) -> None:
        """Hand the action, within the bounds of the spec, to the motors; return at once."""

    @abc.abstractmethod
    def observe(self) -> Observation:
        """Read all sensors: new arrays, one for each field of the spec."""

    @abc.abstractmethod
    def halt(self) -> None:
        """Come to a safe standstill at once, in any state."""

    @abc.abstractmethod
    def disconnect(self) -> None:
        """Release the hardware; called once, after `halt`."""

    def signals(self) -> dict[str, NDArray[Any]]:
        """The signals of the spec, after `observe`; none by default."""
        return {}

    def dropped_frames(self) -> tuple[str, ...]:
        """Cameras for which the last `observe` repeated an image, as no new one came in time; none by default."""
        return ()

    def frame_times_s(self) -> dict[str, float]:
        """When the images of the last `observe` were taken, on the clock of `time_s`; by default at that time."""
        return {}

    def time_s(self) -> float:
        """Time of the last observation in seconds, on one clock that never goes back."""
        return self._clock.now_s()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Prepare, observe, and start the first period."""
        self._check_open()
        self.prepare(seed, options or {})
        observation = self.observe()
        self._rate.start()
        return self._result(observation)

    def step(self, action: Action) -> StepResult:
        """Send, wait for the end of the period, observe."""
        self._check_open()
        action = self.spec.action.validate(action)
        self._rate.resume()
        self.send(action)
        self._rate.wait()
        observation = self.observe()
        return replace(self._result(observation), executed_action=action.copy(), signals=self.signals())

    def look(self) -> StepResult:
        """Observe, between episodes."""
        self._check_open()
        return self._result(self.observe())

    def stop(self, reason: str) -> None:
        """Halt; a failure is logged."""
        if self._closed:
            return
        try:
            self.halt()
        except Exception:
            logger.exception("%s could not be halted (%s)", self.spec.name, reason)

    def close(self) -> None:
        """Halt and release the hardware."""
        if self._closed:
            return
        self.stop("closed")
        self._closed = True
        self.disconnect()

    def _result(self, observation: Observation) -> StepResult:
        return StepResult(
            observation,
            robot_time_s=self.time_s(),
            frame_times_s=self.frame_times_s(),
            dropped_frames=self.dropped_frames(),
        )

    def _check_open(self) -> None:
        if self._closed:
            raise RobotError("closed", field=f"robot '{self.spec.name}'")
