"""Commands that take numbers with a sign: ``-5`` is one of their arguments, and no option."""

from __future__ import annotations

import itertools
import re

import click

_NUMBER = re.compile(r"-[0-9]+")


class SignedCommand(click.Command):
    """Puts what is written into the order of options first, so that a number may begin with a dash."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, once every word that is no option stands behind ``--``."""
        taking = {
            name
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option) and not parameter.is_flag
            for name in parameter.opts
        }
        options: list[str] = []
        words: list[str] = []
        rest = iter(args)
        for word in rest:
            if word == "--":
                words.extend(rest)
            elif word in taking:
                value = list(itertools.islice(rest, 1))
                if not value:
                    return super().parse_args(ctx, args)
                options += [word, *value]
            elif word.startswith("-") and word != "-" and not _NUMBER.fullmatch(word):
                options.append(word)
            else:
                words.append(word)
        return super().parse_args(ctx, [*options, "--", *words])
