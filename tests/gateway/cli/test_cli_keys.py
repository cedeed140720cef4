from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from gateway.auth.keyring import Keyring
from gateway.auth.master_key import load_sealer
from gateway.config import load_config
from gateway.core.clock import parse_rfc3339
from gateway.store.database import Database, wall_clock
from gateway.store.keys import end_keys, list_keys
from tests.gateway.cli.conftest import Cli


def start_node(cli: Cli) -> str:
    """What a gateway does with keys when it starts; the key that signs."""

    async def start() -> str:
        ring = Keyring(load_sealer(load_config(), make=True), 900)
        async with await Database.open(str(cli.database), create=False) as database:
            await ring.ensure(database, wall_clock())
        return ring.signing_key(wall_clock()).kid

    return asyncio.run(start())


def keys(cli: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli.json("keys", "list")
    return found


def states(cli: Cli) -> dict[str, str]:
    return {key["kid"]: key["state"] for key in keys(cli)}


def test_listing_makes_no_key_and_needs_none(demo: Cli) -> None:
    assert keys(demo) == []
    assert not demo.database.with_name("gateway.db.key").exists()
    kid = start_node(demo)
    assert [key["opened"] for key in keys(demo)] == [True]
    demo.database.with_name("gateway.db.key").unlink()
    assert states(demo) == {kid: "signing"}
    assert [key["opened"] for key in keys(demo)] == [False]
    assert demo("keys", "list").out.split()[-1] == "no"
    assert not demo.database.with_name("gateway.db.key").exists()


def test_listing_says_which_keys_the_master_key_opens(demo: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    start_node(demo)
    for key in (base64.b64encode(bytes(32)).decode(), "nonsense"):
        monkeypatch.setenv("GATEWAY_AUTH_MASTER_KEY", key)
        answer = demo("keys", "list")
        assert answer.out.split()[-1] == "no"
        assert answer.err == ""


def test_a_new_key_is_published_before_it_signs(demo: Cli) -> None:
    old = start_node(demo)
    now = wall_clock()
    rotated = demo.json("keys", "rotate")
    assert rotated.keys() == {"kid", "signs_from", "seq"}
    assert 599_000 < parse_rfc3339(rotated["signs_from"]) - now < 660_000
    assert states(demo) == {old: "signing", rotated["kid"]: "published"}
    [first, second] = keys(demo)
    assert first["verifies_until"] is not None
    assert second["verifies_until"] is None
    assert second["signs_from"] == rotated["signs_from"]
    text = demo("keys", "list").out
    assert rotated["kid"] in text
    assert "published" in text


def test_a_lead_of_nothing_lets_the_new_key_sign_at_once(demo: Cli) -> None:
    old = start_node(demo)
    answer = demo("keys", "rotate", "--lead", "0")
    new = answer.out.split()[0]
    assert answer.out.startswith(f"{new} signs from ")
    assert states(demo) == {old: "verifying", new: "signing"}
    assert start_node(demo) == new


def test_discarding_removes_the_older_keys(demo: Cli) -> None:
    start_node(demo)
    demo("keys", "rotate")
    new = demo.json("keys", "rotate", "--discard")["kid"]
    assert states(demo) == {new: "signing"}
    assert start_node(demo) == new


def test_the_first_key_may_be_made_by_the_command(demo: Cli) -> None:
    new = demo.json("keys", "rotate")["kid"]
    assert states(demo) == {new: "signing"}
    assert start_node(demo) == new


@pytest.mark.parametrize(
    "arguments", [["--lead", "5", "--discard"], ["--lead", "-1"], ["--lead", "2592001"], ["--lead", "x"]]
)
def test_what_does_not_fit_changes_nothing(demo: Cli, arguments: list[str]) -> None:
    kid = start_node(demo)
    demo("keys", "rotate", *arguments, code=2)
    assert states(demo) == {kid: "signing"}


def test_a_lost_master_key_is_said_and_replaced(demo: Cli) -> None:
    kid = start_node(demo)
    demo.database.with_name("gateway.db.key").unlink()
    answer = demo("keys", "rotate", code=3)
    assert "auth.master_key" in answer.err
    assert "gateway keys rotate --discard" in answer.err
    assert not demo.database.with_name("gateway.db.key").exists()
    assert states(demo) == {kid: "signing"}
    new = demo.json("keys", "rotate", "--discard")["kid"]
    assert start_node(demo) == new


def test_nothing_that_is_printed_is_secret(demo: Cli) -> None:
    start_node(demo)
    shown = "".join(
        answer.out + answer.err
        for answer in (demo("keys", "rotate"), demo("keys", "list"), demo("keys", "list", "--json"))
    )
    master = demo.database.with_name("gateway.db.key").read_text().strip()

    async def sealed() -> list[bytes]:
        async with await Database.open(str(demo.database), create=False) as database:
            return [row.private_key for row in await list_keys(database)]

    assert master not in shown
    assert "private" not in shown
    for blob in asyncio.run(sealed()):
        assert blob.hex() not in shown
        assert repr(blob) not in shown
    assert json.loads(demo("keys", "list", "--json").out)[0].keys() == {
        *("kid", "state", "created_at", "signs_from", "verifies_until", "opened")
    }


def test_a_key_that_has_ended_is_listed_until_the_next_rotation(demo: Cli) -> None:
    kid = start_node(demo)

    async def end() -> None:
        async with await Database.open(str(demo.database), create=False) as database:
            await database.write(end_keys("k_none", wall_clock() - 1))

    asyncio.run(end())
    assert states(demo) == {kid: "ended"}
    new = demo.json("keys", "rotate")["kid"]
    assert states(demo) == {new: "signing"}
