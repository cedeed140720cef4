from __future__ import annotations

import asyncio
import base64
import secrets
import time
import tomllib

import pytest

from client_sdk.instance_key import keys_of_file, load_instance
from gateway.auth.instances import open_secret
from gateway.auth.master_key import load_sealer
from gateway.config import load_config
from gateway.core.clock import parse_rfc3339
from gateway.store.database import Database, Statement
from gateway.store.instances import list_sealed
from gateway.web.instances import KeyWanted
from tests.gateway.cli.conftest import Cli


def opened(cli: Cli) -> dict[str, str | None]:
    """The secrets that the master key of now opens, as their instances have them."""

    async def read() -> dict[str, str | None]:
        sealer = load_sealer(load_config(), make=False)
        async with await Database.open(str(cli.database), create=False) as database:
            plain = {key.id: open_secret(sealer, key.id, key.secret) for key in await list_sealed(database)}
        return {
            kid: None if secret is None else base64.urlsafe_b64encode(secret).decode().rstrip("=")
            for kid, secret in plain.items()
        }

    return asyncio.run(read())


def last_seq(cli: Cli) -> int:
    """Of the last change of the database."""

    async def read() -> int:
        async with await Database.open(str(cli.database), create=False) as database:
            [[(seq,)]] = await database.read(Statement("SELECT max(seq) FROM change_log"))
            return int(str(seq))

    return asyncio.run(read())


def test_what_is_printed_is_what_the_application_needs(demo: Cli) -> None:
    answer = demo("instance", "add", "Shop", "--network", "10.0.0.0/8", "--network", "::1", "--id", "i_shop")
    section = tomllib.loads(answer.out)["gateway"]
    assert section["url"] == "http://127.0.0.1:8787"
    assert section["instance"] == "i_shop"
    assert opened(demo) == {section["kid"]: section["secret"]}
    assert answer.err == "The secret is shown this once.\n"
    shown = demo.json("instance", "show", "i_shop")
    assert (shown["name"], shown["networks"], shown["requests_per_minute"]) == ("Shop", ["10.0.0.0/8", "::1"], 6000)
    assert [key["kid"] for key in shown["keys"]] == [section["kid"]]
    rest = demo("instance", "show", "i_shop").out + demo("instance", "list").out + demo("audit").out
    assert section["secret"] not in rest


def test_the_output_is_the_file_that_an_application_reads(demo: Cli) -> None:
    """As a shell puts it there, of a new instance and of another key, for both ways to read it."""
    file = demo.database.with_name("gateway.toml")
    for command in (("add", "Shop", "--id", "i_shop"), ("rotate", "i_shop")):
        file.write_text(demo("instance", *command).out)
        settings = load_instance(str(file), {})
        assert (settings.url, settings.instance) == ("http://127.0.0.1:8787", "i_shop")
        [key] = settings.keys
        assert keys_of_file(str(file))() == (key,)
        assert opened(demo)[key.kid] == tomllib.loads(file.read_text())["gateway"]["secret"]


def test_an_environment_can_be_had_in_place_of_it(demo: Cli) -> None:
    for command in (("add", "Shop", "--id", "i_shop"), ("rotate", "i_shop")):
        lines = demo("instance", *command, "--env").out.splitlines()
        variables = dict(line.split("=", 1) for line in lines)
        settings = load_instance(None, variables)
        assert (settings.url, settings.instance) == ("http://127.0.0.1:8787", "i_shop")
        assert opened(demo)[settings.keys[0].kid] == variables["GATEWAY_INSTANCE_SECRET"]
        assert len(lines) == 4


def test_an_instance_changes_and_goes(demo: Cli) -> None:
    added = demo.json("instance", "add", "Shop", "--requests-per-minute", "50")
    id = added["instance"]
    demo("instance", "change", id, "--name", "Kiosk", "--network", "127.0.0.1")
    demo("instance", "change", id, "--requests-per-minute", "7")
    shown = demo.json("instance", "show", id)
    assert (shown["name"], shown["networks"], shown["requests_per_minute"]) == ("Kiosk", ["127.0.0.1"], 7)
    demo("instance", "change", id, "--anywhere")
    demo("instance", "disable", id)
    assert [(row["id"], row["networks"], row["status"]) for row in demo.json("instance", "list")] == [
        (id, [], "disabled")
    ]
    demo("instance", "enable", id)
    assert demo.json("instance", "show", id)["status"] == "active"
    assert demo.json("instance", "list", "--after", id) == []
    demo("instance", "delete", id, "--yes")
    for command in (["show", id], ["disable", id], ["delete", id, "--yes"], ["keys", id], ["rotate", id]):
        demo("instance", *command, code=4)
    told = [row["action"] for row in demo.json("audit", "--limit", "10") if row["target"] == f"instance:{id}"]
    assert told == ["instance.delete", *["instance.update"] * 5, "instance.create"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "Shop", "--network", "10.0.0.1/8"],
        ["add", "Shop", "--network", "x"],
        ["add", "Shop", "--requests-per-minute", "0"],
        ["add", "Shop", "--id", "../x"],
        ["add", "a\nb"],
        ["change", "i_shop"],
        ["change", "i_shop", "--network", "::1", "--anywhere"],
        ["rotate", "i_shop", "--until", "2001-01-01"],
        ["rotate", "i_shop", "--overlap", "-1"],
        ["rotate", "i_shop", "--overlap", "60", "--keep"],
    ],
)
def test_what_can_not_be_is_a_usage_error(demo: Cli, arguments: list[str]) -> None:
    demo("instance", "add", "Shop", "--id", "i_shop")
    demo("instance", *arguments, code=2)


def test_an_id_is_there_once(demo: Cli) -> None:
    demo("instance", "add", "Shop", "--id", "i_shop")
    demo("instance", "add", "Shop", "--id", "i_shop", code=5)


def ends(cli: Cli) -> dict[str, int | None]:
    """When each key of the instance ends, in milliseconds since 1970 UTC."""
    keys = cli.json("instance", "keys", "i_shop")
    return {key["kid"]: key["expires_at"] and parse_rfc3339(key["expires_at"]) for key in keys}


def test_a_key_takes_the_place_of_another(demo: Cli) -> None:
    first = demo.json("instance", "add", "Shop", "--id", "i_shop")
    second = demo.json("instance", "rotate", "i_shop", "--keep")
    assert ends(demo) == {first["kid"]: None, second["kid"]: None}
    third = demo.json("instance", "rotate", "i_shop", "--overlap", "3600", "--until", "30d")
    end = ends(demo)
    assert end[first["kid"]] == end[second["kid"]]
    assert int(end[first["kid"]] or 0) < int(end[third["kid"]] or 0)
    assert opened(demo) == {key["kid"]: key["secret"] for key in (first, second, third)}
    demo("instance", "revoke", "i_shop", first["kid"])
    demo("instance", "revoke", "i_shop", first["kid"], code=4)
    assert set(ends(demo)) == {second["kid"], third["kid"]}


def test_the_older_keys_end_after_a_day_as_over_http(demo: Cli) -> None:
    first = demo.json("instance", "add", "Shop", "--id", "i_shop")
    before = time.time() * 1000
    second = demo.json("instance", "rotate", "i_shop")
    after = time.time() * 1000
    found = ends(demo)
    assert found[second["kid"]] is None
    assert before - 1000 <= int(found[first["kid"]] or 0) - int(KeyWanted().overlap_s or 0) * 1000 <= after + 1000


def test_another_master_key_takes_the_secrets_along(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
    monkeypatch.setenv("GATEWAY_AUTH_MASTER_KEY", old)
    cli("init", "--demo")
    key = cli.json("instance", "add", "Shop")
    monkeypatch.setenv("GATEWAY_AUTH_MASTER_KEY", f"{new},{old}")
    # Of one write: what was put under the newest key is what the trail and the answer speak of.
    assert cli.json("keys", "rotate")["seq"] == last_seq(cli)
    monkeypatch.setenv("GATEWAY_AUTH_MASTER_KEY", new)
    assert opened(cli) == {key["kid"]: key["secret"]}
    assert cli("doctor").out == "Nothing is wrong.\n"
    monkeypatch.setenv("GATEWAY_AUTH_MASTER_KEY", old)
    assert key["kid"] in cli("doctor", code=1).out


def test_an_address_at_which_nobody_listens_is_not_given_without_a_word(
    demo: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_SERVER_PORT", "9123")
    for more in ((), ("--json",)):
        assert "auth.issuer is not set" in demo("instance", "add", "Shop", *more).err
    monkeypatch.setenv("GATEWAY_AUTH_ISSUER", "http://127.0.0.1:9123")
    answer = demo("instance", "add", "Shop")
    assert 'url = "http://127.0.0.1:9123"' in answer.out
    assert "auth.issuer" not in answer.err


@pytest.mark.parametrize("signing", [True, False])
def test_a_key_that_no_node_could_open_is_not_made(demo: Cli, monkeypatch: pytest.MonkeyPatch, signing: bool) -> None:
    """Where nothing signs, by what instances have."""
    if signing:
        demo("keys", "rotate")
    demo("instance", "add", "Shop", "--id", "i_shop")
    before, seq = demo.json("instance", "keys", "i_shop"), last_seq(demo)
    right = demo.database.with_name("gateway.db.key").read_text().strip()
    wrong = base64.b64encode(secrets.token_bytes(32)).decode()
    monkeypatch.setenv("GATEWAY_AUTH_MASTER_KEY", wrong)
    for command in (("add", "Kiosk"), ("rotate", "i_shop")):
        refused = demo("instance", *command, code=3)
        assert (refused.out, "auth.master_key: does not open" in refused.err) == ("", True)
    assert (demo.json("instance", "keys", "i_shop"), last_seq(demo)) == (before, seq)
    monkeypatch.setenv("GATEWAY_AUTH_MASTER_KEY", f"{wrong},{right}")
    demo("instance", "rotate", "i_shop")


def test_networks_that_let_nobody_in_are_found(demo: Cli) -> None:
    for number, networks in enumerate(("[1]", '["nonsense"]', '["10.0.0.0/8"]', "[]")):
        id = f"i_{number}"
        demo("instance", "add", "Shop", "--id", id)

        async def write(id: str = id, networks: str = networks) -> None:
            async with await Database.open(str(demo.database), create=False) as database:
                await database.write(Statement("UPDATE instances SET networks = ? WHERE id = ?", (networks, id)))

        asyncio.run(write())
    found = demo.json("doctor", code=1)["findings"]
    assert [(finding["check"], finding["message"].split()[3]) for finding in found] == [
        ("instances", "i_0"),
        ("instances", "i_1"),
    ]


def test_a_lost_master_key_is_not_replaced_behind_the_secrets(demo: Cli) -> None:
    """Also where no signing key is left that would show it."""
    demo("instance", "add", "Shop")

    async def lose() -> None:
        async with await Database.open(str(demo.database), create=False) as database:
            await database.write(Statement("DELETE FROM signing_keys"))

    asyncio.run(lose())
    demo.database.with_name("gateway.db.key").unlink()
    demo("instance", "add", "Kiosk", code=3)
    assert not demo.database.with_name("gateway.db.key").exists()
