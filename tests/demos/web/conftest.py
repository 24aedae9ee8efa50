"""The pages in Debian's Chromium without a window, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

TIMEOUT_MS = 30_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page at an address; what else is given describes the device, such as `has_touch=True`."""
    contexts = []

    def open_at(url: str, script: str = "", **device: Any) -> Page:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **device})
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.goto(url)
        return page

    yield open_at
    for context in contexts:
        context.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: into $ROBOT_RLPD_PICTURES to look at them."""
    return Path(os.environ.get("ROBOT_RLPD_PICTURES", tmp_path))
