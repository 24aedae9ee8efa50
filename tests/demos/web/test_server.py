"""The server as a program sees it that speaks the page's protocol, without a browser."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from demos.recording.state import RecorderState
from demos.teleop.browser import BrowserDevice
from demos.web.commands import ConsoleConfig
from demos.web.console import BrowserConsole, parse_port
from demos.web.driving import FILES, DrivingPages
from demos.web.server import ServingOptions
from demos.web.view import View
from robot_rlpd import images
from robot_rlpd.clock import ManualClock
from robot_rlpd.errors import ConfigError
from robot_rlpd.specs import ArraySpec
from robot_rlpd.testing import FakeRobot, fake_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.sync.client import ClientConnection

CAMERA = ArraySpec(name="camera", shape=(16, 24, 3), dtype="uint8", low=(0,), high=(255,), is_image=True)
SPEC = replace(fake_spec(), observation=(*fake_spec().observation, CAMERA))
TIMEOUT_S = 20.0


class Console:
    """A device on a manual clock with its server."""

    def __init__(self, **serving: Any) -> None:
        self.clock = ManualClock(50.0)
        self.device = BrowserDevice(SPEC.action, SPEC.control_rate_hz, self.clock)
        self.view = View(SPEC, self.device)
        self.server = DrivingPages(self.device, self.view, ServingOptions(**{"port": 0, **serving}))
        head, _, query = self.server.url.partition("?")
        self.socket_url = head.replace("http", "ws") + "ws" + (f"?{query}" if query else "")

    def action(self) -> list[float]:
        return [float(value) for value in self.device({})]


@pytest.fixture
def console() -> Iterator[Console]:
    made = Console()
    yield made
    made.server.close()


def hear(page: ClientConnection, kind: str, **wanted: Any) -> dict[str, Any]:
    """The next message of a kind in which these values are as wanted."""
    while True:
        data = page.recv(timeout=TIMEOUT_S)
        if isinstance(data, str):
            message: dict[str, Any] = json.loads(data)
            if message["type"] == kind and all(message[name] == value for name, value in wanted.items()):
                return message


def say(page: ClientConnection, **message: Any) -> None:
    page.send(json.dumps(message))


def drive(page: ClientConnection, *axes: float, seen: float) -> float:
    """Send a command; what the echo says is the device's time."""
    say(page, type="drive", axes=axes, seen=seen, sent=1.0)
    return float(hear(page, "echo")["now"])


def test_a_page_that_goes_silent_lets_the_robot_hold(console: Console) -> None:
    with connect(console.socket_url) as page:
        now_s = drive(page, 1.0, -1.0, seen=0.0)
        assert console.action() == [0.0, 0.0]  # it has not heard anything of the device yet
        drive(page, 1.0, -1.0, seen=now_s)
        assert console.action() == [0.5, -0.5]
        console.clock.advance(0.099)
        assert console.action() == [0.5, -0.5]
        console.clock.advance(0.002)
        assert console.action() == [0.0, 0.0]


def test_a_page_that_is_closed_lets_the_robot_hold_at_once(console: Console) -> None:
    with connect(console.socket_url) as other:
        hear(other, "state", driving=True)
        with connect(console.socket_url) as page:
            say(page, type="role", do="take")
            hear(page, "state", driving=True)
            drive(page, 1.0, 0.0, seen=console.clock.now_s())
            assert console.action() == [0.5, 0.0]
        hear(other, "state", watchers=0)
        assert console.action() == [0.0, 0.0]


def test_a_page_that_is_hidden_lets_the_robot_hold_at_once(console: Console) -> None:
    with connect(console.socket_url) as page:
        drive(page, 1.0, 0.0, seen=console.clock.now_s())
        say(page, type="role", do="release")
        say(page, type="drive", axes=[0.0], seen=0.0, sent=1.0)
        hear(page, "echo")
        assert console.action() == [0.0, 0.0]


def test_one_page_drives_and_the_others_look_on_until_they_take_over(console: Console) -> None:
    with connect(console.socket_url) as first, connect(console.socket_url) as second:
        hear(first, "state", driving=True, watchers=1)
        hear(second, "state", driving=False)
        drive(second, 1.0, 0.0, seen=console.clock.now_s())
        say(second, type="ask", request="discard")
        drive(second, 1.0, 0.0, seen=console.clock.now_s())
        assert console.action() == [0.0, 0.0]
        assert console.device.poll() == []
        say(second, type="role", do="take")
        hear(first, "state", driving=False)
        hear(second, "state", driving=True)
        drive(first, 1.0, 0.0, seen=console.clock.now_s())
        assert console.action() == [0.0, 0.0]
        drive(second, 0.0, 1.0, seen=console.clock.now_s())
        assert console.action() == [0.0, 0.5]


def test_buttons_reach_the_recorder(console: Console) -> None:
    with connect(console.socket_url) as page:
        for request in ("start", "success", "undo"):
            say(page, type="ask", request=request)
        drive(page, seen=0.0)
        assert console.device.poll() == ["start", "success", "undo"]


@pytest.mark.parametrize("wrong", ["{", '{"type":"ask","request":"explode"}', '{"type":"drive","axes":"x"}'])
def test_a_message_that_is_none_ends_the_connection_and_nothing_else(console: Console, wrong: str) -> None:
    with connect(console.socket_url) as page:
        page.send(wrong)
        with pytest.raises(ConnectionClosed, match="1008"):
            hear(page, "nothing")
    with connect(console.socket_url) as page:
        hear(page, "state", driving=True)


def test_the_page_is_told_what_there_is_and_what_happens(console: Console) -> None:
    with connect(console.socket_url) as page:
        hello = hear(page, "hello")
        assert hello["cameras"] == ["camera"]
        assert hello["axes"] == ["x", "y"]
        assert [field["name"] for field in hello["fields"]] == ["position", "target"]
        assert hello["hold_within_ms"] == 200
        console.view.show(RecorderState(phase="recording", kept=3, target=20))
        observation = {**FakeRobot().reset(seed=0).observation, "camera": np.full(CAMERA.shape, 90, np.uint8)}
        console.view.observe(observation)
        frame = next(data for data in iter(lambda: page.recv(timeout=TIMEOUT_S), None) if isinstance(data, bytes))
        assert frame[0] == 0
        assert abs(images.decode(frame[1:], CAMERA.shape).astype(int) - 90).max() <= 2
        state = hear(page, "state")
        assert (state["session"]["phase"], state["session"]["kept"], state["session"]["target"]) == ("recording", 3, 20)
        assert state["observation"]["position"] == [0.0, 0.0]


def test_the_page_is_told_how_the_bridge_does_when_there_is_something_new() -> None:
    class Look:
        message = b'{"type":"bridge","rows":[["rate","9.9 Hz",false]]}'

    look = Look()
    device = BrowserDevice(SPEC.action, SPEC.control_rate_hz, ManualClock(50.0))
    pages = DrivingPages(device, View(SPEC, device), ServingOptions(port=0), bridge=look)  # type: ignore[arg-type]
    try:
        with connect(pages.url.replace("http", "ws") + "ws") as page:
            assert hear(page, "bridge")["rows"] == [["rate", "9.9 Hz", False]]
            look.message = b'{"type":"bridge","rows":[]}'
            assert hear(page, "bridge")["rows"] == []
    finally:
        pages.close()


def fetch(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_page_and_all_its_files_are_served_and_nothing_else(console: Console) -> None:
    status, text = fetch(console.server.url)
    assert status == 200
    assert "console.js" in text
    for path in FILES:
        assert fetch(console.server.url + path)[0] == 200
    for path in ("/nothing", "/server.py", "/../commands.py"):
        assert fetch(console.server.url.rstrip("/") + path)[0] == 404


def test_a_page_of_another_site_may_not_drive(console: Console) -> None:
    with pytest.raises(InvalidStatus, match="403"), connect(console.socket_url, origin=Origin("http://evil.example")):
        pass
    for host in ("evil.example:80", "localhost.evil.example", "[::1", ""):
        assert fetch(console.server.url, Host=host)[0] == 403
    for host in ("localhost", "localhost:8000", "[::1]:8000"):
        assert fetch(console.server.url, Host=host)[0] == 200


def test_elsewhere_a_token_is_needed() -> None:
    with pytest.raises(ConfigError, match="token"):
        Console(host="0.0.0.0")
    with closing(Console(host="0.0.0.0", token="secret").server) as server:
        page = server.url.replace("0.0.0.0", "127.0.0.1")
        bare = page.partition("?")[0]
        assert fetch(page)[0] == 200
        assert fetch(bare)[0] == 403
        assert fetch(f"{bare}?token=wrong")[0] == 403
        assert fetch(f"{bare}ws")[0] == 403


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"certificate: cannot be used: .*no\.pem"):
        Console(certificate=(tmp_path / "no.pem", tmp_path / "no.key"))


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port: cannot listen: .*127.0.0.1:{port}"):
            BrowserConsole(SPEC, ServingOptions(port=port))


def test_the_cameras_are_shown_before_the_first_episode() -> None:
    shown = BrowserConsole(SPEC, ServingOptions(port=0))
    with closing(shown), connect(shown.url.replace("http", "ws") + "ws") as page:
        grey = np.full(CAMERA.shape, 90, np.uint8)
        shown.show_between({"position": np.zeros(2), "target": np.zeros(2), "camera": grey})
        while isinstance(frame := page.recv(timeout=TIMEOUT_S), str):
            pass
    assert abs(images.decode(frame[1:], CAMERA.shape).astype(int) - 90).max() <= 2


def test_a_camera_that_gives_no_image_is_told(console: Console) -> None:
    console.view.show(RecorderState(phase="recording", missing_cameras={"camera": 0.4}))
    with connect(console.socket_url) as page:
        assert hear(page, "state")["session"]["missing_cameras"] == {"camera": 0.4}


@pytest.mark.parametrize("text", ["eighty", "-1", "65536"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="0 to 65535"):
        parse_port(text)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"task": "reach", "episodes": 0}, {"task": "reach", "port": 70000}, {"task": "reach", "certificate": "x.pem"}],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ConsoleConfig(**wrong)
