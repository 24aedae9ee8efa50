from __future__ import annotations

import threading
from typing import Any

import numpy as np

from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.bridge.statistics import Statistics
from robot_rlpd.learner import bridge_figures
from robot_rlpd.testing import FakeRobot

STILL = np.zeros(2, np.float32)


class Served(FakeRobot):
    """A robot with the statistics of a client."""

    def __init__(self) -> None:
        super().__init__()
        self.statistics = Statistics(0.1, paced=True)


class Actors:
    """A learner's server that heard of these actors."""

    def __init__(self, *actors: dict[str, Any]) -> None:
        self._actors = actors

    def status(self) -> dict[str, Any]:
        return {"actors": {str(i): actor for i, actor in enumerate(self._actors)}}


def test_a_robot_in_this_process_has_no_figures() -> None:
    assert bridge_figures.of_robot(FakeRobot())() == ({}, "")


def test_a_served_robot_tells_its_round_trips_and_what_went_wrong_with_them() -> None:
    robot = Served()
    figures = bridge_figures.of_robot(robot)
    assert figures() == ({}, "")
    for took_s in (0.1, 0.1, 0.1):
        robot.statistics.step(0.0, took_s)
    assert figures()[1] == "bridge 100.0 ms, 99 % within 100.0 ms"
    robot.statistics.step(0.0, 0.5)
    robot.statistics.repeated = 2
    values, text = figures()
    assert text.endswith(", 1 late, 2 repeated")
    assert values["bridge_late_ticks"] == 1
    assert values["bridge_step_ms_p50"] == 100.0


def test_a_client_counts_its_own_steps() -> None:
    server, over = RobotServer(FakeRobot(), "tcp://127.0.0.1:0", pace="fast"), threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(over.is_set,))
    thread.start()
    try:
        with RemoteRobot(server.address) as robot:
            robot.reset(seed=0)
            for _ in range(3):
                robot.step(STILL)
            told = robot.statistics.to_json()
    finally:
        over.set()
        thread.join()
    assert (told["env_steps"], told["episodes"], told["repeated"], told["late_ticks"]) == (3, 1, 0, 0)
    assert told["step_ms"]["p50"] > 0


def test_actors_are_told_with_what_waits_on_either_side() -> None:
    server: Any = Actors({"away": False, "pending": 2}, {"away": True, "pending": 1})
    values, text = bridge_figures.of_server(server, lambda: 4)()
    assert values == {"actors": 2, "actors_away": 1, "pending_episodes": 3, "waiting_episodes": 4}
    assert text == "2 actors, 1 away, 3 episodes with them, 4 waiting here"
    server = Actors({"away": False, "pending": 0})
    assert bridge_figures.of_server(server, lambda: 0)()[1] == "1 actor, 0 episodes with them, 0 waiting here"
