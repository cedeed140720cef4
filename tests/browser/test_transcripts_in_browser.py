"""The golden transcripts, replayed by the JavaScript SDK in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.support.gateway_process import ROOT
from tests.support.tree_server import served_tree

FILES = sorted((ROOT / "tests" / "transcripts").glob("*.jsonl"))

# Replays one transcript; why it is exempt, or null when it was played to its end.
REPLAY = """async name => {
  const [replay, {Session}, {makeOptions}, {revision}] = await Promise.all([
    import("/tests/client_sdk/js/support/replay.mjs"), import("/client_sdk/js/session.js"),
    import("/client_sdk/js/options.js"), import("/client_sdk/js/document.js"),
  ]);
  const answer = await fetch(`/tests/transcripts/${name}`);
  const transcript = replay.parse(await answer.text());
  const exempt = replay.exemption(transcript);
  if (exempt === null) {
    await new replay.Replay(transcript, {Session, makeOptions, revision}, crypto.subtle).run();
  }
  return exempt;
}"""
# The same with one message of the client's changed: nobody sends that.
SPOILT = """async name => {
  const [replay, {Session}, {makeOptions}, {revision}] = await Promise.all([
    import("/tests/client_sdk/js/support/replay.mjs"), import("/client_sdk/js/session.js"),
    import("/client_sdk/js/options.js"), import("/client_sdk/js/document.js"),
  ]);
  const transcript = replay.parse(await (await fetch(`/tests/transcripts/${name}`)).text());
  transcript.lines.findLast(line => line.from === "client").message.op = "unheard";
  return new replay.Replay(transcript, {Session, makeOptions, revision}, crypto.subtle).run()
    .then(() => "played", error => `failed: ${error.message}`);
}"""


@pytest.fixture(scope="module")
def tree() -> Iterator[str]:
    with served_tree() as origin:
        yield origin


@pytest.fixture(scope="module")
def page(browser: Browser, tree: str) -> Iterator[Page]:
    opened = browser.new_page()
    opened.goto(tree)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", [path.name for path in FILES])
def test_the_session_plays_its_part(page: Page, name: str) -> None:
    exempt = page.evaluate(REPLAY, name)
    text = (ROOT / "tests" / "transcripts" / name).read_text(encoding="utf-8")
    assert (exempt is not None) == ('"do": "refuse"' in text or '"sdk"' not in text.splitlines()[0])


def test_a_session_that_plays_another_part_is_found(page: Page) -> None:
    assert page.evaluate(SPOILT, "sync.jsonl").startswith("failed")
