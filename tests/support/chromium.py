"""Chromium, driven by Playwright, and pages of another origin for it to visit."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.support.required import missing

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def chromium_program() -> str:
    """The Chromium to run; skips the test when there is none, fails it where everything is required."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        missing("Chromium is not installed, and make test could not install it (on Debian: apt install chromium)")
    return found


@contextmanager
def running_chromium(*, keeps_pages: bool = False) -> Iterator[Browser]:
    """A browser without a window; each context of it has cookies of its own. `keeps_pages`: a page that is left is
    frozen, and goes on where it was when its user goes back."""
    program = chromium_program()
    left_out = ["--disable-back-forward-cache"] if keeps_pages else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, headless=True, args=list(ARGUMENTS), ignore_default_args=left_out
        )
        try:
            yield browser
        finally:
            browser.close()


class _BlankPage(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(pages: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """A server of these pages; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), pages) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def blank_pages() -> Iterator[int]:
    """A server of empty pages; its port."""
    with served(_BlankPage) as port:
        yield port
