"""The page that only looks at a served robot or at a learner, however many look."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
from websockets.exceptions import ConnectionClosed

from demos.web.bridge_look import Row, rows, rows_of_learner
from demos.web.server import PageServer, ServingOptions
from demos.web.view import described, encoded_frames, shown_fields, shown_numbers
from robot_rlpd.bridge.observer import Observer
from robot_rlpd.errors import RobotRlpdError

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from robot_rlpd.robot import Observation

FILES = ("watch.js", "parts.js", "plot.js", "console.css")
PERIOD_S = 0.5
"""Between two looks; each costs the server as much as a step."""
TIMEOUT_S = 2.0


class Watched:
    """What is looked at, from a thread of its own.

    Args:
        address: Of a served robot, or of a learner.

    Attributes:
        hello: What does not change, for a page that has just connected.
        news: Messages of the newest look; another object after each.

    Raises:
        BridgeError: Nobody answers there, or a key is refused.
        ConfigError: Not an address.
    """

    def __init__(self, address: str) -> None:
        self._observer = Observer(address, timeout_s=TIMEOUT_S)
        try:
            self._status: dict[str, Any] = self._observer.status()
            self._is_learner = bool(self._status.get("learner"))
            spec = None if self._is_learner else self._observer.spec()
        except BaseException:
            self._observer.close()
            raise
        self._answered_s = time.monotonic()
        self._cameras, self._fields = ([], []) if spec is None else shown_fields(spec)
        self.hello = msgspec.json.encode(
            {
                "type": "hello",
                "name": "learner" if spec is None else spec.name,
                "address": address,
                "cameras": [field.name for field in self._cameras],
                "fields": None if spec is None else described(self._fields),
            }
        )
        self.news: list[str | bytes] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with self._observer:
            while not self._over.is_set():
                problem = ""
                observation: Observation = {}
                try:
                    self._status = self._observer.status()
                    observation = {} if self._is_learner else self._observer.observation()
                    self._answered_s = time.monotonic()
                except RobotRlpdError as error:
                    problem = error.message
                self.news = [*self._figures(problem), *self._seen(observation)]
                self._over.wait(PERIOD_S)

    def _figures(self, problem: str) -> list[str | bytes]:
        silent_s = time.monotonic() - self._answered_s
        status, phase = self._status, "runs"
        try:
            if self._is_learner:
                told = rows_of_learner(status)
                told += [Row("answer", f"none for {silent_s:.0f} s: {problem}", is_bad=True)] if problem else []
            else:
                told = rows(status, None, silent_s=silent_s, problem=problem)
                phase = "stands" if status["halted"] else phase
        except KeyError as error:  # of another version
            told = [Row("server", f"does not tell its {error.args[0]}", is_bad=True)]
        phase = "no answer" if problem else phase
        return [msgspec.json.encode({"type": "bridge", "rows": told, "phase": phase}).decode()]

    def _seen(self, observation: Observation) -> list[str | bytes]:
        if not observation:
            return []
        values = shown_numbers(self._fields, observation)
        state = msgspec.json.encode({"type": "state", "observation": values}).decode()
        return [state, *encoded_frames(self._cameras, observation)]


class WatchPage:
    """Serves the page until it is closed.

    Args:
        address: Of what is looked at.
        serving: Where the page is.

    Attributes:
        url: Address of the page, with its token.

    Raises:
        BridgeError: Nobody answers at the address, or a key is refused.
        ConfigError: Not an address, or the page's own cannot be used.
    """

    def __init__(self, address: str, serving: ServingOptions) -> None:
        self._watched = Watched(address)
        try:
            self._server = PageServer("watch.html", FILES, self._attend, serving)
        except BaseException:
            self._watched.close()
            raise
        self.url = self._server.url

    def wait(self) -> None:
        """Until an interrupt."""
        threading.Event().wait()

    def close(self) -> None:
        """Stop serving and looking."""
        self._server.close()
        self._watched.close()

    async def _attend(self, page: ServerConnection) -> None:
        await page.send(self._watched.hello, text=True)
        shown: list[str | bytes] = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                if shown is not self._watched.news:
                    shown = self._watched.news
                    for message in shown:
                        await page.send(message)
                await asyncio.sleep(PERIOD_S / 2)
