"""Limits beyond the bounds of the spec, as data: what a robot's own file states and the safety filter enforces."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from robot_rlpd.robot import Observation
    from robot_rlpd.specs import ActionComponent, RobotSpec

EFFORT_UNITS = ("N", "Nm", "N m", "N*m", "A", "V", "W")
Quantity = Literal["absolute", "delta", "velocity", "effort"]
Entry = tuple[str, int]
"""Observation field and flat index in it."""


@dataclass(frozen=True, kw_only=True)
class ComponentLimits:
    """Limits of one action component, in its unit; None where there is none.

    Position limits hold for where the component is commanded to be: an absolute target itself, a delta or a velocity
    from the measured position on. For forces and currents `low` and `high` bound the action.
    """

    low: float | None = None
    """Lowest position."""
    high: float | None = None
    """Highest position."""
    margin: float = 0.0
    """Distance from a position limit within which the speed towards it falls to zero; needs a largest velocity."""
    velocity: float | None = None
    """Largest speed, units per second; above 0."""
    acceleration: float | None = None
    """Largest change of velocity, units per second squared; above 0. Braking begins in time for the position limits."""
    change: float | None = None
    """Largest change of the action itself, action units per second; above 0. For forces and currents."""
    measured: str = ""
    """Observation entry with the position: FIELD[COMPONENT] or FIELD[INDEX]; default: the entry of the same name and
    unit, where there is one."""

    def check(self, name: str) -> None:
        """Refuse values that mean nothing.

        Raises:
            ConfigError: Names the field.
        """
        for option in ("velocity", "acceleration", "change"):
            value = getattr(self, option)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(field=f"{name}.{option}", found=value, allowed="above 0")
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise ConfigError(field=f"{name}.margin", found=self.margin, allowed="at least 0")
        low, high = _or(self.low, -math.inf), _or(self.high, math.inf)
        if math.isnan(low) or math.isnan(high) or not low + 2 * self.margin < high:
            found = f"low {self.low}, high {self.high}, margin {self.margin}"
            raise ConfigError(field=name, found=found, allowed="low below high by more than two margins")


@dataclass(frozen=True, kw_only=True)
class BoxLimits:
    """Where an observed point may be: leaving the box stops the robot, near its walls it slows down.

    For what is not commanded directly: the tool of an arm that takes joint targets, a measured force.
    """

    low: tuple[float, ...] = ()
    """Lower bound of each entry of the field; empty for none, -inf for a free entry."""
    high: tuple[float, ...] = ()
    """Upper bound of each entry, likewise."""
    margin: float = 0.0
    """Distance from a wall, in the field's unit, over which all speeds fall to a tenth."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Ages at which a robot is held or stopped; None where nothing is watched."""

    command_timeout_s: float | None = None
    """Longest wait for the next command, seconds; the robot is then stopped."""
    step_timeout_s: float | None = None
    """Longest time that the robot may take over one step, seconds; it is then stopped from beside the loop."""
    observation_timeout_s: float | None = None
    """Longest time, seconds, for which the robot's own clock may stand still or lag behind; it is then stopped."""
    max_missed_ticks: int | None = None
    """Commands in a row that may come more than a period late; one more and the robot is stopped."""
    hold_after_ticks: float | None = None
    """Control periods by which the next command may be late; then the robot is held until it comes. Speeds go to zero
    within their limits, targets stay as they are; a robot that is commanded by forces is stopped."""

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if value is not None and not value > 0:
                raise ConfigError(field=f"watch.{option.name}", found=value, allowed="above 0")


@dataclass(frozen=True, kw_only=True)
class SafetyLimits:
    """All that the filter enforces besides the bounds of the spec."""

    components: dict[str, ComponentLimits] = field(default_factory=dict)
    """By name of the action component."""
    workspace: dict[str, BoxLimits] = field(default_factory=dict)
    """By name of the observation field."""
    watch: Watch = field(default_factory=Watch)
    """Watchdogs."""

    @property
    def changes_actions(self) -> bool:
        """Whether an action within the bounds of the spec may be applied otherwise than commanded."""
        return bool(self.components) or any(box.margin > 0 for box in self.workspace.values())

    def check(self, spec: RobotSpec) -> None:
        """Refuse limits that this robot cannot be held to.

        Raises:
            ConfigError: Names the component or field, and what would be valid.
        """
        known = {component.name: component for component in spec.action.components}
        for name, limits in self.components.items():
            if name not in known:
                raise ConfigError(
                    "no such action component", field=f"limits.{name}", found=name, allowed=", ".join(known)
                )
            limits.check(f"limits.{name}")
            _check_component(limits, known[name], spec)
        observed = {s.name: s for s in spec.observation}
        for name, box in self.workspace.items():
            if name not in observed or observed[name].is_image:
                allowed = ", ".join(s.name for s in spec.observation if not s.is_image)
                raise ConfigError("no such observation field", field=f"workspace.{name}", found=name, allowed=allowed)
            _check_box(box, name, observed[name].size)


def quantity_of(component: ActionComponent) -> Quantity:
    """What a component's number means: a target, a step from here, a speed, or a force."""
    if component.unit.endswith("/s"):
        return "velocity"
    return "effort" if component.unit in EFFORT_UNITS else component.mode


def measured_entry(spec: RobotSpec, component: ActionComponent, named: str = "") -> Entry | None:
    """Where the position of a component is observed.

    Args:
        spec: Of the robot.
        component: Of its action.
        named: FIELD[COMPONENT] or FIELD[INDEX]; empty looks for an entry, or a field of one entry, of the component's
            name and unit.

    Raises:
        ConfigError: Nothing is observed under that name.
    """
    if not named:
        for s in spec.observation:
            if component.name in s.components and s.unit == component.unit:
                return s.name, s.components.index(component.name)
            if s.name == component.name and s.size == 1 and s.unit == component.unit:
                return s.name, 0
        return None
    name, _, index = named.rstrip("]").rpartition("[")
    for s in spec.observation:
        if s.name == name and index in s.components:
            return name, s.components.index(index)
        if s.name == name and index.isdigit() and int(index) < s.size:
            return name, int(index)
    allowed = ", ".join(f"{s.name}[{c}]" for s in spec.observation if not s.is_image for c in _entries(s))
    raise ConfigError("not observed", field=f"limits.{component.name}.measured", found=named, allowed=allowed)


def measured_value(observation: Observation, entry: Entry) -> float:
    """The entry of an observation."""
    return float(observation[entry[0]].reshape(-1)[entry[1]])


def _entries(spec: Any) -> tuple[str, ...]:
    return spec.components or tuple(str(i) for i in range(spec.size))


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _check_component(limits: ComponentLimits, component: ActionComponent, spec: RobotSpec) -> None:
    where, quantity = f"limits.{component.name}", quantity_of(component)
    if component.kind == "binary":
        raise ConfigError("a binary component has its two values and no more", field=where)
    if quantity == "effort":
        for name in ("velocity", "acceleration", "margin"):
            if getattr(limits, name):
                raise ConfigError(
                    f"unit {component.unit} is no motion", field=f"{where}.{name}", allowed="low, high, change"
                )
        return
    if limits.change is not None:
        raise ConfigError(
            f"unit {component.unit or 'none'} is a motion", field=f"{where}.change", allowed="velocity, acceleration"
        )
    positions = limits.low is not None or limits.high is not None
    moves = limits.velocity is not None or limits.acceleration is not None
    needs = positions if quantity in ("delta", "velocity") else moves
    if needs and measured_entry(spec, component, limits.measured) is None:
        raise ConfigError(
            "the filter has to know where the component is", field=where, hint='say it: measured = "FIELD[COMPONENT]"'
        )
    if limits.margin and quantity == "absolute" and limits.velocity is None:
        raise ConfigError("a margin needs a largest velocity", field=f"{where}.margin")


def _check_box(box: BoxLimits, name: str, size: int) -> None:
    for side in ("low", "high"):
        bounds = getattr(box, side)
        if len(bounds) not in (0, size) or any(math.isnan(b) for b in bounds):
            raise ConfigError(
                field=f"workspace.{name}.{side}", found=list(bounds), allowed=f"{size} numbers, or none at all"
            )
    low, high = box.low or (-math.inf,) * size, box.high or (math.inf,) * size
    if not (box.margin >= 0 and all(a + 2 * box.margin < b for a, b in zip(low, high, strict=True))):
        raise ConfigError(
            field=f"workspace.{name}", found=f"margin {box.margin}", allowed="low below high by more than two margins"
        )
