"""The page in a real browser: teleoperates, records, and lets go when it is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

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


def address(console: subprocess.Popen[str]) -> str:
    assert console.stderr is not None
    return next(line.split()[-1] for line in console.stderr if "the page is at" in line)


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


@pytest.mark.parametrize("how", ["hidden", "closed"])
def test_the_robot_holds_when_the_page_is_gone(
    how: str, console: subprocess.Popen[str], browser: Browser, tmp_path: Path
) -> None:
    browser.open(address(console))
    browser.wait_for("document.querySelector('#phase').textContent === 'waiting'")
    browser.press("Enter")
    browser.wait_for("document.querySelector('#phase').className.includes('recording')")
    browser.key("w", down=True)
    browser.wait_for("Number(document.querySelector('#fields td + td').textContent.split('  ')[0]) === 0.03")
    if how == "closed":
        browser.close_tab()
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
    if how == "hidden":
        assert not moving[-1]
