"""The pages in a real browser: drive, record, review, and let go when the page is gone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from websockets.sync.client import connect

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.robot import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, "-c", "import sys; from robot_rlpd.cli import main; sys.exit(main())"]
TIMEOUT_MS = 30_000
DRIVE = ["--task", "pick_place", "--max-episode-steps", "2000", "--out", "store"]
FAKE_PAD = """
window.pad = { index: 0, axes: [0, 0, 0, 0], buttons: Array.from({ length: 17 }, () => ({ pressed: false })) };
navigator.getGamepads = () => [window.pad];
"""


class Served:
    """A program that serves a page."""

    def __init__(self, folder: Path, *words: str) -> None:
        command = [*PROGRAM, "console", *words, "--port", "0"]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.url = next(found[0] for line in self.process.stderr if (found := re.search(r"http://[^\s;]+", line)))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    pytest.importorskip("mujoco", reason="needs mujoco")
    running: list[Served] = []

    def start(*words: str) -> Served:
        running.append(Served(tmp_path, *words))
        return running[-1]

    yield start
    for served in running:
        served.close()


def expect(locator: Locator) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def see(page: Page, selector: str, text: str | re.Pattern[str]) -> None:
    expect(page.locator(selector)).to_have_text(text, timeout=TIMEOUT_MS)


def begin(page: Page) -> None:
    see(page, "#phase", "waiting")
    page.keyboard.press("Enter")
    see(page, "#phase", "● rec")


def see_action(page: Page, index: int, value: str) -> None:
    """Wait until a component of the executed action is so much."""
    see(page, "#fields tr:first-child td:last-child", re.compile(rf"^(\S+\s+){{{index}}}{re.escape(value)}(\s|$)"))


def is_still(data: str | bytes) -> bool:
    if isinstance(data, bytes):
        return False
    message = json.loads(data)
    return bool(message["type"] == "state" and message["holding"] and message["action"][0] == 0.0)


def test_an_operator_drives_records_labels_and_trims_and_the_store_has_exactly_that(
    serve: Callable[..., Served], open_page: Callable[..., Page], tmp_path: Path, pictures: Path
) -> None:
    console = serve(*DRIVE)
    page = open_page(console.url)
    see(page, "#fields tr:nth-child(2) td:last-child", re.compile(r"\d"))
    page.screenshot(path=pictures / "waiting.png")
    begin(page)
    page.keyboard.down("w")
    see_action(page, 0, "0.030")
    page.keyboard.up("w")
    page.keyboard.press(" ")
    page.keyboard.down("ArrowDown")
    see_action(page, 0, "-0.030")
    page.screenshot(path=pictures / "recording.png")
    page.keyboard.up("ArrowDown")
    assert float(page.text_content("#latency") or "nan") < 1000
    page.keyboard.press("Enter")
    see(page, "#told", "kept as success")
    begin(page)
    page.click("[data-ask=discard]")
    see(page, "#told", "discarded")
    page.click("[data-ask=quit]")
    assert console.process.wait(timeout=30) == 0

    (recorded,) = EpisodeStore.open(tmp_path / "store")
    assert recorded.info.success
    assert (recorded.info.device, recorded.info.task) == ("browser", "pick_place")
    assert set(recorded.sources.tolist()) == {Source.HUMAN}
    assert (recorded.actions[:, 0] > 0.029).any()
    assert (recorded.actions[:, 0] < -0.029).any()
    assert recorded.actions[0, 3] == np.float32(0.08)
    assert recorded.actions[-1, 3] == 0.0

    page = open_page(serve("--review", "store").url)
    see(page, "#where", re.compile("^step 0 "))
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("[")
    page.screenshot(path=pictures / "review.png")
    page.click("#trim")
    see(page, "#told", f"trimmed to {len(recorded) - 2} of {len(recorded)} steps")
    (trimmed,) = EpisodeStore.open(tmp_path / "store")
    assert trimmed.info == recorded.info
    assert np.array_equal(trimmed.actions, recorded.actions[2:])
    for name, values in recorded.observations.items():
        assert np.array_equal(trimmed.observations[name], values[2:])


def test_a_pad_plugged_into_the_operators_computer_drives(
    serve: Callable[..., Served], open_page: Callable[..., Page], tmp_path: Path
) -> None:
    page = open_page(serve(*DRIVE).url, script=FAKE_PAD)
    see(page, "#phase", "waiting")

    def press(button: int) -> None:
        for pressed in ("true", "false"):
            page.evaluate(
                f"new Promise((done) => {{ pad.buttons[{button}].pressed = {pressed}; setTimeout(done, 120); }})"
            )

    press(9)
    see(page, "#phase", "● rec")
    page.evaluate("() => { pad.axes = [0, -1, 0, 0.05]; }")
    see_action(page, 0, "0.030")
    see_action(page, 2, "0.000")
    page.evaluate("() => { pad.axes = [0, 0, 0, 0.5]; }")
    see_action(page, 2, "-0.015")
    see_action(page, 0, "0.000")
    press(0)
    see(page, "#gripper", "Open gripper")
    page.evaluate("() => { pad.axes = [0, 0, 0, 0]; }")
    press(1)
    see(page, "#told", "kept as failure")
    page.click("[data-ask=quit]")
    see(page, "#phase", "no connection")
    (episode,) = EpisodeStore.open(tmp_path / "store")
    assert episode.info.success is False
    assert episode.actions[-1, 3] == 0.0


def test_a_finger_drives_on_a_telephone(
    serve: Callable[..., Served], open_page: Callable[..., Page], tmp_path: Path, pictures: Path
) -> None:
    page = open_page(serve(*DRIVE).url, viewport={"width": 412, "height": 860}, has_touch=True, is_mobile=True)
    see(page, "#phase", "waiting")
    page.tap("[data-ask=start]")
    see(page, "#phase", "● rec")
    page.locator("#left-stick").scroll_into_view_if_needed()
    box: Any = page.locator("#left-stick").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    finger = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in points]})

    touch("touchStart", (x, y))
    touch("touchMove", (x, y - box["height"]))
    see_action(page, 0, "0.030")
    page.screenshot(path=pictures / "telephone.png")
    touch("touchEnd")
    see_action(page, 0, "0.000")
    page.tap("#gripper")
    see(page, "#gripper", "Open gripper")
    page.tap("[data-ask=success]")
    see(page, "#told", "kept as success")
    page.tap("[data-ask=quit]")
    see(page, "#phase", "no connection")
    (episode,) = EpisodeStore.open(tmp_path / "store")
    assert episode.info.success
    assert (episode.actions[:, 0] > 0.029).any()


def test_an_operator_reviews_in_the_browser(
    serve: Callable[..., Served], open_page: Callable[..., Page], tmp_path: Path, pictures: Path
) -> None:
    record = ["record", "--task", "pick_place", "--episodes", "3", "--out", "store"]
    subprocess.run([*PROGRAM, *record], cwd=tmp_path, check=True)
    before = list(EpisodeStore.open(tmp_path / "store"))
    page = open_page(serve("--review", "store").url)
    see(page, "#where", re.compile("^step 0 "))
    page.keyboard.press("h")
    expect(page.locator("#panels canvas").nth(3)).to_be_visible(timeout=TIMEOUT_MS)
    assert page.text_content("#numbers tr td") == "3: 3 successes, 0 failures, 0 unknown"
    page.screenshot(path=pictures / "statistics.png")
    page.keyboard.press("h")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("[")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("]")
    page.click("#trim")
    see(page, "#told", re.compile("^trimmed to 5 of"))
    page.keyboard.press("ArrowDown")
    expect(page.locator("#episodes button").nth(1)).to_have_class("open")
    see(page, "#where", re.compile("^step 0 "))
    page.click("#failure")
    see(page, "#told", "labelled a failure")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#episodes button").nth(2)).to_have_class("open")
    for button, told in (("#delete", "deleted"), ("#undo", "undone: delete")):
        page.click(button)
        see(page, "#told", told)
    page.screenshot(path=pictures / "edited.png")
    after = list(EpisodeStore.open(tmp_path / "store"))
    assert [len(episode) for episode in after] == [5, len(before[1]), len(before[2])]
    assert np.array_equal(after[0].actions, before[0].actions[5:10])
    assert [episode.info.success for episode in after] == [True, False, True]


def test_how_the_bridge_does_is_seen_while_a_served_robot_is_driven(
    serve: Callable[..., Served], open_page: Callable[..., Page], tmp_path: Path, pictures: Path
) -> None:
    words = ["serve", "--robot", "sim:reach", "--address", "tcp://127.0.0.1:0", "--json"]
    with subprocess.Popen([*PROGRAM, *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["address"]
            page = open_page(serve("--robot", address).url)
            begin(page)
            late = page.locator("#bridge div", has_text="late steps").locator("b")
            expect(late).to_have_text(re.compile(r"of [1-9]"), timeout=TIMEOUT_MS)
            for name, value in (("rate", r"Hz of 10$"), ("step seen from here", r"^p50 \d"), ("versions", "protocol")):
                line = page.locator("#bridge div", has=page.locator(f"span:text-is('{name}')")).locator("b")
                expect(line).to_have_text(re.compile(value), timeout=TIMEOUT_MS)
            page.screenshot(path=pictures / "bridge.png")
            watching = open_page(serve("--watch", address).url)
            see(watching, "#name", "sim_arm_reach")
            see(watching, "#phase", "runs")
            see(watching, "#fields tr:first-child td:last-child", re.compile(r"\d"))
            watching.screenshot(path=pictures / "watch.png")
        finally:
            server.terminate()


@pytest.mark.parametrize("how", ["hidden", "closed"])
def test_the_robot_holds_when_the_page_is_gone(
    how: str, serve: Callable[..., Served], open_page: Callable[..., Page], tmp_path: Path
) -> None:
    console = serve(*DRIVE)
    page = open_page(console.url)
    begin(page)
    page.keyboard.down("w")
    see_action(page, 0, "0.030")
    if how == "closed":
        page.close()
        with connect(console.url.replace("http", "ws") + "ws") as watcher:
            while not is_still(watcher.recv(timeout=20)):
                pass
    else:
        page.evaluate(
            "() => { Object.defineProperty(document, 'hidden', { value: true }); "
            "document.dispatchEvent(new Event('visibilitychange')); }"
        )
        see_action(page, 0, "0.000")
    console.process.terminate()
    console.process.wait(timeout=30)
    (episode,) = EpisodeStore.open(tmp_path / "store")
    moving = episode.actions[:, 0] > 0.029
    assert moving.any()
    assert not moving[-1]
