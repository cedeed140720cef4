"""``gateway serve``: runs the gateway."""

from __future__ import annotations

import click
import msgspec

from gateway.cli.invocation import invocation
from gateway.cli.printing import show_sentences
from gateway.config import load_config


@click.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="TCP port; 0 takes any free one.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes on the one port.")
@click.option("--config", "config_path", metavar="FILE", help="Settings to use, as gateway --config.")
def serve(config_path: str | None, **server: str | int | None) -> int:
    """Run the gateway until SIGTERM or ^C.

    SIGTERM sends the sessions away, spread over `server.drain_s`, before the program ends, ^C all of them at once.
    """
    from gateway.serve import serve as run

    config = load_config(config_path) if config_path else invocation().config
    given = {name: value for name, value in server.items() if value is not None}
    config = msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, **given))
    return run(config, started=lambda address: show_sentences([f"Listening on {address}"]))
