"""``gateway keys``: the keys that sign access tokens."""

from __future__ import annotations

import click

from gateway.auth.instances import resealed
from gateway.auth.keyring import LEAD_MS, Keyring, in_force, open_key, signer
from gateway.auth.master_key import load_sealer
from gateway.cli.audit import audited
from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import show_done, show_table
from gateway.core.clock import rfc3339
from gateway.core.sealing import Sealer
from gateway.errors import ConfigError
from gateway.store.database import Database
from gateway.store.instances import list_sealed
from gateway.store.keys import SigningKeyRow, anything_sealed, list_keys

_LONGEST_LEAD_S = 2_592_000


@click.group()
def keys() -> None:
    """The keys that sign access tokens. They are in the database, sealed with the master key."""


@keys.command("list")
@json_option
@on_database
async def list_command(db: Database) -> None:
    """List the keys, in the order in which they sign, and whether the master key opens them; never their secrets."""
    now, found = db.clock(), await list_keys(db)
    signing, sealer = signer(found, now), _sealer()
    rows = [
        {
            "kid": key.kid,
            "state": _state(key, signing, now),
            "created_at": key.created_at,
            "signs_from": rfc3339(key.signs_from),
            "verifies_until": None if key.verifies_until is None else rfc3339(key.verifies_until),
            "opened": sealer is not None and open_key(sealer, key) is not None,
        }
        for key in found
    ]
    show_table(rows, ["kid", "state", "created_at", "signs_from", "verifies_until", "opened"])


def _sealer() -> Sealer | None:
    try:
        return load_sealer(invocation().config, make=False)
    except ConfigError:
        return None


def _state(key: SigningKeyRow, signing: SigningKeyRow | None, now: int) -> str:
    if not in_force(key, now):
        return "ended"
    if key is signing:
        return "signing"
    return "published" if key.signs_from > now else "verifying"


@keys.command("rotate")
@click.option(
    "--lead",
    "lead_s",
    metavar="SECONDS",
    type=click.IntRange(0, _LONGEST_LEAD_S),
    help=f"How long the new key is published before it signs; without it, {LEAD_MS // 1000}.",
)
@click.option("--discard", is_flag=True, help="Remove all older keys at once: every access token ends now.")
@json_option
@on_database
async def rotate(db: Database, lead_s: int | None, discard: bool) -> None:
    """Make a new key and let the older ones end when nothing that they signed is in force any more.

    Private parts, and secrets of instances, that are sealed under an older master key are sealed under the newest.
    --discard is for a key that somebody else may have, and for a master key that is lost; logins stay, their next
    access tokens are good.
    """
    if discard and lead_s is not None:
        raise click.UsageError("--discard lets the new key sign at once: there is no --lead")
    config = invocation().config
    sealer = load_sealer(config, make=discard or not await anything_sealed(db))
    keyring = Keyring(sealer, config.auth.access_ttl_s)
    lead_ms = LEAD_MS if lead_s is None else lead_s * 1000
    changing = audited(db, "keys.rotate", "keys", after={"discard": discard, "lead_ms": 0 if discard else lead_ms})
    of_instances = resealed(sealer, await list_sealed(db))
    rotated = await keyring.rotate(changing, db.clock(), lead_ms=lead_ms, discard=discard, also=of_instances)
    signs_from = rfc3339(rotated.signs_from)
    show_done(f"{rotated.kid} signs from {signs_from}.", kid=rotated.kid, signs_from=signs_from, seq=rotated.seq)
