"""``gateway instance``: servers that trust this gateway, and the keys that they sign with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from gateway.auth.instances import NewKey, new_key, unopened
from gateway.auth.keyring import Keyring, signer
from gateway.auth.master_key import load_sealer
from gateway.cli.audit import audited
from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import show_done, show_json, show_record, show_table
from gateway.cli.values import ID, MOMENT, NAME, new_id
from gateway.config import AuthConfig, Config, ServerConfig
from gateway.core.networks import check_networks
from gateway.errors import ConfigError
from gateway.store import instances
from gateway.store.accounts import Status
from gateway.store.database import Database
from gateway.store.instances import OVERLAP_S, REQUESTS_PER_MINUTE, Instance
from gateway.store.keys import anything_sealed, list_keys

_INSTANCE = click.argument("instance_id", metavar="INSTANCE", type=ID)
_PER_MINUTE = click.IntRange(1, 100_000)
_ONCE = "The secret is shown this once."
_ELSEWHERE = "auth.issuer is not set, and the gateway does not listen at {url}: put its address there."
_NOT_OPENED = (
    "auth.master_key: does not open the key of any instance of this database; bring the key that sealed them,"
    " or delete them first"
)
_VARIABLES = {
    "url": "GATEWAY_URL",
    "instance": "GATEWAY_INSTANCE",
    "kid": "GATEWAY_INSTANCE_KID",
    "secret": "GATEWAY_INSTANCE_SECRET",
}
_ENVIRONMENT = click.option(
    "--env", "environment", is_flag=True, help="Print variables of an environment in place of TOML."
)


def _networks(context: click.Context, parameter: click.Parameter, value: Sequence[str]) -> list[str]:
    try:
        return check_networks(list(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_NETWORKS = click.option(
    "--network",
    "networks",
    metavar="CIDR",
    multiple=True,
    callback=_networks,
    help="Where it may ask from; repeatable.",
)


@click.group()
def instance() -> None:
    """Server instances: deployments of applications that trust this gateway. INSTANCE is an id."""


@instance.command("add")
@click.argument("name", type=NAME)
@_NETWORKS
@click.option(
    "--requests-per-minute",
    type=_PER_MINUTE,
    default=REQUESTS_PER_MINUTE,
    show_default=True,
    help="How often it may ask, of each node.",
)
@click.option("--id", "instance_id", type=ID, help="The id; without it, a new one.")
@_ENVIRONMENT
@json_option
@on_database
async def add(
    db: Database,
    name: str,
    networks: list[str],
    requests_per_minute: int,
    instance_id: str | None,
    environment: bool,
) -> None:
    """Add an instance and print what its application has to be told, this once: the file that it reads.

    Without --network it may ask from anywhere.
    """
    key = await _key(db)
    new = Instance(
        id=instance_id or new_id("i_"), name=name, networks=networks, requests_per_minute=requests_per_minute
    )
    told = {"name": name, "networks": networks, "requests_per_minute": requests_per_minute, "kid": key.kid}
    changing = audited(db, "instance.create", _target(new.id), after=told)
    seq = await instances.add_instance(changing, new, key.sealed)
    _show_key(new.id, key, seq, environment)


@instance.command("list")
@click.option("--after", type=ID, help="Only those whose id comes after this one.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="At most this many.")
@json_option
@on_database
async def list_command(db: Database, after: str | None, limit: int) -> None:
    """List instances in the order of their ids."""
    found = await instances.list_instances(db, after=after or "", limit=limit)
    show_table(found, ["id", "name", "status", "networks", "requests_per_minute"])


@instance.command("show")
@_INSTANCE
@json_option
@on_database
async def show(db: Database, instance_id: str) -> None:
    """Show an instance with its keys, never their secrets."""
    found = await instances.find_instance(db, instance_id)
    keys = [_shown(key) for key in await instances.list_instance_keys(db, instance_id)]
    show_record(found, keys=[{name: value for name, value in key.items() if value is not None} for key in keys])


@instance.command("change")
@_INSTANCE
@click.option("--name", type=NAME, help="What it is called.")
@_NETWORKS
@click.option("--anywhere", is_flag=True, help="Let it ask from everywhere.")
@click.option("--requests-per-minute", type=_PER_MINUTE, help="How often it may ask, of each node.")
@json_option
@on_database
async def change(
    db: Database,
    instance_id: str,
    name: str | None,
    networks: list[str],
    anywhere: bool,
    requests_per_minute: int | None,
) -> None:
    """Change an instance; what is not said stays. The networks named replace those that there were."""
    if networks and anywhere:
        raise click.UsageError("name networks, or --anywhere")
    before = await instances.find_instance(db, instance_id)
    changed: dict[str, Any] = {
        **({} if name is None else {"name": name}),
        **({"networks": networks} if networks or anywhere else {}),
        **({} if requests_per_minute is None else {"requests_per_minute": requests_per_minute}),
    }
    if not changed:
        raise click.UsageError("say what is to change")
    after = msgspec.structs.replace(before, **changed)
    found = instances.instance_before(instance_id)
    changing = audited(db, "instance.update", _target(instance_id), before=found, after=changed)
    seq = await instances.replace_instance(changing, before, after)
    show_done(f"Changed {instance_id}.", id=instance_id, seq=seq)


@instance.command("disable")
@_INSTANCE
@json_option
@on_database
async def disable(db: Database, instance_id: str) -> None:
    """Cut an instance off at once, its sockets too, until enabled again."""
    await _set_status(db, instance_id, "disabled")


@instance.command("enable")
@_INSTANCE
@json_option
@on_database
async def enable(db: Database, instance_id: str) -> None:
    """Let a disabled instance in again."""
    await _set_status(db, instance_id, "active")


async def _set_status(db: Database, instance_id: str, status: Status) -> None:
    before = instances.instance_before(instance_id)
    changing = audited(db, "instance.update", _target(instance_id), before=before, after={"status": status})
    seq = await instances.set_instance_status(changing, instance_id, status)
    show_done(f"{instance_id} is {status}.", id=instance_id, status=status, seq=seq)


@instance.command("delete")
@_INSTANCE
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@on_database
async def delete(db: Database, instance_id: str, yes: bool) -> None:
    """Delete an instance with its keys: it is cut off at once."""
    found = await instances.find_instance(db, instance_id)
    if not yes:
        click.confirm(f"Delete {found.name or found.id} ({found.id}) for good?", abort=True, err=True)
    changing = audited(db, "instance.delete", _target(instance_id), before=instances.instance_before(instance_id))
    seq = await instances.delete_instance(changing, instance_id)
    show_done(f"Deleted {found.id}.", id=found.id, seq=seq)


# --- keys ---


@instance.command("keys")
@_INSTANCE
@json_option
@on_database
async def keys(db: Database, instance_id: str) -> None:
    """List the keys of an instance, never their secrets."""
    await instances.find_instance(db, instance_id)
    rows = [_shown(key) for key in await instances.list_instance_keys(db, instance_id)]
    show_table(rows, ["kid", "created_at", "expires_at"])


@instance.command("rotate")
@_INSTANCE
@click.option(
    "--overlap",
    metavar="SECONDS",
    type=click.IntRange(0, 31_536_000),
    help=f"How soon the older keys end; without it, after {OVERLAP_S}.",
)
@click.option("--keep", is_flag=True, help="Let the older keys stay as they are.")
@click.option("--until", type=MOMENT, help="When the new key ends; without it, never.")
@_ENVIRONMENT
@json_option
@on_database
async def rotate(
    db: Database, instance_id: str, overlap: int | None, keep: bool, until: int | None, environment: bool
) -> None:
    """Add a key, let the older ones end, and print what the application has to be told, this once."""
    if keep and overlap is not None:
        raise click.UsageError("--keep lets the older keys stay: there is no --overlap")
    key, now = await _key(db), db.clock()
    older_until = None if keep else now + (OVERLAP_S if overlap is None else overlap) * 1000
    left = {"kid": key.kid, "expires_at": until, "older_until": older_until}
    changing = audited(db, "instance.key", _target(instance_id), after=left)
    sealed = key.sealed._replace(expires_at=until)
    seq = await instances.add_instance_key(changing, instance_id, sealed, now, older_until=older_until)
    _show_key(instance_id, key, seq, environment)


@instance.command("revoke")
@_INSTANCE
@click.argument("kid", type=ID)
@json_option
@on_database
async def revoke(db: Database, instance_id: str, kid: str) -> None:
    """Remove a key of an instance: whatever it opened closes at once."""
    before = instances.key_before(instance_id, kid)
    left = {"kid": kid, "removed": True}
    changing = audited(db, "instance.key", _target(instance_id), before=before, after=left)
    seq = await instances.delete_instance_key(changing, instance_id, kid)
    show_done(f"Removed {kid}.", id=instance_id, kid=kid, seq=seq)


def _target(instance_id: str) -> str:
    return f"instance:{instance_id}"


def _shown(key: instances.InstanceKey) -> dict[str, Any]:
    return {"kid": key.id, "created_at": key.created_at, "expires_at": key.expires_at}


async def _key(db: Database) -> NewKey:
    """A new key, sealed with this deployment's master key, which is made where nothing is sealed yet. Raises
    `ConfigError` where it is not the one that the nodes have: they could not open what it seals."""
    config = invocation().config
    sealer, now = load_sealer(config, make=not await anything_sealed(db)), db.clock()
    if signer(await list_keys(db), now) is not None:
        keyring = Keyring(sealer, config.auth.access_ttl_s)
        await keyring.load(db)
        keyring.require_opened(now)
    elif (sealed := await instances.list_sealed(db)) and len(await unopened(sealer, db)) == len(sealed):
        raise ConfigError(_NOT_OPENED)
    return new_key(sealer)


def _show_key(instance_id: str, key: NewKey, seq: int, environment: bool) -> None:
    """What the application needs: a section of its settings, or variables of its environment."""
    config = invocation().config
    fields = {"url": config.auth.issuer, "instance": instance_id, "kid": key.kid, "secret": key.secret}
    if _is_elsewhere(config):
        click.echo(_ELSEWHERE.format(url=config.auth.issuer), err=True)
    if invocation().as_json:
        show_json({**fields, "seq": seq})
        return
    if environment:
        lines = [f"{_VARIABLES[name]}={value}" for name, value in fields.items()]
    else:
        lines = ["[gateway]", *(f'{name} = "{value}"' for name, value in fields.items())]
    click.echo("\n".join(lines))
    click.echo(_ONCE, err=True)


def _is_elsewhere(config: Config) -> bool:
    """Whether the address that applications are told is the one of a gateway without settings, which this is not."""
    listens, plain = (config.server.port, config.server.use_https), ServerConfig()
    return config.auth.issuer == AuthConfig().issuer and listens != (plain.port, plain.use_https)
