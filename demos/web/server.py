"""A page's server, in a thread of its own: plain files over HTTP, and one websocket per page."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import ssl
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PING_PERIOD_S, PING_TIMEOUT_S = 2.0, 4.0
"""A page that is cut off loses its connection after their sum [s]; a robot holds long before."""
MAX_MESSAGE_BYTES = 4096
START_TIMEOUT_S = 10.0
FOLDER = Path(__file__).parent
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
SOCKET = "/ws"
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """Where a page is.

    Attributes:
        host: Address to listen at.
        port: 0 takes a free one.
        token: Has to be in the page's address; needed wherever others can reach it.
        certificate: Files of the certificate chain and its key, for https.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    certificate: tuple[Path, Path] | None = None


class PageServer:
    """Serves the files of one page.

    Args:
        index: Name of the page's file.
        files: Names of the files that it needs.
        attend: Serves one websocket until it is gone; runs in the server's thread.
        serving: Where, and to whom.

    Attributes:
        url: Address of the page, with its token.

    Raises:
        ConfigError: The address or the certificate cannot be used.
    """

    def __init__(
        self,
        index: str,
        files: tuple[str, ...],
        attend: Callable[[ServerConnection], Awaitable[None]],
        serving: ServingOptions,
    ) -> None:
        self._files = {"/": index} | {f"/{name}": name for name in files}
        self._attend, self._serving = attend, serving
        self._is_local = is_loopback(serving.host)
        if not self._is_local and not serving.token:
            raise ConfigError("needed where others can reach the page", field="token", found="", allowed="any text")
        self._secure = _secure_context(serving)
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
            ssl=self._secure,
        ) as server:
            started.set_result(next(iter(server.sockets)).getsockname()[1])
            await self._ending.wait()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """A file, a refusal, or None to open the websocket."""
        address = urlsplit(request.path)
        host = request.headers.get("Host", "")
        if self._is_local and _host_name(host) not in LOCAL_NAMES:
            # A foreign name that was made to point at this machine: the page of somebody else asks.
            return connection.respond(HTTPStatus.FORBIDDEN, "open the page by the address that was printed\n")
        if address.path in ("/", SOCKET) and not self._knows_token(address.query):
            return connection.respond(HTTPStatus.FORBIDDEN, "the address lacks the token that was printed\n")
        if address.path == SOCKET:
            origin = request.headers.get("Origin")
            if origin is not None and urlsplit(origin).netloc != host:
                return connection.respond(HTTPStatus.FORBIDDEN, "a page of another site may not drive the robot\n")
            return None
        if address.path not in self._files:
            return connection.respond(HTTPStatus.NOT_FOUND, "no such page\n")
        return _file(FOLDER / self._files[address.path])

    def _knows_token(self, query: str) -> bool:
        given = parse_qs(query).get("token", [""])[0]
        return hmac.compare_digest(given.encode(), self._serving.token.encode()) or not self._serving.token


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    """The name in a `Host` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _secure_context(serving: ServingOptions) -> ssl.SSLContext | None:
    if serving.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(*serving.certificate)
    except OSError as error:
        names = " and ".join(map(str, serving.certificate))
        raise ConfigError(f"cannot be used: {error.strerror or error}", field="certificate", found=names) from None
    return context


def _file(path: Path) -> Response:
    body = path.read_bytes()
    headers = Headers(
        {
            "Content-Type": f"{KINDS[path.suffix]}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
    )
    return Response(HTTPStatus.OK.value, HTTPStatus.OK.phrase, headers, body)
