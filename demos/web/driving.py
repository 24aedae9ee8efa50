"""The pages that drive: commands one way, views the other."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Literal

import msgspec
from websockets.exceptions import ConnectionClosed

from demos.teleop.device import Request
from demos.web.server import PageServer, ServingOptions

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from demos.teleop.browser import BrowserDevice
    from demos.web.bridge_look import BridgeLook
    from demos.web.view import View

FILES = ("console.js", "parts.js", "sticks.js", "plot.js", "console.css")
VIEW_PERIOD_S = 1.0 / 30.0
"""A page is sent what is new at most so often [s]; a slow one gets less, and always the newest."""


class Drive(msgspec.Struct, tag="drive"):
    """A command; `seen` is the device's time that the page saw last, `sent` the page's own."""

    axes: list[float]
    seen: float
    sent: float


class Gripper(msgspec.Struct, tag="gripper"):
    """Switch the gripper."""


class Ask(msgspec.Struct, tag="ask"):
    """A button of the recorder."""

    request: Request


class Role(msgspec.Struct, tag="role"):
    """Take the robot from whoever has it, or hold because the page is hidden."""

    do: Literal["take", "release"]


class DrivingPages:
    """The first page that connects drives; others look on until they take over.

    Args:
        device: Is commanded.
        view: Is shown.
        bridge: Figures of the bridge to the robot, where there is one.
        serving: Where, and to whom.

    Attributes:
        url: Address of the page, with its token.

    Raises:
        ConfigError: The address cannot be used.
    """

    def __init__(
        self, device: BrowserDevice, view: View, serving: ServingOptions, *, bridge: BridgeLook | None = None
    ) -> None:
        self._device, self._view, self._bridge = device, view, bridge
        self._pages: list[ServerConnection] = []
        self._driver: ServerConnection | None = None
        self._decoder = msgspec.json.Decoder(Drive | Gripper | Ask | Role)
        self._server = PageServer("index.html", FILES, self._attend, serving)
        self.url = self._server.url

    def close(self) -> None:
        """Stop serving."""
        self._server.close()

    async def _attend(self, page: ServerConnection) -> None:
        """Serve one page until it is gone."""
        self._pages.append(page)
        self._driver = self._driver or page
        await page.send(self._view.hello(), text=True)
        showing = asyncio.ensure_future(self._show(page))
        try:
            async for message in page:
                answer = self._take(page, message)
                if answer is not None:
                    await page.send(answer, text=True)
        except ConnectionClosed:
            pass
        except msgspec.MsgspecError as error:
            await page.close(1008, str(error)[:100])
        finally:
            showing.cancel()
            self._pages.remove(page)
            if self._driver is page:
                self._driver = None
                self._device.release()

    def _take(self, page: ServerConnection, data: str | bytes) -> bytes | None:
        message = self._decoder.decode(data)
        if isinstance(message, Role) and message.do == "take":
            self._device.release()
            self._driver = page
        elif page is self._driver:
            self._obey(message)
        if isinstance(message, Drive):
            return msgspec.json.encode({"type": "echo", "sent": message.sent, "now": self._device.now_s()})
        return None

    def _obey(self, message: Drive | Gripper | Ask | Role) -> None:
        match message:
            case Drive(axes=axes, seen=seen):
                self._device.drive(axes, seen)
            case Gripper():
                self._device.switch_gripper()
            case Ask(request=request):
                self._device.ask(request)
            case Role():
                self._device.release()

    async def _show(self, page: ServerConnection) -> None:
        """Send what is new; `send` waits while the page does not take more."""
        shown, told = -1, b""
        with contextlib.suppress(ConnectionClosed):
            while True:
                state = self._view.state(driving=page is self._driver, watchers=len(self._pages) - 1)
                await page.send(state, text=True)
                if self._bridge is not None and told is not self._bridge.message:
                    told = self._bridge.message
                    await page.send(told, text=True)
                if shown != self._view.version:
                    shown = self._view.version
                    for frame in self._view.frames():
                        await page.send(frame)
                await asyncio.sleep(VIEW_PERIOD_S)
