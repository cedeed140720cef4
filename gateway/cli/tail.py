"""``gateway tail``: the change log as it grows."""

from __future__ import annotations

import click

from gateway.cli.invocation import invocation, json_option, on_database
from gateway.cli.printing import show_line, show_sentences, shown_moment
from gateway.store.changes import Change, last_seq, read_pages
from gateway.store.database import Database

_SEQ = click.IntRange(0, 2**63 - 1)


@click.command()
@click.option(
    "--since", type=click.IntRange(0, 2**63 - 1), help="Begin after this seq; without it, with what comes next."
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many rows.")
@json_option
@on_database
async def tail(db: Database, since: int | None, count: int | None) -> None:
    """Follow the change log.

    Shows seq, moment, document and cause of every change, until ^C.
    """
    position = await last_seq(db) if since is None else since
    shown = 0
    while True:
        async with db.snapshot() as snapshot:
            async for page in read_pages(snapshot, position):
                for change in page:
                    _show(change)
                    position, shown = change.seq, shown + 1
                    if shown == count:
                        return
        await db.wait_for_change()


def _show(change: Change) -> None:
    if invocation().as_json:
        show_line(change._asdict())
    else:
        show_sentences([f"{change.seq:>8}  {shown_moment(change.at)}  {change.doc}  {change.cause}"])
