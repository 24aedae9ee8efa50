"""How the bridge does while a session trains over it: for the metrics and the progress line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robot_rlpd.bridge.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.bridge.learner_server import LearnerServer
    from robot_rlpd.robot import Robot

    Figures = Callable[[], tuple[dict[str, float], str]]
    """Values for the metrics, and a text for the line; both empty where there is no bridge."""


def of_robot(robot: Robot) -> Figures:
    """Of a served robot that is stepped from here: round trips, late steps, repeated requests."""
    statistics = getattr(robot, "statistics", None)
    if not isinstance(statistics, Statistics):
        return lambda: ({}, "")

    def figures() -> tuple[dict[str, float], str]:
        told = statistics.to_json()
        trip = told["step_ms"]
        if trip is None:
            return {}, ""
        values = {
            "bridge_step_ms_p50": trip["p50"],
            "bridge_step_ms_p99": trip["p99"],
            "bridge_late_ticks": told["late_ticks"],
            "bridge_repeated": told["repeated"],
        }
        text = f"bridge {trip['p50']:.1f} ms, 99 % within {trip['p99']:.1f} ms"
        for name, text_of in (("late_ticks", "late"), ("repeated", "repeated")):
            text += f", {told[name]} {text_of}" if told[name] else ""
        return values, text

    return figures


def of_server(server: LearnerServer, waiting: Callable[[], int]) -> Figures:
    """Of actors elsewhere: how many, what lies in their outboxes, and what arrived and waits to be trained on."""

    def figures() -> tuple[dict[str, float], str]:
        actors = server.status()["actors"].values()
        away = sum(actor["away"] for actor in actors)
        values = {
            "actors": len(actors),
            "actors_away": away,
            "pending_episodes": sum(actor["pending"] for actor in actors),
            "waiting_episodes": waiting(),
        }
        text = f"{len(actors)} actor{'s' * (len(actors) != 1)}" + (f", {away} away" if away else "")
        text += f", {values['pending_episodes']} episodes with them, {values['waiting_episodes']} waiting here"
        return values, text

    return figures
