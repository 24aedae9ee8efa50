"""One action component held to its limits: position, velocity and acceleration, and braking in time for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.limits import ComponentLimits, Entry, Quantity, measured_entry, measured_value, quantity_of

if TYPE_CHECKING:
    from robot_rlpd.robot import Observation
    from robot_rlpd.specs import ActionComponent, RobotSpec


def braking_speed(room: float, acceleration: float, period_s: float) -> float:
    """Highest speed in this period after which the robot still comes to rest within `room`, braking evenly.

    With u = v / (a T) and n = floor(u), the periods that follow cover a T^2 ((n + 1) u - n (n + 1) / 2) in all;
    solved for u.
    """
    steps = room / (acceleration * period_s * period_s)
    if steps <= 0.0:
        return 0.0
    if not steps < 1e12:
        return math.inf
    n = math.floor((math.sqrt(1.0 + 8.0 * steps) - 1.0) / 2.0)
    return acceleration * period_s * (steps + n * (n + 1) / 2.0) / (n + 1)


@dataclass
class ComponentFilter:
    """One action component with its limits, and where its motion stands.

    Attributes:
        limits: Position limits of an absolute component are within the bounds of the spec.
        quantity: What its number means.
        entry: Where its position is observed; None where it is not.
        low: Lower bound of the spec.
        high: Upper bound of the spec.
        period_s: Control period, seconds.
        target: Of an absolute component: where it was last commanded to be; None where that is not known.
        velocity: As last commanded, units per second.
        action: As last applied.
    """

    limits: ComponentLimits
    quantity: Quantity
    entry: Entry | None
    low: float
    high: float
    period_s: float
    target: float | None = None
    velocity: float = 0.0
    action: float = 0.0

    @classmethod
    def of(cls, component: ActionComponent, limits: ComponentLimits, spec: RobotSpec) -> ComponentFilter:
        """For a component of this robot, with limits that were checked."""
        quantity = quantity_of(component)
        bounds = float(np.float32(component.low)), float(np.float32(component.high))
        if quantity == "absolute":
            low = max(bounds[0], -math.inf if limits.low is None else limits.low)
            high = min(bounds[1], math.inf if limits.high is None else limits.high)
            limits = replace(limits, low=low, high=high)
        entry = measured_entry(spec, component, limits.measured)
        return cls(limits, quantity, entry, *bounds, spec.control_period_s)

    def begin(self, observation: Observation) -> None:
        """At rest where it is observed."""
        self.velocity, self.action = 0.0, 0.0
        self.target = None if self.entry is None else measured_value(observation, self.entry)

    def limit(self, wanted: float, observation: Observation, share: float, reasons: set[str]) -> float:
        """The wanted action as far as the limits allow; adds what held it back."""
        if self.quantity != "effort":
            return self._moved(wanted, observation, share, reasons)
        limits, action = self.limits, wanted
        if limits.change is not None:
            most = limits.change * self.period_s
            action = _within(action, self.action - most, self.action + most, "change", reasons)
        return _within(action, limits.low, limits.high, "bounds", reasons)

    def applied(self, action: float) -> None:
        """This is what the robot was given."""
        if self.quantity == "absolute":
            before = action if self.target is None else self.target
            self.velocity, self.target = (action - before) / self.period_s, action
        else:
            self.velocity = action / (1.0 if self.quantity == "velocity" else self.period_s)
        self.action = action

    def resting_action(self) -> float:
        """The next action on the way to rest; a force is kept, as letting go of it may be a fall."""
        if self.quantity == "effort":
            return self.action
        v, a = self.velocity, self.limits.acceleration
        v = 0.0 if a is None else math.copysign(max(0.0, abs(v) - a * self.period_s), v)
        if self.quantity == "velocity":
            return v
        start = 0.0 if self.quantity == "delta" else self.action if self.target is None else self.target
        low, high = self.low, self.high
        if self.quantity == "absolute" and self.limits.low is not None and self.limits.high is not None:
            low, high = min(start, self.limits.low), max(start, self.limits.high)  # rounding must not lead out of them
        return min(max(start + v * self.period_s, low), high)

    def _moved(self, action: float, observation: Observation, share: float, reasons: set[str]) -> float:
        if self.quantity == "absolute":
            if self.target is None:
                return _within(action, self.limits.low, self.limits.high, "position", reasons)
            base, velocity = self.target, (action - self.target) / self.period_s
        else:
            base = math.nan if self.entry is None else measured_value(observation, self.entry)
            velocity = action if self.quantity == "velocity" else action / self.period_s
        bounded = self._velocity(velocity, base, share, reasons)
        if bounded == velocity:
            return action
        if self.quantity == "velocity":
            return bounded
        step = bounded * self.period_s
        return step if self.quantity == "delta" else base + step

    def _velocity(self, v: float, base: float, share: float, reasons: set[str]) -> float:
        """Limits in rising order of precedence: what is clipped last is never left."""
        limits, top = self.limits, self._top_speed()
        if share < 1.0 and math.isfinite(top):
            v = _within(v, -share * top, share * top, "workspace", reasons)
        rooms = (
            math.inf if limits.low is None else base - limits.low,
            math.inf if limits.high is None else limits.high - base,
        )
        if limits.margin > 0.0 and min(rooms) < limits.margin:
            near = [max(0.0, room / limits.margin) * top if room < limits.margin else math.inf for room in rooms]
            v = _within(v, -near[0], near[1], "margin", reasons)
        if limits.acceleration is not None:
            most = limits.acceleration * self.period_s
            v = _within(v, self.velocity - most, self.velocity + most, "acceleration", reasons)
        v = _within(v, -top, top, "velocity", reasons) if limits.velocity is not None else v
        return _within(v, -self._towards(rooms[0], -1), self._towards(rooms[1], 1), "position", reasons)

    def _towards(self, room: float, sign: int) -> float:
        """Highest speed towards a limit that is `room` away; negative where it was passed and has to be left."""
        if room == math.inf:
            return math.inf
        a = self.limits.acceleration
        if room >= 0.0:
            return room / self.period_s if a is None else braking_speed(room, a, self.period_s)
        back = max(room / self.period_s, -self._top_speed())
        return back if a is None else max(back, sign * self.velocity - a * self.period_s)

    def _top_speed(self) -> float:
        if self.limits.velocity is not None:
            return self.limits.velocity
        if self.quantity == "absolute":
            return math.inf
        return max(abs(self.low), abs(self.high)) / (1.0 if self.quantity == "velocity" else self.period_s)


def _within(value: float, low: float | None, high: float | None, reason: str, reasons: set[str]) -> float:
    bounded = value
    if low is not None:
        bounded = max(bounded, low)
    if high is not None:
        bounded = min(bounded, high)
    if bounded != value:
        reasons.add(reason)
    return bounded
