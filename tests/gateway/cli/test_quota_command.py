from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.demo import DEMO_ORDERS
from gateway.cli.exits import ExitCode
from gateway.cli.invocation import actor
from gateway.cli.quota import _Told
from gateway.errors import QuotaExceeded, StoreUnavailable, StoreUncertain, Uncertain
from gateway.store.database import Database, wall_clock
from gateway.store.ledger import LedgerEntry
from gateway.store.quotas import Quotas
from tests.gateway.cli.conftest import Cli
from tests.support.foreign_writer import ForeignWriter
from tests.support.sqld import SqldServer


@pytest.fixture(params=["file", "server"])
def anywhere(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> Iterator[Cli]:
    """The demo data in a file, and on a libSQL server."""
    if request.param == "file":
        cli("init", "--demo")
        yield cli
        return
    with SqldServer(tmp_path / "server") as server:
        monkeypatch.setenv("GATEWAY_DATABASE_URL", server.url)
        cli("init", "--demo")
        yield cli


def reserve(cli: Cli, owner: str, quota: str, amount: int, name: str, ttl_s: float = 600.0) -> None:
    """Units that somebody holds: Alan."""

    async def hold() -> None:
        async with await Database.open(str(cli.database), create=False) as database:
            await Quotas(database, wall_clock).leases.reserve("user:u_alan", owner, quota, amount, name, ttl_s)

    asyncio.run(hold())


def entry(cli: Cli, who: str, quota: str) -> Any:
    return cli.json("quota", "show", who, quota)["quotas"][quota]


# --- show ---


def test_every_quota_is_shown(anywhere: Cli) -> None:
    shown = anywhere.json("quota", "show", "grace")
    assert shown["owner"] == "user:u_grace"
    assert shown["leases"] == []
    assert shown["quotas"].keys() == {"voice_minutes", "sms_messages"}
    document = anywhere.json("explain", "grace", "--quota", "voice_minutes")["balance"]
    assert shown["quotas"]["voice_minutes"] == document
    pool = anywhere.json("quota", "show", "org:o_acme")
    assert pool["owner"] == "org:o_acme"
    assert pool["quotas"]["voice_minutes"]["limit"] == 10_000
    assert "limit" not in pool["quotas"]["sms_messages"]
    assert list(anywhere.json("quota", "show", "grace", "sms_messages")["quotas"]) == ["sms_messages"]
    lines = anywhere("quota", "show", "org:o_acme").out.splitlines()
    assert lines[0].split()[:5] == ["quota", "used", "reserved", "limit", "remaining"]
    assert [line.split()[0] for line in lines[1:]] == ["sms_messages", "voice_minutes"]
    assert "unlimited" in lines[1]


def test_an_override_and_its_period_are_shown(demo: Cli) -> None:
    demo("user", "quota", "alan", "seats", "10", "--period", "never")
    assert entry(demo, "alan", "seats") == {
        **{"limit": 10, "used": 0, "reserved": 0, "remaining": 10},
        **{"period": "never", "hard": True, "level": "ok"},
    }
    demo("user", "quota", "alan", "seats", "0", "--period", "never")
    assert entry(demo, "alan", "seats")["level"] == "exhausted"
    assert "exhausted" in demo("quota", "show", "alan", "seats").out


def test_open_leases_are_shown_with_who_holds_them(demo: Cli) -> None:
    reserve(demo, "user:u_alan", "voice_minutes", 7, "a call \u202e", 600)
    reserve(demo, "user:u_alan", "voice_minutes", 2, "sooner", 60)
    reserve(demo, "org:o_acme", "voice_minutes", 5, "shared")
    shown = demo.json("quota", "show", "alan")
    assert shown["quotas"]["voice_minutes"]["reserved"] == 9
    assert [(lease["id"], lease["held"], lease["spender"]) for lease in shown["leases"]] == [
        ("sooner", 2, "user:u_alan"),
        ("a call \u202e", 7, "user:u_alan"),
    ]
    assert all(lease[name].endswith("Z") for lease in shown["leases"] for name in ("expires_at", "period_start"))
    out = demo("quota", "show", "alan").out
    assert "a call \\u202e" in out
    assert "\u202e" not in out
    assert [lease["id"] for lease in demo.json("quota", "show", "org:o_acme")["leases"]] == ["shared"]
    assert demo.json("quota", "show", "alan", "sms_messages")["leases"] == []


def test_what_only_sql_can_have_written_does_not_hide_the_rest(demo: Cli) -> None:
    reserve(demo, "user:u_alan", "voice_minutes", 7, "fine")
    with ForeignWriter(demo.database) as foreign:
        foreign.execute(
            "INSERT INTO leases (spender, id, owner, quota, period, period_start, amount, held, created_at, expires_at)"
            " VALUES ('user:u_alan', CAST(x'ff' AS TEXT), 'user:u_alan', 'voice_minutes', 'month', ?1, 1, 1, 0, ?1)",
            9 * 10**18,
        )
    leases = demo.json("quota", "show", "alan")["leases"]
    assert [lease["id"] for lease in leases] == ["fine", "\ufffd"]
    assert leases[1]["expires_at"] == 9 * 10**18
    assert "\ufffd" in demo("quota", "show", "alan").out


def test_who_has_none_is_told(demo: Cli) -> None:
    (demo.database.parent / "plans.toml").write_text('[plans.bare]\nname = "Bare"\n')
    demo("plan", "apply", "plans.toml")
    demo("user", "add", "bob", "--plan", "bare")
    assert demo("quota", "show", "bob").out == "bob has no quotas.\n"
    assert demo.json("quota", "show", "bob")["quotas"] == {}
    reserve(demo, "user:u_alan", "voice_minutes", 7, "a call")
    demo("user", "plan", "alan", "bare")
    lines = demo("quota", "show", "alan").out.splitlines()
    assert (lines[0], lines[-1].split()[:2]) == ("alan has no quotas.", ["a", "call"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eve"], "There is no user eve."),
        (["org:o_none"], "There is no organization o_none."),
        (["org:"], "There is no organization ."),
        (["ada", "faxes"], "ada has no quota faxes."),
        (["org:o_acme", "faxes"], "o_acme has no quota faxes."),
        (["--", "-ada"], "There is no user -ada."),
    ],
)
def test_what_is_not_there_can_not_be_shown(demo: Cli, arguments: list[str], said: str) -> None:
    assert demo("quota", "show", *arguments, code=ExitCode.NOT_FOUND).err == f"gateway: {said}\n"


def test_what_can_not_be_worked_out_is_a_line(demo: Cli) -> None:
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("UPDATE users SET timezone = 'Mars' WHERE id = 'u_ada'")
        foreign.execute("UPDATE organizations SET timezone = 'Mars'")
    assert "can not be" in demo("quota", "show", "ada", code=ExitCode.UNAVAILABLE).err
    assert "can not be" in demo("quota", "show", "org:o_acme", code=ExitCode.UNAVAILABLE).err


# --- consume ---


def test_units_are_taken_once_for_each_key(anywhere: Cli) -> None:
    before = entry(anywhere, "alan", "voice_minutes")["used"]
    taken = anywhere.json("quota", "consume", "alan", "voice_minutes", "5", "--key", "-k 1")
    assert (taken["spender"], taken["owner"], taken["key"]) == ("user:u_alan", "user:u_alan", "-k 1")
    assert (taken["quota"], taken["amount"], taken["used"]) == ("voice_minutes", 5, before + 5)
    assert anywhere.json("quota", "consume", "alan", "voice_minutes", "5", "--key", "-k 1") == taken
    said = anywhere("quota", "consume", "alan", "voice_minutes", "6", "--key", "-k 1", code=ExitCode.CONFLICT).err
    assert said == "gateway: The key was used for another request.\n"
    said = anywhere("quota", "consume", "alan", "sms_messages", "5", "--key", "-k 1", code=ExitCode.CONFLICT).err
    assert said == "gateway: The key was used for another request.\n"
    assert entry(anywhere, "alan", "voice_minutes")["used"] == before + 5
    assert {name: taken[name] for name in entry(anywhere, "alan", "voice_minutes")} == entry(
        anywhere, "alan", "voice_minutes"
    )


def test_without_a_key_one_is_made_and_printed(demo: Cli) -> None:
    first, second = (demo.json("quota", "consume", "alan", "voice_minutes") for _ in range(2))
    assert first["amount"] == second["amount"] == 1
    assert second["used"] == first["used"] + 1
    assert second["seq"] > first["seq"]
    assert first["key"][:12] <= second["key"][:12]
    assert first["key"] != second["key"]
    again = demo.json("quota", "consume", "alan", "voice_minutes", "--key", first["key"])
    assert again == first
    out = demo("quota", "consume", "alan", "voice_minutes", "2").out
    key = out.split()[-1]
    assert out.startswith(f"alan took 2 of voice_minutes: {second['used'] + 2} used, 0 reserved of 10000, ")
    assert demo.json("quota", "consume", "alan", "voice_minutes", "2", "--key", key)["used"] == second["used"] + 2


def test_a_hard_limit_is_not_passed(anywhere: Cli) -> None:
    anywhere("user", "quota", "alan", "calls", "3")
    anywhere("quota", "consume", "alan", "calls", "2")
    said = anywhere("quota", "consume", "alan", "calls", "2", code=ExitCode.EXCEEDED).err
    resets_at = entry(anywhere, "alan", "calls")["resets_at"]
    assert said == f"gateway: The quota leaves 1 of the 2 asked for. It begins anew at {resets_at}.\n"
    assert entry(anywhere, "alan", "calls")["used"] == 2
    anywhere("user", "quota", "alan", "calls", "3", "--soft")
    assert anywhere.json("quota", "consume", "alan", "calls", "2")["remaining"] == 0
    anywhere("user", "quota", "alan", "calls", "unlimited")
    assert "limit" not in anywhere.json("quota", "consume", "alan", "calls", "2147483648")


def test_what_is_held_too_long_holds_nothing(demo: Cli) -> None:
    """Also where no gateway runs that would end it."""
    demo("user", "quota", "alan", "calls", "3")
    reserve(demo, "user:u_alan", "calls", 3, "a call")
    demo("quota", "consume", "alan", "calls", code=ExitCode.EXCEEDED)
    demo("quota", "adjust", "alan", "calls", "1", "--reason", "x", code=ExitCode.EXCEEDED)
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("UPDATE leases SET expires_at = 1000")
        assert [lease["id"] for lease in demo.json("quota", "show", "alan")["leases"]] == ["a call"]
        assert demo.json("quota", "consume", "alan", "calls")["remaining"] == 2
        foreign.execute("UPDATE leases SET state = 'open', ended_at = NULL")
        foreign.execute("UPDATE quota_usage SET reserved = 2 WHERE owner = 'user:u_alan' AND quota = 'calls'")
    assert demo.json("quota", "adjust", "alan", "calls", "2", "--reason", "x")["remaining"] == 0
    booked = [row["kind"] for row in demo.json("quota", "ledger", "alan", "calls")]
    assert booked == ["adjust", "expire", "sql", "consume", "expire", "reserve"]


def test_one_that_never_begins_anew_says_no_moment(demo: Cli) -> None:
    demo("user", "quota", "alan", "seats", "3", "--period", "never")
    said = demo("quota", "consume", "alan", "seats", "4", code=ExitCode.EXCEEDED).err
    assert said == "gateway: The quota leaves 3 of the 4 asked for.\n"
    assert "until" not in demo("quota", "consume", "alan", "seats", "3").out


def test_a_pool_is_taken_from_within_the_members_cap(anywhere: Cli) -> None:
    anywhere("org", "cap", "o_acme", "grace", "voice_minutes", "4")
    before = entry(anywhere, "org:o_acme", "voice_minutes")["used"]
    taken = anywhere.json("quota", "consume", "grace", "voice_minutes", "3", "--org", "o_acme")
    assert (taken["spender"], taken["owner"]) == ("user:u_grace", "org:o_acme")
    assert (taken["used"], taken["cap"], taken["cap_remaining"]) == (before + 3, 4, 1)
    refused = anywhere("quota", "consume", "grace", "voice_minutes", "2", "--org", "o_acme", code=ExitCode.EXCEEDED)
    assert "leaves 1 of the 2" in refused.err
    out = anywhere("quota", "consume", "grace", "voice_minutes", "--org", "o_acme").out
    assert "grace took 1 of voice_minutes of o_acme: " in out
    assert ", 0 of the member's share" in out
    assert entry(anywhere, "org:o_acme", "voice_minutes")["used"] == before + 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eve", "voice_minutes"], "There is no user eve."),
        (["user:ada", "voice_minutes"], "There is no user ada."),
        (["user:u_ada", "faxes"], "ada has no quota faxes, or is disabled."),
        (["ada", "voice_minutes", "--org", "o_none"], "There is no organization o_none."),
        (
            ["admin", "voice_minutes", "--org", "o_acme"],
            "o_acme has no quota voice_minutes, or admin is no member of it, or one of them is disabled.",
        ),
    ],
)
def test_what_is_not_there_can_not_be_taken(demo: Cli, arguments: list[str], said: str) -> None:
    assert demo("quota", "consume", *arguments, code=ExitCode.NOT_FOUND).err == f"gateway: {said}\n"


def test_counting_comes_to_an_end(demo: Cli) -> None:
    """At the last integer that every JSON reader takes for what it is."""
    demo("user", "quota", "alan", "calls", "unlimited")
    demo("quota", "adjust", "alan", "calls", "--set", str(2**53 - 2), "--reason", "x")
    assert demo.json("quota", "consume", "alan", "calls")["used"] == 2**53 - 1
    for command in (["consume", "alan", "calls"], ["adjust", "alan", "calls", "1", "--reason", "x"]):
        said = demo("quota", *command, code=ExitCode.BAD_VALUE).err
        assert said == "gateway: No more than 2^53 - 1 units can be counted.\n"


def test_a_pool_takes_nothing_itself(demo: Cli) -> None:
    said = demo("quota", "consume", "org:o_acme", "voice_minutes", code=ExitCode.USAGE).err
    assert "name the user, and --org" in said


def test_who_is_disabled_takes_nothing(demo: Cli) -> None:
    demo("user", "disable", "alan")
    demo("quota", "consume", "alan", "voice_minutes", code=ExitCode.NOT_FOUND)
    demo("quota", "consume", "alan", "voice_minutes", "--org", "o_acme", code=ExitCode.NOT_FOUND)
    demo("org", "disable", "o_acme")
    demo("quota", "consume", "grace", "voice_minutes", "--org", "o_acme", code=ExitCode.NOT_FOUND)


@pytest.mark.parametrize("amount", ["0", "-5", "1.5", "five", "2147483649", "1_000", "\u0665", "", "1e3", "0x10"])
def test_an_amount_is_a_whole_number(demo: Cli, amount: str) -> None:
    said = demo("quota", "consume", "alan", "voice_minutes", amount, code=ExitCode.USAGE).err
    assert "write a whole number from 1 to 2^31" in said
    assert entry(demo, "alan", "voice_minutes")["used"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--key", ""], "the key must have 1 to 128 characters"),
        (["--key", "k" * 129], "the key must have 1 to 128 characters"),
        (["--key", "a\x1b[2J"], "control characters"),
        (["--key", "a\udc80"], "control characters or lone surrogates"),
        (["--kye", "a"], "No such option '--kye'"),
        (["1", "2"], "unexpected extra argument"),
        (["--key"], "requires an argument"),
        (["--org", "org:o_acme"], "the id must have"),
    ],
)
def test_a_wrong_call_takes_nothing(demo: Cli, arguments: list[str], said: str) -> None:
    assert said in demo("quota", "consume", "alan", "voice_minutes", *arguments, code=ExitCode.USAGE).err
    assert entry(demo, "alan", "voice_minutes")["used"] == 0


def test_a_key_can_not_talk_to_the_terminal(demo: Cli) -> None:
    out = demo("quota", "consume", "alan", "voice_minutes", "--key", "\u202ek").out
    assert out.endswith("Key \\u202ek\n")
    assert demo.json("quota", "consume", "alan", "voice_minutes", "--key", "\u202ek")["key"] == "\u202ek"


def test_a_database_that_is_away_is_one_line(anywhere: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "http://127.0.0.1:1")
    for command in (["show", "alan"], ["consume", "alan", "voice_minutes"]):
        anywhere("quota", *command, code=ExitCode.UNAVAILABLE)


def test_why_nothing_can_be_taken_is_told(demo: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(self: Database, *statements: Any) -> Any:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as during:
        during.setattr(Database, "write", full)
        said = demo("quota", "consume", "alan", "voice_minutes", code=ExitCode.UNAVAILABLE).err
        assert said == "gateway: The quota can not be spent now. (the disk is full)\n"
        adjusting = ("quota", "adjust", "alan", "voice_minutes", "1", "--reason", "x")
        assert demo(*adjusting, code=ExitCode.UNAVAILABLE).err == "gateway: the disk is full\n"
    assert entry(demo, "alan", "voice_minutes")["used"] == 0


def test_an_adjustment_that_nobody_knows_of_can_be_asked_again(demo: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Database.write

    async def lost(self: Database, *statements: Any) -> Any:
        await whole(self, *statements)
        raise StoreUncertain("the answer was lost")

    with monkeypatch.context() as during:
        during.setattr(Database, "write", lost)
        asked = ("quota", "adjust", "alan", "voice_minutes", "5", "--reason", "x")
        said = demo(*asked, code=ExitCode.UNCERTAIN).err
    assert said.startswith("gateway: It is not known whether it was made: repeat it with --key ")
    assert demo.json(*asked, "--key", said.split()[-1])["used"] == 5
    assert len(demo.json("audit", "--action", "quota.adjust")) == 1


def test_what_is_not_known_can_be_asked_again(
    demo: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The units were taken, and nobody said so."""
    consume = Quotas.__init__

    def losing(self: Quotas, database: Database, wall: Any) -> None:
        consume(self, database, wall)
        whole = self.spender.consume

        async def lost(order: Any) -> Any:
            await whole(order)
            raise Uncertain("the answer was lost")

        monkeypatch.setattr(self.spender, "consume", lost)

    with monkeypatch.context() as during:
        during.setattr(Quotas, "__init__", losing)
        said = demo("quota", "consume", "alan", "voice_minutes", "5", code=ExitCode.UNCERTAIN).err
    assert said.startswith("gateway: It is not known whether it was made: repeat it with --key ")
    assert entry(demo, "alan", "voice_minutes")["used"] == 5
    assert demo.json("quota", "consume", "alan", "voice_minutes", "5", "--key", said.split()[-1])["used"] == 5
    with pytest.raises(asyncio.CancelledError), _Told("k"):
        raise asyncio.CancelledError
    assert capsys.readouterr().err == "It may have been made: repeat it with --key k\n"
    with pytest.raises(QuotaExceeded), _Told("k"):
        raise QuotaExceeded("No.")


def test_json_has_these_members(demo: Cli) -> None:
    reserve(demo, "user:u_alan", "voice_minutes", 7, "a call")
    limited = {"limit", "used", "reserved", "remaining", "period", "hard", "resets_at", "level"}
    shown = demo.json("quota", "show", "alan", "voice_minutes")
    assert shown.keys() == {"owner", "quotas", "leases"}
    assert shown["quotas"]["voice_minutes"].keys() == limited
    times = {"period_start", "created_at", "expires_at"}
    assert shown["leases"][0].keys() == {"id", "quota", "spender", "held", "instance"} | times
    taken = demo.json("quota", "consume", "alan", "voice_minutes")
    assert taken.keys() == {"spender", "owner", "quota", "amount", "key", "seq"} | limited
    unlimited = demo.json("quota", "consume", "alan", "sms_messages")
    assert unlimited.keys() == taken.keys() - {"limit", "reserved", "remaining", "hard"}
    done = demo.json("quota", "adjust", "alan", "voice_minutes", "1", "--reason", "x")
    assert done.keys() == {"owner", "quota", "amount", "set", "reason", "key", "seq"} | limited
    assert demo.json("quota", "ledger", "alan")[0].keys() == set(LedgerEntry._fields)


# --- adjust ---


def test_a_balance_is_put_right_once_for_each_key(anywhere: Cli) -> None:
    anywhere("quota", "consume", "alan", "voice_minutes", "20")
    asked = ("quota", "adjust", "alan", "voice_minutes", "-5", "--reason", "a call that failed", "--key", "k")
    done = anywhere.json(*asked)
    assert (done["owner"], done["quota"], done["amount"], done["set"]) == ("user:u_alan", "voice_minutes", -5, None)
    assert (done["used"], done["reason"], done["key"]) == (15, "a call that failed", "k")
    assert anywhere.json(*asked) == done
    assert entry(anywhere, "alan", "voice_minutes")["used"] == 15
    assert anywhere.json("quota", "adjust", "alan", "voice_minutes", "+7", "--reason", "x")["used"] == 22
    out = anywhere("quota", "adjust", "user:u_alan", "voice_minutes", "2", "--reason", "x").out
    assert out.startswith("voice_minutes of alan is corrected by +2: 24 used, 0 reserved of 10000, 9976 left until ")
    again = ("quota", "adjust", "alan", "voice_minutes", "-6", "--reason", "x", "--key", "k")
    assert anywhere(*again, code=ExitCode.CONFLICT).err == "gateway: The key was used for another request.\n"
    assert entry(anywhere, "alan", "voice_minutes")["used"] == 24
    assert anywhere("doctor").out.endswith("Nothing is wrong.\n")


def test_seats_are_set(anywhere: Cli) -> None:
    anywhere("user", "quota", "alan", "seats", "10", "--period", "never")
    done = anywhere.json("quota", "adjust", "alan", "seats", "--set", "7", "--reason", "counted")
    assert (done["amount"], done["set"], done["used"], done["remaining"]) == (None, 7, 7, 3)
    assert anywhere.json("quota", "adjust", "alan", "seats", "--set", "4", "--reason", "counted")["used"] == 4
    out = anywhere("quota", "adjust", "alan", "seats", "--set", "0", "--reason", "nobody is left").out
    assert out.startswith("seats of alan is set to 0: 0 used, 0 reserved of 10, 10 left. Key ")
    anywhere("quota", "adjust", "alan", "seats", "--set", "11", "--reason", "x", code=ExitCode.EXCEEDED)
    assert entry(anywhere, "alan", "seats")["used"] == 0


def test_a_pool_is_put_right(demo: Cli) -> None:
    before = entry(demo, "org:o_acme", "voice_minutes")["used"]
    done = demo.json("quota", "adjust", "org:o_acme", "voice_minutes", "-1", "--reason", "x")
    assert (done["owner"], done["used"]) == ("org:o_acme", before - 1)


def test_an_adjustment_obeys_its_bounds(demo: Cli) -> None:
    demo("user", "quota", "alan", "calls", "3")
    said = demo("quota", "adjust", "alan", "calls", "4", "--reason", "x", code=ExitCode.EXCEEDED).err
    assert said.startswith("gateway: The quota leaves 3 of the 4 asked for. It begins anew at ")
    demo("quota", "adjust", "alan", "calls", "3", "--reason", "x")
    said = demo("quota", "adjust", "alan", "calls", "-4", "--reason", "x", code=ExitCode.CONFLICT).err
    assert said == "gateway: No more than 3 can be taken away.\n"
    said = demo("quota", "adjust", "alan", "faxes", "1", "--reason", "x", code=ExitCode.NOT_FOUND).err
    assert said == "gateway: alan has no quota faxes.\n"
    demo("quota", "adjust", "eve", "calls", "1", "--reason", "x", code=ExitCode.NOT_FOUND)
    demo("quota", "adjust", "user:alan", "calls", "1", "--reason", "x", code=ExitCode.NOT_FOUND)
    demo("quota", "adjust", "org:o_none", "calls", "1", "--reason", "x", code=ExitCode.NOT_FOUND)
    assert entry(demo, "alan", "calls")["used"] == 3
    assert [row["after"]["amount"] for row in demo.json("audit", "--action", "quota.adjust")] == [3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["5"], "Missing option '--reason'"),
        (["--reason", "x"], "say which AMOUNT, or --set"),
        (["5", "--set", "5", "--reason", "x"], "say which AMOUNT, or --set"),
        (["5", "--reason", ""], "the reason must have 1 to 200 characters"),
        (["5", "--reason", "x" * 201], "the reason must have 1 to 200 characters"),
        (["5", "--reason", "a\x1b[2J"], "control characters"),
        (["5", "--reason", "a\udcff"], "lone surrogates"),
        (["--set", "-1", "--reason", "x"], "write a whole number from 0 to 2^53 - 1"),
        (["--set", str(2**53), "--reason", "x"], "write a whole number from 0 to 2^53 - 1"),
        (["-2147483649", "--reason", "x"], "write a whole number from -2^31 to 2^31"),
        (["--reason", "x", "--", "--5"], "write a whole number from -2^31 to 2^31"),
        (["-5x", "--reason", "x"], "No such option"),
        (["- 5", "--reason", "x"], "No such option"),
    ],
)
def test_a_wrong_call_puts_nothing_right(demo: Cli, arguments: list[str], said: str) -> None:
    assert said in demo("quota", "adjust", "alan", "voice_minutes", *arguments, code=ExitCode.USAGE).err
    assert demo.json("quota", "ledger", "alan") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["alan", "voice_minutes", "-1", "--reason", "-2"],
        ["--reason", "-2", "alan", "voice_minutes", "-1"],
        ["alan", "--reason", "-2", "voice_minutes", "--", "-1"],
        ["--reason=-2", "--", "alan", "voice_minutes", "-1"],
    ],
)
def test_numbers_may_begin_with_a_dash_wherever_they_stand(demo: Cli, arguments: list[str]) -> None:
    demo("quota", "consume", "alan", "voice_minutes", "3")
    done = json.loads(demo("quota", "adjust", "--json", *arguments).out)
    assert (done["amount"], done["reason"], done["used"]) == (-1, "-2", 2)


def test_the_trail_says_who_put_what_right(demo: Cli) -> None:
    demo("quota", "consume", "alan", "voice_minutes", "3")
    demo("quota", "adjust", "alan", "voice_minutes", "-1", "--reason", "a <b>call</b>", "--key", "k")
    demo("quota", "adjust", "alan", "voice_minutes", "-1", "--reason", "a <b>call</b>", "--key", "k")
    demo("quota", "adjust", "org:o_acme", "voice_minutes", "--set", "9", "--reason", "counted")
    pool, own = demo.json("audit", "--action", "quota.adjust")
    assert (own["actor"], own["target"], own["outcome"]) == (actor(), "user:u_alan", "ok")
    assert own["before"] == {"used": 3}
    assert own["after"] == {"quota": "voice_minutes", "amount": -1, "reason": "a <b>call</b>"}
    assert (pool["target"], pool["after"]["used"]) == ("org:o_acme", 9)
    assert demo.json("audit", "--user", "alan", "--limit", "1") == [own]


# --- ledger ---


def test_the_ledger_tells_what_moved_a_balance(anywhere: Cli) -> None:
    anywhere("quota", "consume", "alan", "voice_minutes", "5", "--key", "first")
    anywhere("quota", "consume", "alan", "sms_messages", "2")
    anywhere("quota", "adjust", "alan", "voice_minutes", "-1", "--reason", "cut off", "--key", "second")
    rows = anywhere.json("quota", "ledger", "alan")
    assert [(row["kind"], row["quota"], row["used"], row["used_after"]) for row in rows] == [
        ("adjust", "voice_minutes", -1, 4),
        ("consume", "sms_messages", 2, 2),
        ("consume", "voice_minutes", 5, 5),
    ]
    assert [(row["spender"], row["key"], row["reason"]) for row in (rows[0], rows[2])] == [
        (actor(), "second", "cut off"),
        ("user:u_alan", "first", None),
    ]
    assert all(row["owner"] == "user:u_alan" for row in rows)
    assert all(row[name].endswith("Z") for row in rows for name in ("at", "period_start", "period_end"))
    assert anywhere.json("quota", "ledger", "alan", "voice_minutes") == [rows[0], rows[2]]
    assert anywhere.json("quota", "ledger", "alan", "--limit", "1") == rows[:1]
    assert anywhere.json("quota", "ledger", "user:u_alan", "--since", "1h") == rows
    assert anywhere.json("quota", "ledger", "alan", "faxes") == []
    lines = anywhere("quota", "ledger", "alan").out.splitlines()
    assert lines[0].split()[2:8] == ["kind", "quota", "used", "reserved", "used_after", "reserved_after"]
    assert lines[1].split()[2:] == ["adjust", "voice_minutes", "-1", "0", "4", "0", actor(), "second", "cut", "off"]


def test_leases_and_sql_are_in_the_ledger(demo: Cli) -> None:
    reserve(demo, "user:u_alan", "voice_minutes", 7, "a call")
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("UPDATE leases SET state = 'committed', committed = 3, ended_at = 5")
        foreign.execute("UPDATE quota_usage SET used = 9 WHERE owner = 'user:u_alan'")
    rows = demo.json("quota", "ledger", "alan")
    assert [(row["kind"], row["used"], row["reserved"], row["lease"], row["spender"]) for row in rows] == [
        ("sql", 6, 0, None, None),
        ("commit", 3, -7, "a call", "user:u_alan"),
        ("reserve", 0, 7, "a call", "user:u_alan"),
    ]
    assert [row["used_after"] for row in rows] == [9, 3, 0]


def test_what_was_booked_long_ago_is_left_out(demo: Cli) -> None:
    demo("quota", "consume", "alan", "voice_minutes")
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("UPDATE quota_ledger SET at = 1000 WHERE owner = 'user:u_alan'")
    assert demo.json("quota", "ledger", "alan", "--since", "1h") == []
    assert demo.json("quota", "ledger", "alan", "--since", "1970-01-01")[0]["at"] == "1970-01-01T00:00:01.000Z"


@pytest.mark.parametrize(
    "arguments", [["--since", "2999-01-01"], ["--since", "soon"], ["--limit", "0"], ["--limit", "100001"], ["a b"]]
)
def test_a_bad_filter_of_the_ledger_is_a_usage_error(demo: Cli, arguments: list[str]) -> None:
    demo("quota", "ledger", "alan", *arguments, code=ExitCode.USAGE)


def test_what_the_deleted_took_can_still_be_asked(demo: Cli) -> None:
    demo("quota", "consume", "grace", "voice_minutes")
    demo("user", "delete", "grace", "--yes")
    demo("org", "delete", "o_acme", "--yes")
    for name in ("u_grace", "user:u_grace"):
        rows = demo.json("quota", "ledger", name)
        assert (rows[0]["kind"], rows[0]["used_after"], rows[1]["kind"]) == ("sql", 0, "consume")
    assert demo.json("quota", "ledger", "org:o_acme")[-1]["kind"] == "consume"
    assert demo("quota", "ledger", "grace", code=ExitCode.NOT_FOUND).err == "gateway: There is no user grace.\n"
    demo("quota", "ledger", "org:o_none", code=ExitCode.NOT_FOUND)


def test_the_ledger_can_not_talk_to_the_terminal(demo: Cli) -> None:
    demo("quota", "adjust", "alan", "voice_minutes", "1", "--reason", "\u202e[red]why")
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("UPDATE quota_ledger SET key = ? WHERE kind = 'adjust'", "a\x1b]0;owned\x07")
    out = demo("quota", "ledger", "alan").out
    assert "\\u202e[red]why" in out
    assert "a\\x1b]0;owned\\x07" in out
    assert out.isascii()
    assert "\x1b" not in out
    [row] = demo.json("quota", "ledger", "alan")
    assert (row["key"], row["reason"]) == ("a\x1b]0;owned\x07", "\u202e[red]why")


def test_one_odd_row_does_not_hide_the_ledger(demo: Cli) -> None:
    demo("quota", "consume", "alan", "voice_minutes")
    demo("quota", "consume", "alan", "voice_minutes")
    with ForeignWriter(demo.database) as foreign:
        foreign.execute(
            "UPDATE quota_ledger SET key = CAST(x'ff' AS TEXT), at = ? WHERE id = (SELECT max(id) FROM quota_ledger)",
            9 * 10**18,
        )
    odd, sound = demo.json("quota", "ledger", "alan")
    assert (odd["key"], odd["at"]) == ("\ufffd", 9 * 10**18)
    assert sound["kind"] == "consume"
    assert "\ufffd" in demo("quota", "ledger", "alan").out
    assert len(demo.json("quota", "ledger", "alan", "--since", "1h")) == 2


# --- what init and doctor make of it ---


def test_the_demo_has_balances_that_are_booked(demo: Cli) -> None:
    assert entry(demo, "ada", "voice_minutes")["used"] == 6
    assert entry(demo, "grace", "voice_minutes")["level"] == "low"
    assert {row["spender"] for row in demo.json("quota", "ledger", "org:o_acme")} == {"user:u_ada", "user:u_alan"}
    booked = [row for who in ("ada", "grace", "org:o_acme") for row in demo.json("quota", "ledger", who)]
    assert sorted((row["spender"], row["owner"], row["quota"], row["used"], row["key"]) for row in booked) == sorted(
        tuple(order) for order in DEMO_ORDERS
    )


def test_doctor_tells_of_a_balance_that_does_not_add_up(demo: Cli) -> None:
    with ForeignWriter(demo.database) as foreign:
        foreign.execute("UPDATE quota_ledger SET used = used + 1 WHERE key = 'demo-1'")
    lines = demo("doctor", code=ExitCode.FINDINGS).out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("balances: voice_minutes of user:u_ada in the period from 20")
    assert lines[0].endswith(": 6 are used and the ledger adds up to 7")
