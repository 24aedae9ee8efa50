"""Limits and watchdogs around every robot, on the robot's side, whoever commands it.

What is stored as the executed action: the commanded one, brought into the bounds of the spec. A limit that depends on
where the robot is or how fast it moves belongs to the dynamics, as a table does: an action that such a limit held back
still counts as executed. Were it recorded as what was left of it, no data would ever say what comes of commanding it,
and a critic could believe in it forever. What the robot was really given is recorded beside it, as the signals
`applied_action` and `limited_by`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.ages import Ages
from robot_rlpd.clock import Clock, MonotonicClock
from robot_rlpd.errors import RobotError
from robot_rlpd.holding import Rest, hold
from robot_rlpd.limits import SafetyLimits
from robot_rlpd.motion_filter import REASONS, MotionFilter, outside
from robot_rlpd.robot import ClosingRobot, look_at
from robot_rlpd.specs import ArraySpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.robot import Action, Observation, Robot, StepResult
    from robot_rlpd.specs import RobotSpec

logger = logging.getLogger(__name__)

APPLIED, LIMITED_BY = "applied_action", "limited_by"
RESETTING = "resetting"
LONGEST_BRAKING_S = 2.0
"""A stop that takes more periods than this holds becomes the driver's own stop."""


@dataclass
class SafetyCounts:
    """What the filter changed so far.

    Attributes:
        steps: Steps applied.
        clipped_steps: Steps whose action was brought into the bounds of the spec.
        refused_actions: Commands of a wrong shape, NaN or infinite.
        limited_steps: Steps that a limit beyond the bounds of the spec held back.
        by_reason: Steps that each limit changed.
        holds: How often the robot was held because a command was missing.
        stops: Stops that the filter decided on itself, by what it saw.
    """

    steps: int = 0
    clipped_steps: int = 0
    refused_actions: int = 0
    limited_steps: int = 0
    by_reason: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    holds: int = 0
    stops: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """What was changed, as commands print it."""
        return {
            "clipped_actions": self.clipped_steps,
            "refused_actions": self.refused_actions,
            "limited_actions": self.limited_steps,
            "limited_by": dict(self.by_reason),
            "holds": self.holds,
        }

    def held_back(self) -> str:
        """What limits beyond the bounds of the spec did, for people; empty if nothing."""
        if not self.limited_steps:
            return ""
        reasons = ", ".join(f"{name} {count}" for name, count in self.by_reason.items() if count)
        return f"held back by limits: {self.limited_steps} of {self.steps} steps ({reasons})"


class SafeRobot(ClosingRobot):
    """Checks every action before the robot sees it, and every observation before anybody else does.

    A wrong shape, NaN or infinity stops the robot and is refused with `SpecError`. Finite actions are brought into the
    bounds of the spec, binary components snapped to the nearer bound, then into `limits`. A robot that was stopped
    takes no step until it is reset. The thread that reset it commands it; others may only stop it.

    A stop of a moving robot brakes within its acceleration limits before it asks the driver to stop; a stop from beside
    the loop, while a step is running, goes to the driver at once.

    Args:
        robot: Opened; closed with this one.
        limits: Beyond the bounds of the spec; None for none.
        clock: Measures the age of commands and observations.

    Attributes:
        counts: What was changed so far.
        closed: Set by `close`.

    Raises:
        ConfigError: Limits that this robot cannot be held to.
    """

    def __init__(self, robot: Robot, limits: SafetyLimits | None = None, clock: Clock | None = None) -> None:
        limits = limits or SafetyLimits()
        limits.check(robot.spec)
        self._robot = robot
        self._limits = limits
        self._motion = MotionFilter(limits, robot.spec) if limits.changes_actions else None
        self.spec = _with_signals(robot.spec) if self._motion else robot.spec
        self.counts = SafetyCounts()
        self._low, self._high = robot.spec.action.low, robot.spec.action.high
        self._binary = np.array([c.kind == "binary" for c in robot.spec.action.components])
        self._has_binary = bool(self._binary.any())
        self._lock = threading.RLock()
        self._stopped: str | None = "not reset yet"
        self._commander = 0
        self._observation: Observation = {}
        self._rest = Rest(robot.spec.action)
        self._applied = np.zeros(robot.spec.action.size, np.float32)
        watch = limits.watch if self._rest.is_needed else replace(limits.watch, hold_after_ticks=None)
        self._ages = Ages(watch, robot.spec.control_period_s, clock or MonotonicClock())
        self.closed = threading.Event()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Reset the robot; lifts an earlier stop, but none that comes while it resets.

        Raises:
            RobotError: The robot rests outside its workspace, or was stopped meanwhile.
        """
        with self._lock:
            self._commander = threading.get_ident()
            self._stopped = RESETTING
            self._ages.pause()
            result = self._checked(self._robot.reset(seed=seed, options=options))
            if self._stopped != RESETTING:
                raise RobotError(f"stopped during the reset: {self._stopped}", field=f"robot '{self.spec.name}'")
            reason = self._outside(result.observation)
            if reason:
                self._stop_itself(reason)
                raise RobotError(reason, field=f"robot '{self.spec.name}'", hint="bring it back by hand")
            self._stopped, self._observation = None, result.observation
            if self._motion is not None:
                self._motion.begin(result.observation)
            self._ages.begin(result.robot_time_s)
            return result

    def limit(self, action: Action) -> Action:
        """The action within the bounds of the spec.

        Raises:
            SpecError: Wrong shape, NaN or infinity.
        """
        return self._bounded(self.spec.action.validate(action))

    def step(self, action: Action) -> StepResult:
        """Limit the action, apply it, check what comes back.

        Raises:
            RobotError: Stopped, or commanded by another thread.
            SpecError: The action has another shape or is not finite.
        """
        if self._stopped is None and threading.get_ident() != self._commander:
            raise RobotError(
                "commanded by another thread",
                field=f"robot '{self.spec.name}'",
                allowed="one commander at a time",
                hint="a reset takes over",
            )
        with self._lock:
            if self._stopped is None and (reason := self._ages.before_step()):
                self._stop_itself(reason)
            if self._stopped is not None:
                raise RobotError(f"stopped: {self._stopped}", field=f"robot '{self.spec.name}'", hint="reset it first")
            return self._step(action)

    def _step(self, action: Action) -> StepResult:
        reasons: set[str] = set()
        if not self._has_binary and self.spec.action.admits(action):
            bounded = action.copy()  # the caller may use his array again
        else:
            try:
                action = self.spec.action.validate(action)
            except Exception as error:
                self.counts.refused_actions += 1
                self.stop(str(error))
                raise
            bounded = self._bounded(action)
            if not np.array_equal(bounded, action):
                reasons.add("bounds")
        applied = bounded
        if self._motion is not None:
            if self._ages.was_held:
                self._motion.rest()
            applied, more = self._motion.limit(bounded, self._observation)
            reasons |= more
        self._applied = applied
        result = self._checked(self._robot.step(applied))
        self._observation = result.observation
        if self._motion is not None or result.executed_action is None:
            result = self._labelled(result, bounded, applied, reasons)
        self.counts.steps += 1
        if reasons or result.signals:
            self._count(result, reasons)
        reason = self._ages.after_step(result.robot_time_s) or self._outside(result.observation)
        if reason:
            self._stop_itself(reason)
        if self._stopped is not None and not result.fault:  # perhaps from beside the loop, while the step was running
            result = replace(result, fault=f"stopped: {self._stopped}")
        return result

    def look(self) -> StepResult | None:
        """What the robot sees between episodes; lifts no stop."""
        with self._lock:
            return look_at(self._robot)

    def watch(self) -> str:
        """Hold the robot if a command is missing, stop it if its commander or driver is silent for too long.

        May be called from any thread.

        Returns:
            Why it was stopped, or empty.
        """
        reason = self._ages.overdue() if self._stopped is None else ""
        if reason:
            self._stop_itself(reason)
        elif self._stopped is None and self._ages.missed():
            self._hold_itself()
        return reason

    def next_look_s(self) -> float:
        """Seconds until `watch` may have something to do; infinite where nothing is awaited."""
        return self._ages.next_look_s()

    def hold(self, still: Action) -> str:
        """Brake, then keep the robot at rest until the next step, which goes on from there.

        Args:
            still: Where there is no other rest to go to.

        Returns:
            The robot's fault, or empty.
        """
        with self._lock:
            if self._stopped is not None:
                return ""
            self._ages.held()
            self._brake(goes_on=lambda: self._stopped is None)
            if self._stopped is not None:  # from beside, while it braked
                return ""
            return hold(self._robot, still if self._motion is None else self._motion.braking())

    def stop(self, reason: str) -> None:
        """Brake, then stop the robot; steps are refused until the next reset. May be called from any thread."""
        was_moving, self._stopped = self._stopped is None, reason
        self._ages.pause()
        if self._lock.acquire(blocking=False):
            try:
                if was_moving:
                    self._brake()
            finally:
                self._lock.release()
        self._robot.stop(reason)

    def close(self) -> None:
        """Stop and close the robot."""
        self.closed.set()
        self.stop("closed")
        self._robot.close()

    def _bounded(self, action: Action) -> Action:
        low, high = self._low, self._high
        bounded: Action = np.minimum(np.maximum(action, low), high)
        if self._has_binary:
            snapped = np.where(bounded > (low + high) / 2.0, high, low)
            bounded = np.where(self._binary, snapped, bounded)
        return bounded

    def _brake(self, goes_on: Callable[[], bool] = lambda: True) -> None:
        motion = self._motion
        if motion is None:
            return
        left = math.ceil(LONGEST_BRAKING_S / self.spec.control_period_s)
        with contextlib.suppress(Exception):  # the driver's own stop follows in any case
            while motion.is_moving and left > 0 and goes_on():
                left -= 1
                if self._robot.step(motion.braking()).fault:
                    return

    def _hold_itself(self) -> None:
        if not self._lock.acquire(blocking=False):
            return  # the command came, or the robot is being stopped
        try:
            if self._stopped is not None or not self._ages.missed():
                return
            self.counts.holds += 1
            if self._rest.has_forces:
                self._stop_itself("a command is missing, and forces cannot be held")
            elif fault := self.hold(self._rest.after(self._applied)):
                self._stop_itself(fault)
        except Exception as error:
            self._stop_itself(f"it could not be held: {error}")
        finally:
            self._lock.release()

    def _stop_itself(self, reason: str) -> None:
        logger.warning("robot '%s': %s, stopping", self.spec.name, reason)
        self.counts.stops.append(reason)
        self.stop(reason)

    def _labelled(self, result: StepResult, bounded: Action, applied: Action, reasons: set[str]) -> StepResult:
        executed = bounded if result.executed_action is None else result.executed_action
        if self._motion is None:
            return replace(result, executed_action=executed)
        signals = {
            **result.signals,
            APPLIED: np.asarray(executed if result.executed_action is not None else applied, np.float32),
            LIMITED_BY: np.array(sum(1 << REASONS.index(reason) for reason in reasons), np.int32),
        }
        unchanged = np.array_equal(bounded, applied)
        return replace(result, executed_action=executed if unchanged else bounded, signals=signals)

    def _count(self, result: StepResult, reasons: set[str]) -> None:
        """What this filter changed, and what one further inside did."""
        inside = 0 if self._motion is not None else int(result.signals.get(LIMITED_BY, 0))
        if not (reasons or inside):
            return
        reasons = reasons | {reason for i, reason in enumerate(REASONS) if inside >> i & 1}
        self.counts.clipped_steps += "bounds" in reasons
        self.counts.limited_steps += bool(reasons - {"bounds"})
        for reason in reasons:
            self.counts.by_reason[reason] += 1

    def _outside(self, observation: Observation) -> str:
        for name, box in self._limits.workspace.items():
            if reason := outside(name, box, observation):
                return reason
        return ""

    def _checked(self, result: StepResult) -> StepResult:
        given, converted = result.observation, {}
        try:
            for spec in self.spec.observation:
                if (array := spec.validate(given[spec.name])) is not given[spec.name]:
                    converted[spec.name] = array
        except KeyError as error:
            self.stop("observation field missing")
            raise RobotError("the robot returned no such field", field=f"observation.{error.args[0]}") from None
        except Exception as error:
            self.stop(str(error))
            raise
        if not converted and len(given) == len(self.spec.observation):
            return result
        return replace(
            result, observation={s.name: converted.get(s.name, given[s.name]) for s in self.spec.observation}
        )


def _with_signals(spec: RobotSpec) -> RobotSpec:
    size = spec.action.size
    names = tuple(c.name for c in spec.action.components)
    own = (
        ArraySpec(name=APPLIED, shape=(size,), components=names),
        ArraySpec(name=LIMITED_BY, shape=(), dtype="int32"),
    )
    return replace(spec, signals=(*spec.signals, *own))
