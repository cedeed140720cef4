"""The passwords that commands set: asked at the terminal, read from standard input, or generated."""

from __future__ import annotations

import secrets
import sys

import click

from gateway.auth.passwords import Passwords, hash_now
from gateway.config import AuthConfig
from gateway.core.passwords import MAX_CHARACTERS, check_new_password
from gateway.errors import BadRequest
from gateway.store.accounts import User

# Nothing to misread.
_SIGNS = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUP = 5
_FEWEST_GROUPS = 5
"""25 of 31 signs: 123 bits."""
_LONGEST_LINE = 4 * MAX_CHARACTERS + 2
"""Bytes, the end of the line among them."""


def hash_new(password: str, user: User, config: AuthConfig) -> str:
    """The hash of a new password of this user. BadRequest when it is too easy to guess."""
    return hash_now(_checked(password, user, config), config)


async def is_right(password: str, stored: str | None, config: AuthConfig) -> bool:
    """Whether this is the password that `stored` was made of."""
    checking = Passwords(config)
    try:
        return (await checking.verify(password, stored)).ok
    finally:
        checking.close()


def generated(user: User, config: AuthConfig) -> str:
    """A password that nobody had before, and that every check lets through."""
    groups = max(_FEWEST_GROUPS, -(-(config.min_password_length + 1) // (_GROUP + 1)))
    while True:
        words = ("".join(secrets.choice(_SIGNS) for _ in range(_GROUP)) for _ in range(groups))
        password = "-".join(words)[:MAX_CHARACTERS]
        try:
            return _checked(password, user, config)
        except BadRequest:  # chance made a word of it
            continue


def read_line() -> str:
    """The password on the first line of standard input; BadRequest where there is none, or it is not UTF-8."""
    line = sys.stdin.buffer.readline(_LONGEST_LINE + 1)
    if len(line) > _LONGEST_LINE:
        raise BadRequest(f"The password must have at most {MAX_CHARACTERS} characters.")
    try:
        password = line.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise BadRequest("The password on standard input is not UTF-8.") from None
    if not password:
        raise BadRequest("There is no password on standard input.")
    return password


def ask(whose: str) -> str:
    """The password typed at the terminal, twice, unseen. A usage error where there is no terminal."""
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask for the password; give it on standard input instead")
    password: str = click.prompt(f"New password of {whose}", hide_input=True, confirmation_prompt="Once more", err=True)
    return password


def _checked(password: str, user: User, config: AuthConfig) -> str:
    names = [name for name in (user.username, user.name, user.email) if name]
    try:
        return check_new_password(
            password, min_length=config.min_password_length, names=names, blocked=config.blocked_words
        )
    except ValueError as error:
        raise BadRequest(str(error)) from None
