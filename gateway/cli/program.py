"""The command `gateway`: its subcommands, loaded when they are called, and what surrounds all of them."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click

from gateway import __version__
from gateway.cli.exits import ExitCode, exit_code, sentence
from gateway.cli.invocation import Invocation

COMMANDS: Mapping[str, str] = {
    "serve": "gateway.cli.serve:serve",
    "migrate": "gateway.cli.storage:migrate",
    "init": "gateway.cli.init:init",
    "user": "gateway.cli.users:user",
    "token": "gateway.cli.tokens:token",
    "session": "gateway.cli.sessions:session",
    "instance": "gateway.cli.instances:instance",
    "keys": "gateway.cli.keys:keys",
    "org": "gateway.cli.organizations:org",
    "plan": "gateway.cli.plans:plan",
    "quota": "gateway.cli.quota:quota",
    "audit": "gateway.cli.audit:audit",
    "watch": "gateway.cli.watch:watch",
    "tail": "gateway.cli.tail:tail",
    "explain": "gateway.cli.explain:explain",
    "backup": "gateway.cli.storage:backup",
    "restore": "gateway.cli.storage:restore",
    "export": "gateway.cli.transfer:export_command",
    "import": "gateway.cli.transfer:import_command",
    "doctor": "gateway.cli.doctor:doctor",
    "bench": "gateway.bench.command:bench",
}
"""Where each command lives, in the order of the help."""


class _NobodyReads(Exception):
    """The output's reader is gone. click would make an exit code 1 of it, which is taken."""


class _Commands(click.Group):
    """Imports a command's file when the command is wanted: `gateway user list` does not pay for the server."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _NobodyReads from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command with this name; one whose extra is not installed says so when it is called."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if cmd_name != "bench" or (error.name or "").startswith("gateway"):
                raise
            return _without_extra(cmd_name, error.name or "")
        return command


def _without_extra(name: str, module: str) -> click.Command:
    @click.command(
        name,
        help="Measure the gateway (needs the extra bench).",
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        raise click.ClickException(f"{module} is missing: pip install 'session-gateway[{name}]'")

    return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="gateway")
@click.option(
    "--config", metavar="FILE", help="Settings to use instead of the shipped config.toml (or GATEWAY_CONFIG)."
)
@click.pass_context
def gateway(context: click.Context, config: str | None) -> None:
    """A WebSocket session gateway: live identity, permissions and quotas straight from libSQL.

    Commands other than serve and watch work on the database itself, whether a gateway is running or not.
    """
    context.obj = Invocation(config)
    if context.invoked_subcommand != "serve":
        _only_errors(context)


def _only_errors(context: click.Context) -> None:
    """Let a command's own line be the only one: what the gateway logs below an error is for those who run a server."""
    logger = logging.getLogger("gateway")
    context.call_on_close(functools.partial(logger.setLevel, logger.level))
    logger.setLevel(logging.ERROR)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are one line on standard error, never a traceback."""
    try:
        answer = gateway.main(args=list(arguments), prog_name="gateway", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except (_NobodyReads, BrokenPipeError):
        # Whatever is still buffered has no reader either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE_CLOSED
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return ExitCode.USAGE
    except Exception as error:
        print(f"gateway: {sentence(error)}", file=sys.stderr)
        return exit_code(error)
    return answer if isinstance(answer, int) else ExitCode.OK


def main() -> NoReturn:
    """The entry point of the program."""
    sys.exit(run(sys.argv[1:]))
