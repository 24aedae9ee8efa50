"""What has to be right before a robot moves: checked, and told one line each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.bridge.observer import Observer
from robot_rlpd.bridge.robots import REMOTE
from robot_rlpd.errors import RobotRlpdError
from robot_rlpd.learner.checkpoint import Checkpoint
from robot_rlpd.learner.policy import checkpoint_policy
from robot_rlpd.learner.prior import load_prior
from robot_rlpd.robot import Robot
from robot_rlpd.safety import LIMITED_BY
from robot_rlpd.specs import check_contract
from robot_rlpd.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from robot_rlpd.robot import Observation

LOOKS = 20
"""Round trips that are measured; none of them moves the robot."""
SHORT_WATCHDOG_S = 1.0
"""A command timeout below this may stop a robot whose learner updates in between [s]."""
PREFLIGHT_SEED = 999_999
"""Of the reset that is tried; neither training nor evaluation uses it."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        status: "ok", "note" for what a person should know, "FAILED" for what forbids to begin.
        told: What was found.
    """

    name: str
    status: str
    told: str

    def __str__(self) -> str:
        return f"{self.status:<6} {self.name:<15} {self.told}"


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """Everything that is looked at.

    Attributes:
        start: The starting policy.
        robot: Opened; it is reset once, and takes no step.
        address: As typed; empty for a robot in this process.
        task: Judges prior data.
        prior: Prior stores.
    """

    start: Checkpoint
    robot: Robot
    address: str
    task: Task
    prior: Sequence[Path]

    def checks(self) -> Iterator[Check]:
        """The checks in order, each made when it is asked for; the robot is not touched after one that failed."""
        parts: list[tuple[str, Callable[[], list[Check]]]] = [
            ("contract", self._contract),
            ("limits", self._limits),
            ("watchdog", self._watchdog),
            ("latency", self._latency),
            ("demonstrations", self._prior),
            ("reset", self._reset),
        ]
        for name, look in parts:
            try:
                found = look()
            except RobotRlpdError as error:
                yield Check(name=name, status="FAILED", told=str(error))
                return
            yield from found

    def _contract(self) -> list[Check]:
        spec = self.robot.spec
        check_contract(self.start.contract, spec, who=f"robot '{spec.name}'")
        entries = self.start.contract.observation_size
        told = f"robot '{spec.name}': {entries} observation entries, {spec.action.size} action components, "
        return [Check(name="contract", status="ok", told=f"{told}{spec.control_rate_hz:g} Hz")]

    def _limits(self) -> list[Check]:
        bounds = ", ".join(
            f"{c.name} {c.low:g}..{c.high:g} {c.unit}".rstrip() for c in self.robot.spec.action.components
        )
        beyond = LIMITED_BY in {signal.name for signal in self.robot.spec.signals}
        if beyond:
            return [Check(name="limits", status="ok", told=f"{bounds}; further limits on the robot's side")]
        return [Check(name="limits", status="note", told=f"{bounds}; only these bounds, no limits of a robot file")]

    def _watchdog(self) -> list[Check]:
        if not self.address.startswith(REMOTE):
            return [Check(name="watchdog", status="note", told="the robot runs in this process: none")]
        with Observer(self.address) as observer:
            status = observer.status()
        timeout_s, pace = status["command_timeout_s"], status["pace"]
        told = f"stops {timeout_s:g} s after the last command; pace {pace}"
        return [Check(name="watchdog", status="ok" if timeout_s >= SHORT_WATCHDOG_S else "note", told=told)]

    def _latency(self) -> list[Check]:
        if not self.address.startswith(REMOTE):
            return [Check(name="latency", status="ok", told="the robot runs in this process")]
        taken_ms = []
        with Observer(self.address) as observer:
            for _ in range(LOOKS):
                began_s = time.monotonic()
                observer.status()
                taken_ms.append(1000.0 * (time.monotonic() - began_s))
        median, worst = float(np.median(taken_ms)), max(taken_ms)
        late = worst > 500.0 * self.robot.spec.control_period_s
        told = f"{median:.1f} ms median, {worst:.1f} ms at most, of {LOOKS} round trips"
        return [Check(name="latency", status="note" if late else "ok", told=told)]

    def _prior(self) -> list[Check]:
        if not self.prior:
            return [Check(name="demonstrations", status="note", told="no prior data")]
        checks = []
        for path in self.prior:
            _, report = load_prior([path], self.task, self.start.contract)
            checks.append(
                Check(name="demonstrations", status="ok" if report.successes else "note", told=f"{path}: {report}")
            )
        return checks

    def _reset(self) -> list[Check]:
        began_s = time.monotonic()
        observation = self.robot.reset(seed=PREFLIGHT_SEED).observation
        took_s = time.monotonic() - began_s
        self.robot.stop("pre-flight")
        checks = [Check(name="reset", status="ok", told=f"took {took_s:.1f} s")]
        return [*checks, *self._acting(observation)]

    def _acting(self, observation: Observation) -> list[Check]:
        spec = self.robot.spec
        outside = [
            field.name
            for field in self.start.contract.observation
            if (observation[field.name] < np.reshape(_as_array(field.low, field.shape), field.shape)).any()
            or (observation[field.name] > np.reshape(_as_array(field.high, field.shape), field.shape)).any()
        ]
        policy = checkpoint_policy(self.start)
        policy(observation)
        began_s = time.monotonic()
        action = spec.action.validate(policy(observation))
        took_ms = 1000.0 * (time.monotonic() - began_s)
        slow = took_ms > 500.0 * spec.control_period_s
        told = f"answers in {took_ms:.1f} ms with {np.array2string(action, precision=3, separator=', ')}"
        checks = [Check(name="starting policy", status="note" if slow else "ok", told=told)]
        if outside:
            told = f"beyond the bounds of the spec in training: {', '.join(outside)}"
            checks.append(Check(name="observation", status="note", told=told))
        return checks


def _as_array(bound: Sequence[float], shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.broadcast_to(np.array(bound, np.float64), (int(np.prod(shape)),))
