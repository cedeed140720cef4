"""What goes wrong in the pages of a browser: whatever is not expected fails the test at its end."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request, Response, WebError, WebSocket

REPORT = """document.addEventListener("securitypolicyviolation", event => {
  console.error(`POLICY ${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
}, true);"""


class Expected(NamedTuple):
    """An answer that a page may get although it is an error."""

    method: str
    path: str
    status: int


SIGNED_OUT = {
    Expected("GET", "/auth/csrf", 401),
    Expected("POST", "/auth/refresh", 401),
    Expected("POST", "/auth/ticket", 401),
}
"""How a page learns that nobody is signed in."""


class PageWatch:
    """Everything that the pages of `context` ask for and write to their console.

    `expected` holds the answers of 400 and above that are no fault. While `offline` is set, requests may also fail
    without an answer, as they do while a gateway is away.
    """

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.origin = origin
        self.expected = set(SIGNED_OUT)
        self.offline = False
        self.faults: list[str] = []
        self.addresses: list[str] = []
        """Of every request and socket."""
        self.console: list[str] = []
        self.sockets: list[WebSocket] = []
        self.documents = 0
        """How many pages were loaded."""
        context.add_init_script(REPORT)
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)
        context.on("console", self._console)
        context.on("weberror", self._thrown)
        context.on("page", self._page)

    def expect(self, method: str, path: str, status: int) -> None:
        """Such an answer is no fault from now on; `path` is a regular expression."""
        self.expected.add(Expected(method, path, status))

    def check(self) -> None:
        """Raises `AssertionError` with everything that was not expected."""
        assert self.faults == [], "\n".join(self.faults)

    def _page(self, page: Page) -> None:
        page.on("websocket", self._socket)
        page.on("crash", lambda _: self.faults.append("the page crashed"))
        page.on("dialog", self._dialog)

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _socket(self, socket: WebSocket) -> None:
        self.sockets.append(socket)
        self._address(socket.url)

    def _request(self, request: Request) -> None:
        self._address(request.url)
        self.documents += request.resource_type == "document"

    def _address(self, address: str) -> None:
        self.addresses.append(address)
        if urlsplit(address).netloc != urlsplit(self.origin).netloc and not address.startswith("blob:"):
            self.faults.append(f"asked for {address}")

    def _failed(self, request: Request) -> None:
        # A page that goes away drops what it asked for.
        if not self.offline and request.failure != "net::ERR_ABORTED":
            self.faults.append(f"{request.method} {request.url}: {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status < 400 or (self.offline and response.status == 503):
            return
        method, path = response.request.method, urlsplit(response.url).path
        for one in self.expected:
            if one.method == method and one.status == response.status and re.fullmatch(one.path, path):
                return
        self.faults.append(f"{method} {path}: {response.status}")

    def _thrown(self, thrown: WebError) -> None:
        if not (self.offline and "Failed to fetch dynamically imported module" in str(thrown.error)):
            self.faults.append(f"thrown: {thrown.error}")

    def _console(self, message: ConsoleMessage) -> None:
        self.console.append(message.text)
        if message.type not in ("error", "warning", "assert"):
            return
        if message.text.startswith("Failed to load resource"):  # its answer tells
            return
        if message.text.startswith("WebSocket connection to") and self.offline:
            return
        self.faults.append(f"console: {message.text}")
