"""The dashboard's files and the JavaScript SDK's, over HTTP and over a socket."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from client_sdk.testing import RunningGateway
from gateway.core.networks import Networks
from gateway.metrics import Metrics
from gateway.web.assets import HEADERS, Assets, sdk_directory, takes_gzip
from gateway.web.openapi import openapi
from gateway.web.operation import operation_routes
from gateway.web.problem import http_problem
from tests.gateway.web.conftest import Site

PAGE = "<!doctype html><title>Gateway</title>"
SCRIPT = "export const answer = 42;\n"
LONG_SCRIPT = SCRIPT * 100


class Shelf:
    """Two directories with files, and a client of what serves them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.dashboard, self.sdk = place / "dashboard", place / "sdk"
        self.put("dashboard/index.html", PAGE)
        self.put("dashboard/app.js", SCRIPT)
        self.put("dashboard/long.js", LONG_SCRIPT)
        self.put("dashboard/picture.png", LONG_SCRIPT)
        self.put("dashboard/styles/base.css", "body { margin: 0 }")
        self.put("dashboard/icons/mark.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>")
        self.put("dashboard/tsconfig.json", "{}")
        self.put("dashboard/.secret.js", "secret")
        self.put("dashboard/.git/config.js", "secret")
        self.put("sdk/gateway.js", SCRIPT)
        self.put("sdk/long.js", LONG_SCRIPT)
        self.put("sdk/core/wire.js", SCRIPT)
        for name in ("package.json", "tsconfig.json", "README.md", "types/gateway.d.ts", "index.html", "style.css"):
            self.put(f"sdk/{name}", "secret")
        self.put("secret.js", "secret")
        self.metrics = Metrics()
        assets = Assets(self.dashboard, self.sdk)
        routes = operation_routes(assets.operations(), None, self.metrics, Networks(()))  # type: ignore[arg-type]
        app = Starlette(routes=routes, exception_handlers={HTTPException: http_problem})
        app.router.redirect_slashes = False
        self.client = TestClient(app)

    def put(self, name: str, text: str) -> Path:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.mark.parametrize(
    ("path", "kind", "content"),
    [
        ("/", "text/html; charset=utf-8", PAGE),
        ("/dashboard/index.html", "text/html; charset=utf-8", PAGE),
        ("/dashboard/app.js", "text/javascript; charset=utf-8", SCRIPT),
        ("/dashboard/styles/base.css", "text/css; charset=utf-8", "body { margin: 0 }"),
        ("/dashboard/icons/mark.svg", "image/svg+xml; charset=utf-8", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("/sdk/gateway.js", "text/javascript; charset=utf-8", SCRIPT),
        ("/sdk/core/wire.js", "text/javascript; charset=utf-8", SCRIPT),
    ],
)
def test_a_file_is_served_as_what_it_is(shelf: Shelf, path: str, kind: str, content: str) -> None:
    answer = shelf.client.get(path)
    assert (answer.status_code, answer.headers["content-type"], answer.text) == (200, kind, content)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/dashboard/app.js", "/sdk/gateway.js"])
def test_nothing_but_the_origin_s_own_may_run(shelf: Shelf, path: str) -> None:
    headers = shelf.client.get(path).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert {"camera=()", "microphone=()", "geolocation=()"} <= set(headers["permissions-policy"].split(", "))
    assert headers["cache-control"] == "no-cache"


def test_the_sdk_is_for_pages_of_every_origin_and_the_dashboard_is_not(shelf: Shelf) -> None:
    code, page = shelf.client.get("/sdk/gateway.js").headers, shelf.client.get("/dashboard/app.js").headers
    assert code["access-control-allow-origin"] == "*"
    assert code["cross-origin-resource-policy"] == "cross-origin"
    assert "access-control-allow-origin" not in page
    assert page["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        *("/dashboard", "/dashboard/", "/sdk", "/sdk/", "/dashboard/styles", "/dashboard/styles/", "/index.html"),
        *("/dashboard/none.js", "/dashboard/app.js/", "/dashboard/app.js/more.js", "/dashboard//app.js"),
        *("/dashboard/.secret.js", "/dashboard/.git/config.js", "/dashboard/tsconfig.json", "/dashboard/app"),
        *("/dashboard/%2e%2e/secret.js", "/dashboard/..%2fsecret.js"),
        *("/dashboard/%2e%2e%2fsecret.js", "/dashboard/styles/%2e%2e/app.js"),
        *("/dashboard/%2e/app.js", "/dashboard/..%5csecret.js", "/dashboard/styles%5cbase.css"),
        *("/dashboard/app.js%00", "/dashboard/app.js%00.css", "/dashboard/%00"),
        *("/dashboard/%252e%252e/secret.js", "/dashboard/\u2025/secret.js", "/dashboard/%c0%ae%c0%ae/secret.js"),
        *("/dashboard//secret.js", "/dashboard/%2f%2fetc/passwd", "/dashboard//etc/hostname.js", "/dashboard/~root.js"),
        *("/dashboard/APP.JS", "/dashboard/app.js.map", "/dashboard/app.js%20", "/dashboard/app.js;a=b"),
        "/dashboard/" + "a" * 300 + ".js",
        "/dashboard/" + "a/" * 50 + "a.js",
        *("/sdk/package.json", "/sdk/tsconfig.json", "/sdk/README.md", "/sdk/types/gateway.d.ts"),
        *("/sdk/index.html", "/sdk/style.css", "/sdk/%2e%2e/secret.js", "/sdk/%2e%2e/dashboard/app.js"),
    ],
)
def test_anything_else_is_not_there(shelf: Shelf, path: str) -> None:
    answer = shelf.client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/", "/dashboard/app.js", "/sdk/gateway.js"])
def test_who_holds_it_already_is_told_so(shelf: Shelf, path: str) -> None:
    whole = shelf.client.get(path)
    etag = whole.headers["etag"]
    assert not etag.startswith("W/")
    for named in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = shelf.client.get(path, headers={"if-none-match": named})
        assert (again.status_code, again.content) == (304, b"")
        kept = {name.lower() for name in (*HEADERS, "ETag")}
        assert {name: again.headers[name] for name in kept} == {name: whole.headers[name] for name in kept}
    assert shelf.client.get(path, headers={"if-none-match": '"other"'}).content == whole.content


def test_the_same_content_has_the_same_tag_whatever_its_place_and_date(shelf: Shelf) -> None:
    os.utime(shelf.sdk / "gateway.js", (1, 1))
    tags = {shelf.client.get(path).headers["etag"] for path in ("/dashboard/app.js", "/sdk/gateway.js")}
    assert len(tags) == 1
    assert tags != {shelf.client.get("/").headers["etag"]}


def test_a_file_that_is_changed_made_or_deleted_is_noticed(shelf: Shelf) -> None:
    before = shelf.client.get("/dashboard/app.js")
    shelf.put("dashboard/app.js", SCRIPT.replace("42", "43"))
    os.utime(shelf.dashboard / "app.js", ns=(1, 1))
    after = shelf.client.get("/dashboard/app.js", headers={"if-none-match": before.headers["etag"]})
    assert (after.status_code, after.text) == (200, SCRIPT.replace("42", "43"))
    (shelf.dashboard / "app.js").unlink()
    assert shelf.client.get("/dashboard/app.js").status_code == 404
    shelf.put("dashboard/app.js", SCRIPT)
    assert shelf.client.get("/dashboard/app.js").headers["etag"] == before.headers["etag"]


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ([], False),
        ([""], False),
        (["gzip"], True),
        (["GZip"], True),
        (["x-gzip"], True),
        (["gzip, deflate, br, zstd"], True),
        (["deflate", "gzip"], True),
        (["br;q=1.0,gzip;q=0.8 , *;q=0.1"], True),
        (["gzip ; q=0.001"], True),
        (["*"], True),
        (["*;q=0.5"], True),
        (["gzip;q=0"], False),
        (["gzip;q=0.000"], False),
        (["gzip;Q=0, *"], False),
        (["*, gzip;q=0"], False),
        (["*;q=0"], False),
        (["gzip, *;q=0"], True),
        (["gzip, identity;q=0"], True),
        (["identity"], False),
        (["identity, gzip;q=0.5"], False),
        (["identity;q=0.5, gzip"], True),
        (["identity;q=0"], False),
        (["deflate, br"], False),
        (["gzipped, notgzip, gzip2"], False),
        (["gzip;q=2"], False),
        (["gzip;q=-1"], False),
        (["gzip;q=nan"], False),
        (["gzip;q="], False),
        (["gzip;level=9"], False),
        ([",,;;=,\u00a0gzip"], False),
    ],
)
def test_who_takes_gzip(fields: list[str], taken: bool) -> None:
    assert takes_gzip(fields) is taken


def encoded(shelf: Shelf, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """The answer as it is sent: no client unpacks the body."""
    with shelf.client.stream(
        method, path, headers={name.replace("_", "-"): headers[name] for name in headers}
    ) as given:
        return given.status_code, dict(given.headers), b"".join(given.iter_raw())


@pytest.mark.parametrize("path", ["/dashboard/long.js", "/sdk/long.js"])
def test_a_file_is_compressed_for_who_takes_that(shelf: Shelf, path: str) -> None:
    _, plain, text = encoded(shelf, "GET", path, accept_encoding="gzip;q=0")
    _, zipped, packed = encoded(shelf, "GET", path, accept_encoding="gzip, br")
    assert text == gzip.decompress(packed) == LONG_SCRIPT.encode()
    assert "content-encoding" not in plain
    assert zipped["content-encoding"] == "gzip"
    assert [int(headers["content-length"]) for headers in (plain, zipped)] == [len(text), len(packed)]
    differing = {"content-encoding", "content-length", "etag"}
    assert {name for name in plain.keys() | zipped.keys() if plain.get(name) != zipped.get(name)} == differing
    assert plain["vary"] == "Accept-Encoding"


def test_each_form_of_a_file_has_its_tag_and_304_is_said_of_the_one_that_would_be_sent(shelf: Shelf) -> None:
    path = "/dashboard/long.js"
    tags = {coding: encoded(shelf, "GET", path, accept_encoding=coding)[1]["etag"] for coding in ("gzip", "identity")}
    assert len(set(tags.values())) == 2
    for asked, tag in tags.items():
        for held, other in tags.items():
            status, headers, body = encoded(shelf, "GET", path, accept_encoding=asked, if_none_match=other)
            assert status == (304 if held == asked else 200)
            assert (headers["etag"], headers["vary"]) == (tag, "Accept-Encoding")
            assert (body == b"") is (held == asked)
            assert ("content-encoding" in headers) is (status == 200 and asked == "gzip")
        both = ", ".join(tags.values())
        status, headers, _ = encoded(shelf, "GET", path, accept_encoding=asked, if_none_match=both)
        assert (status, headers["etag"]) == (304, tag)


@pytest.mark.parametrize("path", ["/dashboard/app.js", "/dashboard/picture.png"])
def test_what_would_not_become_shorter_is_sent_as_it_is(shelf: Shelf, path: str) -> None:
    plain, taking = (encoded(shelf, "GET", path, accept_encoding=coding) for coding in ("identity", "gzip"))
    assert plain == taking
    assert "content-encoding" not in taking[1]


def test_a_file_is_compressed_once_for_each_of_its_versions(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    compressed, compress = [], gzip.compress

    def counting(content: bytes, **options: int) -> bytes:
        compressed.append(content)
        return compress(content, **options)

    monkeypatch.setattr("gateway.web.assets.gzip.compress", counting)
    for text in (LONG_SCRIPT, LONG_SCRIPT.replace("42", "430")):
        shelf.put("dashboard/long.js", text)
        for coding in ("gzip", "identity", "gzip"):
            assert shelf.client.get("/dashboard/long.js", headers={"accept-encoding": coding}).text == text
    assert compressed == [LONG_SCRIPT.encode(), LONG_SCRIPT.replace("42", "430").encode()]


def test_what_is_not_there_is_not_compressed(shelf: Shelf) -> None:
    status, headers, _ = encoded(shelf, "GET", "/dashboard/none.js", accept_encoding="gzip")
    assert (status, headers.get("content-encoding")) == (404, None)


def test_what_is_no_file_is_not_waited_for(shelf: Shelf) -> None:
    os.mkfifo(shelf.dashboard / "pipe.js")
    (shelf.dashboard / "folder.js").mkdir()
    for name in ("pipe.js", "folder.js"):
        assert shelf.client.get(f"/dashboard/{name}").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/dashboard/app.js", "/sdk/gateway.js"])
def test_it_can_only_be_read(shelf: Shelf, method: str, path: str) -> None:
    answer = shelf.client.request(method, path)
    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


def test_a_route_is_one_label_of_the_figures(shelf: Shelf) -> None:
    for number in range(20):
        shelf.client.get(f"/dashboard/x{number}.js")
        shelf.client.get(f"/sdk/x{number}.js")
    lines = [line for line in shelf.metrics.exposition().decode().splitlines() if "request_seconds_count" in line]
    assert sorted(line.rpartition(" ")[0].partition("{")[2] for line in lines) == [
        'route="/dashboard/{path}",status="404"}',
        'route="/sdk/{path}",status="404"}',
    ]


def test_without_the_sdk_there_is_only_the_dashboard(shelf: Shelf) -> None:
    assets = Assets(shelf.dashboard, None)
    routes = operation_routes(assets.operations(), None, Metrics(), Networks(()))  # type: ignore[arg-type]
    client = TestClient(Starlette(routes=routes, exception_handlers={HTTPException: http_problem}))
    assert [client.get(path).status_code for path in ("/", "/sdk/gateway.js")] == [200, 404]


def test_its_media_types_are_described() -> None:
    paths = openapi(Assets(Path(), None).operations())["paths"]
    described = {path: set(paths[path]["get"]["responses"]["200"]["content"]) for path in paths}
    assert described["/"] == {"text/html"}
    assert described["/sdk/{path}"] == {"text/javascript"}
    assert {"text/html", "text/css", "text/javascript", "image/svg+xml"} <= described["/dashboard/{path}"]
    assert all(paths[path]["get"]["security"] == [] for path in paths)


def test_the_sdk_is_found_without_being_imported() -> None:
    program = "import sys; from gateway.web.assets import sdk_directory as at; print(at(), 'client_sdk' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout.split() == [str(Path(__file__).parents[3] / "client_sdk" / "js"), "False"]
    assert str(sdk_directory()) == told.stdout.split()[0]


def test_nobody_needs_a_credential_and_a_bad_one_does_not_matter(site: Site) -> None:
    for path in ("/", "/dashboard/none.js", "/sdk/none.js"):
        for headers in ({}, {"authorization": "Bearer gw_mistyped"}):
            assert site.client.get(path, headers=headers).status_code in (200, 404)


# --- over a socket, where no client tidies the path up ---


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with RunningGateway(tmp_path / "gateway.db") as running:
        yield int(running.url.rpartition(":")[2])


def raw(port: int, method: str, target: str, coding: str | None = None) -> tuple[int, dict[str, str], bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.putrequest(method, target, skip_accept_encoding=True)
        if coding is not None:
            connection.putheader("Accept-Encoding", coding)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.mark.parametrize(
    "target",
    [
        *("/dashboard/../assets.py", "/dashboard/%2e%2e/assets.py", "/dashboard/..%2fassets.py", "/../etc/passwd"),
        *("/sdk/../channel.py", "/sdk/..%2f..%2fschema.sql", "//dashboard/../assets.py", "/dashboard/..\\assets.py"),
        *(
            "/dashboard/./index.html",
            "/dashboard/x/../index.html",
            "/dashboard/%00",
            "/dashboard/../../web/dashboard/index.html",
            "/sdk/%2e%2e%2f__init__.py",
        ),
    ],
)
def test_no_way_leads_out_of_the_directories(port: int, target: str) -> None:
    status, headers, body = raw(port, "GET", target)
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert b"import" not in body


@pytest.mark.parametrize(
    "target", ["/%0a", "/sdk/gateway.js%0a", "/dashboard/app.js%0a", "/health%0a", "/auth/csrf%0a"]
)
def test_a_line_feed_is_a_part_of_the_path(port: int, target: str) -> None:
    assert [raw(port, method, target)[0] for method in ("GET", "HEAD")] == [404, 404]


@pytest.mark.parametrize(
    "target",
    ["/sdk/none.js", "/dashboard/none.js", "/sdk/", "/dashboard/.git/config", "/sdk/%0a", "/none", "/auth/csrf"],
)
def test_a_problem_is_never_taken_for_code_or_a_page(port: int, target: str) -> None:
    status, headers, _ = raw(port, "GET", target)
    assert (status, headers["x-content-type-options"]) == (401 if target == "/auth/csrf" else 404, "nosniff")
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("coding", [None, "gzip"])
def test_head_is_answered_without_the_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coding: str | None) -> None:
    shelf = Shelf(tmp_path)
    monkeypatch.setattr("gateway.web.routes.DASHBOARD", shelf.dashboard)
    target = "/dashboard/long.js"
    with RunningGateway(tmp_path / "gateway.db") as running:
        port = int(running.url.rpartition(":")[2])
        whole, head = raw(port, "GET", target, coding), raw(port, "HEAD", target, coding)
    assert (whole[0], gzip.decompress(whole[2]) if coding else whole[2]) == (200, LONG_SCRIPT.encode())
    assert whole[1].get("content-encoding") == coding
    assert (head[0], head[2]) == (200, b"")
    same = ("content-length", "content-type", "content-encoding", "etag", "vary", "content-security-policy")
    assert {name: head[1].get(name) for name in same} == {name: whole[1].get(name) for name in same}
