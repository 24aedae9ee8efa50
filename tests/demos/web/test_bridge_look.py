"""The figures of the bridge on the page: what people read, and that they come from a served robot."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from websockets.sync.client import connect

from demos.web.bridge_look import Row, look_at_bridge, rows, rows_of_learner
from demos.web.server import ServingOptions
from demos.web.watch import WatchPage
from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.episodes import Inbox
from robot_rlpd.bridge.learner_server import LearnerServer
from robot_rlpd.bridge.observer import Observer
from robot_rlpd.bridge.policies import Shelf
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.errors import DeadlineError
from robot_rlpd.testing import FakeRobot

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 20.0


@pytest.fixture
def address() -> Iterator[str]:
    server = RobotServer(FakeRobot(), "tcp://127.0.0.1:0", pace="fast")
    over = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(over.is_set,))
    thread.start()
    yield server.address
    over.set()
    thread.join()


def named(told: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in told}


def test_what_the_server_tells_is_shown_and_what_never_happened_is_not(address: str) -> None:
    with RemoteRobot(address, client_name="the page") as robot, Observer(address) as observer:
        robot.reset(seed=0)
        for _ in range(3):
            robot.step(np.zeros(2, np.float32))
        status: dict[str, Any] = observer.status()
        told = named(rows(status, robot.statistics.to_json(), silent_s=0.1))
    assert told["commander"].value == "the page"
    assert told["late steps"].value == "0 of 3"
    assert told["rate"].value.endswith("as fast as it can")
    assert told["step seen from here"].value.startswith("p50 ")
    assert not any(row.is_bad for row in told.values())
    assert not {"answer", "requests refused", "turned away", "answered again", "stands"} & told.keys()
    status |= {
        "late_ticks": 2,
        "refused": {"seat": 4},
        "turned_away": {"no keys": 1},
        "version": "0.0.1",
        "halted": "x",
    }
    told = named(rows(status, robot.statistics.to_json(), silent_s=9.0, problem="no answer within 2 s"))
    bad = {name for name, row in told.items() if row.is_bad}
    assert bad == {"answer", "late steps", "requests refused", "turned away", "versions"}
    assert told["requests refused"].value == "seat 4"
    assert told["stands"].value == "x"


def test_the_figures_come_by_themselves_and_only_of_a_served_robot(address: str) -> None:
    assert look_at_bridge(FakeRobot()) is None
    assert look_at_bridge(None) is None
    with RemoteRobot(address) as robot:
        look = look_at_bridge(robot)
        assert look is not None
        try:
            asked = look.message
            waiting = threading.Event()
            for _ in range(int(TIMEOUT_S / 0.02)):
                if look.message is not asked:
                    break
                waiting.wait(0.02)
            told = msgspec.json.decode(look.message)
            assert told["type"] == "bridge"
            assert ["robot", f"fake on {robot.server}", False] in told["rows"]
        finally:
            look.close()


def hear(page: Any, kind: str, **wanted: Any) -> dict[str, Any]:
    """The next message of a kind in which these values are as wanted."""
    while True:
        message: dict[str, Any] = json.loads(page.recv(timeout=TIMEOUT_S))
        if message["type"] == kind and all(message[name] == value for name, value in wanted.items()):
            return message


def socket_of(page: WatchPage) -> str:
    return page.url.replace("http", "ws") + "ws"


def test_a_page_looks_at_a_robot_that_somebody_else_commands(address: str) -> None:
    page = WatchPage(address, ServingOptions(port=0))
    try:
        with RemoteRobot(address, client_name="train") as robot, connect(socket_of(page)) as browser:
            hello = hear(browser, "hello")
            assert (hello["name"], hello["cameras"]) == ("fake", [])
            assert [field["name"] for field in hello["fields"]] == ["position", "target"]
            hear(browser, "bridge", phase="stands")
            target = robot.reset(seed=0).observation["target"]
            told = {name: value for name, value, _ in hear(browser, "bridge", phase="runs")["rows"]}
            assert told["commander"] == "train"
            assert np.allclose(hear(browser, "state")["observation"]["target"], target, atol=1e-3)
            robot.step(np.zeros(2, np.float32))  # it still commands
    finally:
        page.close()


def test_a_page_looks_at_a_learner_and_its_actors() -> None:
    contract = FakeRobot().spec.contract()
    inbox = Inbox(contract, is_stored=lambda uuid: False, store=len, received=lambda episode: None)
    server = LearnerServer("tcp://127.0.0.1:0", contract=contract, inbox=inbox, shelf=Shelf())
    try:
        page = WatchPage(server.address, ServingOptions(port=0))
        try:
            with connect(socket_of(page)) as browser:
                assert hear(browser, "hello")["fields"] is None
                assert ["policy", "none yet", False] in hear(browser, "bridge", phase="runs")["rows"]
        finally:
            page.close()
        status = server.status()
    finally:
        server.close()
    actor = {"acting": "", "rejected": "", "pending": 3, "episodes": 7, "heard_s": 0.2, "away": False}
    status["actors"] = {"left": actor, "right": {**actor, "acting": "ab12", "away": True, "heard_s": 61.0}}
    told = named(rows_of_learner(status))
    assert told["actor left"] == Row("actor left", "acts at random; 3 in its outbox, 7 received")
    assert told["actor right"].value == "acts with ab12; 3 in its outbox, 7 received; away for 61 s"
    assert told["actor right"].is_bad


def test_where_nobody_answers_there_is_nothing_to_look_at() -> None:
    with pytest.raises(DeadlineError, match="nobody listens"):
        WatchPage("ipc:///nowhere/at/all", ServingOptions(port=0))
