"""How the bridge does while a served robot is driven from the page: its own figures, asked for once a second."""

from __future__ import annotations

import threading
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.observer import Observer
from robot_rlpd.errors import RobotRlpdError

if TYPE_CHECKING:
    from robot_rlpd.bridge.statistics import Statistics
    from robot_rlpd.robot import Robot

PERIOD_S = 1.0
TIMEOUT_S = 2.0
SILENT_S = 3.0
"""A server that has not answered for so long is worth a warning."""
MANY = 0.01
"""Share of late steps that is worth one."""


class Row(NamedTuple):
    """One line: what, how much, and whether it is a reason to look closer."""

    name: str
    value: str
    is_bad: bool = False


class BridgeLook:
    """Asks a server how it goes, from a thread of its own and over a connection of its own.

    Args:
        address: Of the server.
        trips: Of the steps as this side sees them.
    """

    def __init__(self, address: str, trips: Statistics) -> None:
        self._address, self._trips = address, trips
        self._message = _encode([Row("server", "was not asked yet")])
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bridge figures", daemon=True)
        self._thread.start()

    @property
    def message(self) -> bytes:
        """What the page is told; another object when there is something new."""
        return self._message

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        status: dict[str, Any] = {}
        answered_s, problem = time.monotonic(), ""
        with Observer(self._address, timeout_s=TIMEOUT_S) as observer:
            while not self._over.is_set():
                try:
                    status, answered_s, problem = observer.status(), time.monotonic(), ""
                except RobotRlpdError as error:
                    problem = error.message
                silent_s = time.monotonic() - answered_s
                try:
                    told = rows(status, self._trips.to_json(), silent_s=silent_s, problem=problem)
                except KeyError as error:  # a server of another version
                    told = [Row("server", f"does not tell its {error.args[0]}", is_bad=True)]
                self._message = _encode(told)
                self._over.wait(PERIOD_S)


def look_at_bridge(robot: Robot | None) -> BridgeLook | None:
    """Of a served robot; None of one in this process."""
    return BridgeLook(robot.address, robot.statistics) if isinstance(robot, RemoteRobot) else None


def rows_of_learner(status: dict[str, Any]) -> list[Row]:
    """The figures of a learner that listens, and of its actors, for people."""
    digest = status["policy_digest"][:12]
    told = [
        Row("learner", f"{status.get('run', '')}, robot-rlpd {status['version']}, protocol {status['protocol']}"),
        Row("policy", f"number {status['policy_number']}, {digest}" if digest else "none yet"),
        Row("received", f"{status['episodes']} episodes, {status['env_steps']} steps"),
    ]
    if "trained_env_steps" in status:
        trained = f"{status['trained_env_steps']} steps, {status['gradient_steps']} updates"
        told += [Row("trained on", trained), Row("waiting here", f"{status['waiting_episodes']} episodes")]
    for name, actor in status["actors"].items():
        acting = f"acts with {actor['acting'][:12]}" if actor["acting"] else "acts at random"
        value = f"{acting}; {actor['pending']} in its outbox, {actor['episodes']} received"
        value += f"; away for {actor['heard_s']:.0f} s" if actor["away"] else ""
        value += f"; rejected a policy: {actor['rejected']}" if actor["rejected"] else ""
        told.append(Row(f"actor {name}", value, bool(actor["away"] or actor["rejected"])))
    return told + _refusals(status)


def rows(status: dict[str, Any], trips: dict[str, Any] | None, *, silent_s: float, problem: str = "") -> list[Row]:
    """The figures of a served robot for people.

    Args:
        status: As `bridge status --json` prints it; empty before the first answer.
        trips: Figures of the steps as this side sees them; None where it takes none.
        silent_s: Age of the status, seconds.
        problem: Why there is no newer one.
    """
    told = []
    if problem:
        told.append(Row("answer", f"none for {silent_s:.0f} s: {problem}", silent_s > SILENT_S))
    if status:
        told += _of_server(status)
    if trips is None:
        return told
    told.append(Row("step seen from here", _times(trips["step_ms"])))
    if trips["repeated"]:
        told.append(Row("requests sent again", str(trips["repeated"])))
    return told


def _of_server(status: dict[str, Any]) -> list[Row]:
    pace = f"of {status['control_rate_hz']:g}" if status["pace"] == "real" else "as fast as it can"
    here = metadata.version("robot-rlpd")
    version = status["version"] + ("" if status["version"] == here else f" (here {here})")
    steps = max(1, status["env_steps"])
    told = [
        Row("robot", f"{status['robot']} on {status['host']}"),
        Row("versions", f"robot-rlpd {version}, protocol {status['protocol']}", status["version"] != here),
        Row("commander", status["commander"] or "nobody"),
        Row("rate", f"{status['rate_hz']:.1f} Hz {pace}" if status["rate_hz"] else "-"),
        Row("step on its side", _times(status["step_ms"])),
        Row("wait for a command", _times(status["wait_ms"])),
        Row("late steps", f"{status['late_ticks']} of {status['env_steps']}", status["late_ticks"] > MANY * steps),
        Row("held", f"{status['held_s']:.1f} s in all, {status['holds']} missing commands"),
    ]
    counted = (
        ("repeated", "answered again"),
        ("clipped_actions", "actions clipped"),
        ("refused_actions", "actions refused"),
        ("limited_actions", "held back by limits"),
    )
    told += [Row(name, str(status[key])) for key, name in counted if status[key]]
    told += _refusals(status)
    if status["halted"]:
        told.append(Row("stands", status["halted"]))
    return told


def _refusals(status: dict[str, Any]) -> list[Row]:
    told = (("refused", "requests refused"), ("turned_away", "turned away"))
    return [
        Row(name, ", ".join(f"{who} {times}" for who, times in status[key].items()), is_bad=True)
        for key, name in told
        if status[key]
    ]


def _times(ms: dict[str, float] | None) -> str:
    return f"p50 {ms['p50']:.1f}, p99 {ms['p99']:.1f}, max {ms['max']:.1f} ms" if ms else "-"


def _encode(told: list[Row]) -> bytes:
    return msgspec.json.encode({"type": "bridge", "rows": told})
