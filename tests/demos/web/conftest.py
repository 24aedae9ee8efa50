"""A headless Chromium driven by the DevTools protocol, for tests of the page."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.sync.client import ClientConnection

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"),
    "--window-size=1280,800",
)
START_TIMEOUT_S = 30.0


class Browser:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._target = target

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=START_TIMEOUT_S))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> None:
        self.call("Page.enable")
        self.call("Page.navigate", url=url)
        while json.loads(self._socket.recv(timeout=START_TIMEOUT_S)).get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        """The value of an expression; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition: str, timeout_ms: int = 20_000) -> None:
        """Until the condition holds in the page."""
        look = (
            "new Promise((done, fail) => { const began = Date.now(); const look = () => "
            f"({condition}) ? done(true) : Date.now() - began > {timeout_ms} "
            f"? fail(new Error('never: ' + {json.dumps(condition)} + ' | ' + document.body.innerText.slice(0, 300))) "
            ": setTimeout(look, 20); look(); })"
        )
        assert self.evaluate(look)

    def key(self, key: str, *, down: bool) -> None:
        self.call("Input.dispatchKeyEvent", type="keyDown" if down else "keyUp", key=key)

    def press(self, key: str) -> None:
        self.key(key, down=True)
        self.key(key, down=False)

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def text(self, selector: str) -> str:
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close_tab(self) -> None:
        """Close the page; the browser stays."""
        target, self._session = self._target, ""
        self.call("Target.closeTarget", targetId=target)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium here")
    command = [program, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    try:
        address = next(found[1] for line in process.stderr if (found := re.search(r"(ws://\S+)", line)))
        with connect(address, max_size=None, compression=None) as socket:
            yield Browser(socket)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
