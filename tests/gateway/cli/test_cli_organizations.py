from __future__ import annotations

from tests.gateway.cli.conftest import Cli


def test_an_organization_comes_changes_and_goes(demo: Cli) -> None:
    added = demo.json("org", "add", "Big Corp", "--plan", "pro", "--timezone", "Asia/Tokyo", "--attribute", "vat=7")
    shown = demo.json("org", "show", added["id"])
    assert (shown["name"], shown["plan"], shown["timezone"], shown["attributes"]) == (
        "Big Corp",
        "pro",
        "Asia/Tokyo",
        {"vat": 7},
    )
    demo("org", "plan", added["id"], "free")
    demo("org", "plan", added["id"], "gold", code=4)
    demo("org", "disable", added["id"])
    assert [(row["id"], row["status"]) for row in demo.json("org", "list", "--after", "o_", "--limit", "1")] == [
        (added["id"], "disabled") if added["id"] < "o_acme" else ("o_acme", "active")
    ]
    demo("org", "enable", added["id"])
    assert demo.json("org", "show", added["id"])["status"] == "active"
    demo("org", "delete", added["id"], "--yes")
    demo("org", "show", added["id"], code=4)
    demo("org", "add", "Acme", "--id", "o_acme", code=5)


def test_members_have_roles_and_caps(demo: Cli) -> None:
    demo("user", "add", "bob", "--id", "u_bob")
    demo("org", "member", "o_acme", "bob")
    demo("org", "member", "o_acme", "bob", "owner")
    demo("org", "cap", "o_acme", "bob", "voice_minutes", "100")
    demo("org", "cap", "o_acme", "bob", "sms_messages", "unlimited")
    demo("org", "cap", "o_acme", "bob", "sms_messages", code=2)
    shown = demo.json("org", "show", "o_acme")
    assert {row["username"]: row["role"] for row in shown["members"]} == {
        "ada": "admin",
        "alan": "owner",
        "bob": "owner",
        "grace": "member",
    }
    assert shown["caps"] == [
        {"user_id": "u_bob", "quota": "sms_messages", "limit": None},
        {"user_id": "u_bob", "quota": "voice_minutes", "limit": 100},
    ]
    assert shown["members"][0]["since"].endswith("Z")
    demo("org", "cap", "o_acme", "bob", "voice_minutes", "--remove")
    demo("org", "member", "o_acme", "bob", "--remove")
    demo("org", "member", "o_acme", "bob", "--remove", code=4)
    demo("org", "member", "o_x", "bob", code=4)
    demo("org", "member", "o_acme", "bob", "king", code=2)
    assert "bob" not in {row["username"] for row in demo.json("org", "show", "o_acme")["members"]}


def test_roles_grant_what_is_said(demo: Cli) -> None:
    assert demo.json("org", "role") == {
        "owner": ["manage_billing", "manage_members"],
        "admin": ["manage_members"],
        "member": [],
    }
    demo("org", "role", "member", "see_calls", "see_bills")
    assert demo.json("org", "role", "member") == {"member": ["see_bills", "see_calls"]}
    demo("org", "role", "member", "--clear")
    assert demo.json("org", "role", "member") == {"member": []}
    demo("org", "role", "member", "see_bills", "--clear", code=2)
