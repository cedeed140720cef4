"""A voice client that runs for hours: it always knows what its user may do, and says how sure it is.

GATEWAY_AUTH_TOKEN=gw_… python -m client_sdk.examples.voice_client [--url http://127.0.0.1:8787] [--call [SECONDS]]

It survives a restart of the gateway, a network that goes away and a token that is renewed; it ends when the token is
refused or revoked, or with Ctrl-C. On a terminal it draws the state anew every second, elsewhere it prints a line for
every change. With ``--call`` it makes a call at once, which is charged by the minute and lasts while there are minutes
and the permission to use them; SECONDS is how long a minute takes (60).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from datetime import datetime

from client_sdk import (
    Balance,
    Change,
    Channel,
    ChannelError,
    ConfigError,
    Freshness,
    FreshnessState,
    Meter,
    MeterStopped,
    Quota,
)

CLEAR = "\x1b[H\x1b[J"
COLOURS = {FreshnessState.LIVE: "32", FreshnessState.STALE: "33", FreshnessState.OFFLINE: "31"}
BAR_WIDTH = 24


def describe(freshness: Freshness) -> str:
    """The state of freshness as people say it."""
    if freshness.state is FreshnessState.LIVE:
        return "live"
    age = "never known" if freshness.age_s is None else f"as of {freshness.age_s:.0f} s ago"
    return f"{freshness.state} ({freshness.reason}), {age}"


def describe_quota(name: str, quota: Quota) -> str:
    """One quota on one line, with a bar when it is limited."""
    if quota.limit is None:
        return f"  {name:<20} {quota.used} used, unlimited"
    taken = quota.used + quota.reserved
    filled = BAR_WIDTH if taken >= quota.limit else BAR_WIDTH * taken // quota.limit
    bar = "█" * filled + "·" * (BAR_WIDTH - filled)
    resets = "" if quota.resets_at is None else f", resets {quota.resets_at[:10]}"
    return f"  {name:<20} {bar} {quota.remaining} of {quota.limit} left ({quota.level}{resets})"


def screen(channel: Channel, *, colour: bool) -> str:
    """Everything that the client knows of its user."""
    freshness = channel.freshness
    state = describe(freshness)
    if colour:
        state = f"\x1b[{COLOURS[freshness.state]}m{state}\x1b[0m"
    identity = channel.document.get("identity", {})
    lines = [
        f"{identity.get('username', '?')} on plan {identity.get('plan', '?')}: {state}",
        "",
        "Permissions: " + (", ".join(sorted(channel.permissions)) or "none"),
        "Voice: " + ("ready" if channel.can("can_use_voice") else "not allowed"),
        "",
        "Quotas:",
        *(describe_quota(name, quota) for name, quota in sorted(channel.quotas.items())),
    ]
    return "\n".join(lines)


def report(text: str) -> None:
    """Print a line with the time of day."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


def report_change(channel: Channel, change: Change) -> None:
    """Say what changed, on one line."""
    causes = ", ".join(change.causes) or change.kind
    permissions = ", ".join(sorted(channel.permissions)) or "none"
    left = ", ".join(
        f"{name}: {'unlimited' if quota.remaining is None else quota.remaining}"
        for name, quota in sorted(channel.quotas.items())
    )
    report(f"{change.doc} ({causes}) permissions: {permissions}; left: {left or 'no quotas'}")


async def call(channel: Channel, minute_s: float, say: Callable[[str], object]) -> None:
    """Call somebody, for as long as there are minutes and the permission to use them."""

    def warn(balance: Balance) -> None:
        say(f"call: {balance.level}, {balance.remaining} minutes left")

    meter = Meter(channel, "voice_minutes", unit_s=minute_s, permission="can_use_voice", on_low=warn)
    try:
        async with meter:
            say("call: begins")
            await asyncio.Event().wait()  # here people talk; it is cancelled when they may not go on
    except MeterStopped as stopped:
        say(f"call: ended after {meter.units} minutes, {stopped.reason}")


async def redraw(channel: Channel, said: list[str]) -> None:
    """Draw the state and what was said last every second: the age grows although nothing happens."""
    while True:
        print(CLEAR + "\n".join([screen(channel, colour=True), "", *said[-3:]]), flush=True)
        await asyncio.sleep(1.0)


async def follow(channel: Channel, minute_s: float | None, say: Callable[[str], object], *, quiet: bool) -> None:
    """Read changes until the channel ends for good, and call meanwhile; `quiet`: somebody else shows them."""
    async with channel:
        calling = None if minute_s is None else asyncio.create_task(call(channel, minute_s, say))
        try:
            async for change in channel:
                if not quiet:
                    report_change(channel, change)
        finally:
            if calling is not None:
                calling.cancel()


async def run(url: str | None, minute_s: float | None) -> None:
    """Follow the user's document until the channel ends for good, or somebody interrupts."""
    channel = Channel(url, open_timeout_s=None)
    if not sys.stdout.isatty():
        channel.on_freshness(lambda freshness: report(describe(freshness)))
        report(describe(channel.freshness))
        await follow(channel, minute_s, report, quiet=False)
        return
    said: list[str] = []
    drawing = asyncio.create_task(redraw(channel, said))
    try:
        await follow(channel, minute_s, said.append, quiet=True)
    finally:
        drawing.cancel()


async def until_interrupted(url: str | None, minute_s: float | None) -> None:
    """Run, and end calmly on SIGINT and SIGTERM."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows has no such handlers; Ctrl-C works there all the same
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await run(url, minute_s)


def main() -> int:
    """Run; 0 after an interruption, 1 when the channel ended for good, 2 without a usable setting."""
    parser = argparse.ArgumentParser(description="Show a user's permissions and quotas, live.")
    parser.add_argument("--url", help="the gateway's address (default: [server] of config.toml)")
    parser.add_argument(
        "--call", nargs="?", type=float, const=60.0, metavar="SECONDS", help="make a call; a minute takes SECONDS (60)"
    )
    arguments = parser.parse_args()
    if arguments.call is not None and not arguments.call > 0:
        parser.error("--call: a minute takes a positive number of seconds")
    try:
        asyncio.run(until_interrupted(arguments.url, arguments.call))
    except ConfigError as exc:
        print(f"voice_client: {exc}", file=sys.stderr)
        return 2
    except ChannelError as exc:
        print(f"voice_client: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
