"""The page in a real browser: teleoperates, records, and lets go when it is gone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from websockets.sync.client import connect

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.robot import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.demos.web.conftest import Browser

PROGRAM = [sys.executable, "-c", "import sys; from robot_rlpd.cli import main; sys.exit(main())"]
pytestmark = pytest.mark.slow


@pytest.fixture
def console(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    pytest.importorskip("mujoco")
    words = ["console", "--task", "pick_place", "--max-episode-steps", "2000", "--port", "0", "--out", "store"]
    process = subprocess.Popen([*PROGRAM, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


def is_still(data: str | bytes) -> bool:
    if isinstance(data, bytes):
        return False
    message = json.loads(data)
    return bool(message["type"] == "state" and message["holding"] and message["action"][0] == 0.0)


def address(console: subprocess.Popen[str]) -> str:
    assert console.stderr is not None
    return next(found[0] for line in console.stderr if (found := re.search(r"http://[^\s;]+", line)))


def test_an_operator_drives_and_records_in_the_browser(
    console: subprocess.Popen[str], browser: Browser, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("ROBOT_RLPD_PICTURES", tmp_path))
    browser.open(address(console))
    browser.wait_for("document.querySelector('#phase').textContent === 'waiting'")
    browser.screenshot(pictures / "waiting.png")
    browser.press("Enter")
    browser.wait_for("document.querySelector('#phase').className.includes('recording')")
    browser.key("w", down=True)
    browser.wait_for("Number(document.querySelector('#fields td + td').textContent.split('  ')[0]) === 0.03")
    browser.key("w", down=False)
    browser.press(" ")
    browser.key("ArrowDown", down=True)
    browser.wait_for("Number(document.querySelector('#fields td + td').textContent.split('  ')[0]) === -0.03")
    browser.screenshot(pictures / "recording.png")
    browser.key("ArrowDown", down=False)
    assert float(browser.text("#latency")) < 1000
    browser.press("Enter")
    browser.wait_for("document.querySelector('#told').textContent === 'kept as success'")
    browser.press("Enter")
    browser.wait_for("document.querySelector('#phase').className.includes('recording')")
    browser.click("[data-ask=discard]")
    browser.wait_for("document.querySelector('#told').textContent === 'discarded'")
    browser.click("[data-ask=quit]")
    assert console.wait(timeout=30) == 0
    (episode,) = EpisodeStore.open(tmp_path / "store")
    assert episode.info.success
    assert (episode.info.device, episode.info.task) == ("browser", "pick_place")
    assert set(episode.sources.tolist()) == {Source.HUMAN}
    assert (episode.actions[:, 0] > 0.029).any()
    assert (episode.actions[:, 0] < -0.029).any()
    assert episode.actions[0, 3] == np.float32(0.08)
    assert episode.actions[-1, 3] == 0.0


def test_an_operator_reviews_in_the_browser(browser: Browser, tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    pictures = Path(os.environ.get("ROBOT_RLPD_PICTURES", tmp_path))
    record = ["record", "--task", "pick_place", "--episodes", "3", "--out", "store"]
    subprocess.run([*PROGRAM, *record], cwd=tmp_path, check=True)
    before = list(EpisodeStore.open(tmp_path / "store"))
    words = ["console", "--review", "store", "--port", "0"]
    process = subprocess.Popen([*PROGRAM, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        browser.open(address(process))
        browser.wait_for("document.querySelector('#where').textContent.startsWith('step 0')")
        for _ in range(5):
            browser.press("ArrowRight")
        browser.press("[")
        for _ in range(5):
            browser.press("ArrowRight")
        browser.press("]")
        browser.screenshot(pictures / "review.png")
        browser.click("#trim")
        browser.wait_for("document.querySelector('#told').textContent.startsWith('trimmed to 5 of')")
        browser.press("ArrowDown")
        browser.wait_for("document.querySelectorAll('#episodes button')[1].className === 'open'")
        browser.wait_for("document.querySelector('#where').textContent.startsWith('step 0')")
        browser.click("#failure")
        browser.wait_for("document.querySelector('#told').textContent === 'labelled a failure'")
        browser.press("ArrowDown")
        browser.wait_for("document.querySelectorAll('#episodes button')[2].className === 'open'")
        browser.wait_for("document.querySelector('#where').textContent.startsWith('step 0')")
        for button, told in (("#delete", "deleted"), ("#undo", "undone: delete")):
            browser.click(button)
            browser.wait_for(f"document.querySelector('#told').textContent === '{told}'")
        browser.screenshot(pictures / "edited.png")
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
    after = list(EpisodeStore.open(tmp_path / "store"))
    assert [len(episode) for episode in after] == [5, len(before[1]), len(before[2])]
    assert np.array_equal(after[0].actions, before[0].actions[5:10])
    assert [episode.info.success for episode in after] == [True, False, True]


@pytest.mark.parametrize("how", ["hidden", "closed"])
def test_the_robot_holds_when_the_page_is_gone(
    how: str, console: subprocess.Popen[str], browser: Browser, tmp_path: Path
) -> None:
    url = address(console)
    browser.open(url)
    browser.wait_for("document.querySelector('#phase').textContent === 'waiting'")
    browser.press("Enter")
    browser.wait_for("document.querySelector('#phase').className.includes('recording')")
    browser.key("w", down=True)
    browser.wait_for("Number(document.querySelector('#fields td + td').textContent.split('  ')[0]) === 0.03")
    if how == "closed":
        browser.close_tab()
        with connect(url.replace("http", "ws") + "ws") as watcher:
            while not is_still(watcher.recv(timeout=20)):
                pass
    else:
        browser.evaluate(
            "Object.defineProperty(document, 'hidden', {value: true}), "
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        browser.wait_for("Number(document.querySelector('#fields td + td').textContent.split('  ')[0]) === 0")
    assert console.stderr is not None
    console.terminate()
    console.wait(timeout=30)
    (episode,) = EpisodeStore.open(tmp_path / "store")
    moving = episode.actions[:, 0] > 0.029
    assert moving.any()
    assert not moving[-1]
