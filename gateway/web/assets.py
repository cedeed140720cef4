"""The files of the dashboard and of the JavaScript SDK, as browsers load them.

A file is what the directory holds at that moment: it is read again as soon as it has changed there, and answered from
memory otherwise, as it is or compressed. Only names of a narrow form are looked for, with an ending that is known, so
that nothing outside the two directories, and nothing in them that is not for browsers, has an address.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import NotFound
from gateway.web.operation import Call, Operation, Who

DASHBOARD = Path(__file__).parent / "dashboard"
INDEX = "index.html"
NO_FILE = "No such resource."

CONTENT_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml; charset=utf-8",
    ".webmanifest": "application/manifest+json; charset=utf-8",
}
"""What is served, by the end of its name; whatever ends otherwise is not for browsers."""
SCRIPTS = frozenset((".js",))
COMPRESSED = frozenset((".ico", ".png"))
"""What would not become shorter."""
_WEIGHT = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
_UNUSED = (
    "accelerometer",
    "camera",
    "geolocation",
    "gyroscope",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "usb",
)

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _UNUSED),
}
"""Of every page, style and script: nothing but this origin's own, no inline code, nothing in a frame."""
PUBLIC = {**HEADERS, "Cross-Origin-Resource-Policy": "cross-origin", "Access-Control-Allow-Origin": "*"}
"""The same for code that pages of other origins may import."""


def sdk_directory() -> Path | None:
    """Where the JavaScript SDK lies, beside the Python one, which is not imported for that; None: not installed."""
    found = importlib.util.find_spec("client_sdk")
    places = None if found is None else found.submodule_search_locations
    return Path(places[0]) / "js" if places else None


class Representation(NamedTuple):
    """A file's bytes as they are sent, and the strong entity tag of just these."""

    content: bytes
    etag: str


class Asset(NamedTuple):
    """A file as it was read: `state` tells whether it still is the same (modified at, in nanoseconds, and bytes).

    `zipped` is the same by gzip; None where that is not shorter.
    """

    state: tuple[int, int]
    plain: Representation
    zipped: Representation | None


class Directory:
    """The files below one directory that have one of the `endings`; None: there are none."""

    def __init__(self, root: Path | None, endings: frozenset[str]) -> None:
        self._root = root
        self._endings = endings
        self._held: dict[str, Asset] = {}

    def find(self, name: str) -> Asset:
        """The file of this name (relative, with ``/``). Raises `NotFound` for what is not there or not served."""
        if self._root is None or Path(name).suffix not in self._endings:
            raise NotFound(NO_FILE)
        path = self._root / name
        try:
            there = path.stat()
            if not stat.S_ISREG(there.st_mode):
                raise NotFound(NO_FILE)
            state = (there.st_mtime_ns, there.st_size)
            held = self._held.get(name)
            if held is None or held.state != state:
                held = _read(path, state)
                self._held[name] = held
        except OSError:
            raise NotFound(NO_FILE) from None
        return held


class Assets:
    """The routes of the dashboard and of the JavaScript SDK. `dashboard` and `sdk` are their directories."""

    def __init__(self, dashboard: Path, sdk: Path | None) -> None:
        self._dashboard = Directory(dashboard, frozenset(CONTENT_TYPES))
        self._sdk = Directory(sdk, SCRIPTS)

    def operations(self) -> list[Operation]:
        """All of them."""
        of_dashboard = tuple(dict.fromkeys(kind.partition(";")[0] for kind in CONTENT_TYPES.values()))
        return [
            Operation(
                *("GET", "/", self.index),
                "The dashboard",
                {200: str, 304: None},
                Who.ALL,
                errors=(NotFound,),
                media=("text/html",),
            ),
            Operation(
                *("GET", "/dashboard/{path}", self.of_dashboard),
                "A file of the dashboard",
                {200: str, 304: None},
                Who.ALL,
                media=of_dashboard,
            ),
            Operation(
                *("GET", "/sdk/{path}", self.of_sdk),
                "A file of the JavaScript SDK; gateway.js is its entry, which pages of other origins may import too",
                {200: str, 304: None},
                Who.ALL,
                media=("text/javascript",),
            ),
        ]

    async def index(self, call: Call) -> Response:
        """The page."""
        return served(call.request, INDEX, self._dashboard, HEADERS)

    async def of_dashboard(self, call: Call) -> Response:
        """What the page loads."""
        return served(call.request, call.path["path"], self._dashboard, HEADERS)

    async def of_sdk(self, call: Call) -> Response:
        """What any page may load."""
        return served(call.request, call.path["path"], self._sdk, PUBLIC)


def served(request: Request, name: str, directory: Directory, headers: Mapping[str, str]) -> Response:
    """A file, to be asked for again each time."""
    asset = directory.find(name)
    chosen, coded = asset.plain, {}
    if asset.zipped is not None and takes_gzip(request.headers.getlist("accept-encoding")):
        chosen, coded = asset.zipped, {"Content-Encoding": "gzip"}
    told = {**headers, **coded, "ETag": chosen.etag, "Content-Type": CONTENT_TYPES[Path(name).suffix]}
    return Response(chosen.content, headers=told)


def takes_gzip(accept_encoding: Sequence[str]) -> bool:
    """Whether ``Accept-Encoding`` fields (RFC 9110 §12.5.3) allow gzip, and do not prefer what is not compressed."""
    weights = {"identity": 0.0}
    for member in ",".join(accept_encoding).lower().split(","):
        coding, _, weight = (part.strip(" \t") for part in member.partition(";"))
        known = _WEIGHT.fullmatch(weight)
        weights[coding.removeprefix("x-")] = 1.0 if not weight else float(known[1]) if known else 0.0
    gzipped = weights.get("gzip", weights.get("*", 0.0))
    return gzipped > 0 and gzipped >= weights["identity"]


def _read(path: Path, state: tuple[int, int]) -> Asset:
    content = path.read_bytes()
    zipped = content if path.suffix in COMPRESSED else gzip.compress(content, mtime=0)
    return Asset(state, _represented(content), _represented(zipped) if len(zipped) < len(content) else None)


def _represented(content: bytes) -> Representation:
    return Representation(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
