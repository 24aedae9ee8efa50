"""The page's server, in a thread of its own: plain files over HTTP, commands and views over one websocket per page."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import ssl
import threading
from concurrent.futures import Future
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from demos.teleop.device import Request
from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from demos.teleop.browser import BrowserDevice
    from demos.web.console import ServingOptions
    from demos.web.view import View

VIEW_PERIOD_S = 1.0 / 30.0
"""A page is sent what is new at most so often [s]; a slow one gets less, and always the newest."""
PING_PERIOD_S, PING_TIMEOUT_S = 2.0, 4.0
"""A page that is cut off loses its place after their sum [s]; the robot holds long before."""
MAX_MESSAGE_BYTES = 4096
START_TIMEOUT_S = 10.0
FOLDER = Path(__file__).parent
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/console.js": ("console.js", "text/javascript; charset=utf-8"),
    "/sticks.js": ("sticks.js", "text/javascript; charset=utf-8"),
    "/plot.js": ("plot.js", "text/javascript; charset=utf-8"),
    "/console.css": ("console.css", "text/css; charset=utf-8"),
}
SOCKET = "/ws"
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


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


class ConsoleServer:
    """Serves the page of one device. The first page that connects drives; others look on until they take over.

    Args:
        device: Is commanded.
        view: Is shown.
        serving: Where, and to whom.

    Attributes:
        url: Address of the page, with its token.

    Raises:
        ConfigError: The address cannot be used.
    """

    def __init__(self, device: BrowserDevice, view: View, serving: ServingOptions) -> None:
        self._device, self._view, self._serving = device, view, serving
        self._is_local = is_loopback(serving.host)
        if not self._is_local and not serving.token:
            raise ConfigError("needed where others can reach the page", field="token", found="", allowed="any text")
        self._pages: list[ServerConnection] = []
        self._driver: ServerConnection | None = None
        self._decoder = msgspec.json.Decoder(Drive | Gripper | Ask | Role)
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="console", daemon=True)
        self._thread.start()
        try:
            port = started.result(START_TIMEOUT_S)
        except OSError as error:
            raise ConfigError(
                f"cannot listen: {error.strerror}",
                field="port",
                found=f"{serving.host}:{serving.port}",
                hint="choose another --port, or 0 for a free one",
            ) from None
        scheme = "https" if serving.certificate else "http"
        host = f"[{serving.host}]" if ":" in serving.host else serving.host
        self.url = f"{scheme}://{host}:{port}/" + (f"?token={serving.token}" if serving.token else "")

    def close(self) -> None:
        """Stop serving; further calls do nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()

    def _run(self, started: Future[int]) -> None:
        try:
            self._loop.run_until_complete(self._serve(started))
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            self._loop.close()

    async def _serve(self, started: Future[int]) -> None:
        secure = None
        if self._serving.certificate is not None:
            secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            secure.load_cert_chain(*self._serving.certificate)
        async with serve(
            self._attend,
            self._serving.host,
            self._serving.port,
            process_request=self._answer,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            ping_interval=PING_PERIOD_S,
            ping_timeout=PING_TIMEOUT_S,
            close_timeout=1.0,
            server_header=None,
            ssl=secure,
        ) as server:
            started.set_result(next(iter(server.sockets)).getsockname()[1])
            await self._ending.wait()

    def _answer(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        """A file, a refusal, or None to open the websocket."""
        address = urlsplit(request.path)
        host = request.headers.get("Host", "")
        if self._is_local and host.rpartition(":")[0] not in LOCAL_NAMES:
            # A foreign name that was made to point at this machine: the page of somebody else asks.
            return connection.respond(HTTPStatus.FORBIDDEN, "open the page by the address that was printed\n")
        if address.path in ("/", SOCKET) and not self._knows_token(address.query):
            return connection.respond(HTTPStatus.FORBIDDEN, "the address lacks the token that was printed\n")
        if address.path == SOCKET:
            origin = request.headers.get("Origin")
            if origin is not None and urlsplit(origin).netloc != host:
                return connection.respond(HTTPStatus.FORBIDDEN, "a page of another site may not drive the robot\n")
            return None
        if address.path not in FILES:
            return connection.respond(HTTPStatus.NOT_FOUND, "no such page\n")
        name, kind = FILES[address.path]
        return _file((FOLDER / name).read_bytes(), kind)

    def _knows_token(self, query: str) -> bool:
        given = parse_qs(query).get("token", [""])[0]
        return hmac.compare_digest(given.encode(), self._serving.token.encode()) or not self._serving.token

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
        shown = -1
        with contextlib.suppress(ConnectionClosed):
            while True:
                state = self._view.state(driving=page is self._driver, watchers=len(self._pages) - 1)
                await page.send(state, text=True)
                if shown != self._view.version:
                    shown = self._view.version
                    for frame in self._view.frames():
                        await page.send(frame)
                await asyncio.sleep(VIEW_PERIOD_S)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _file(body: bytes, kind: str) -> Response:
    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
    )
    return Response(HTTPStatus.OK.value, HTTPStatus.OK.phrase, headers, body)
