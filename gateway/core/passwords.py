"""Passwords as people type them: the one spelling that is hashed, and which new ones are too easy to guess.

Length is what counts (NIST SP 800-63B-4 §3.1.1.2): there are no rules of composition, but a password whose length comes
from words that every guesser tries, from sequences or from repetition is as good as a short one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_CHARACTERS = 1024
MIN_OWN_CHARACTERS = 8
"""So many a new password must have beside words, sequences and repetitions."""

_SHORTEST_WORD = 4
_SHORTEST_NAME = 3
_SEQUENCE = 4
_RUN = 3

_WORDS = frozenset(
    """
    password passwort passwd passcode passphrase passw0rd kennwort parola senha contrasena motdepasse wachtwoord geheim
    secret letmein welcome willkommen bienvenue login logon signin admin administrator root master superuser user guest
    default changeme change temp temporary test testing demo sample example hello hallo bonjour monkey dragon shadow
    sunshine princess football baseball basketball soccer hockey hunter batman superman spiderman starwars pokemon
    iloveyou loveyou lovely love trustno computer internet server gateway session account access private security
    secure company summer winter spring autumn january february march april june july august september october november
    december monday tuesday wednesday thursday friday saturday sunday jordan michael jennifer jessica charlie michelle
    ashley daniel andrew joshua matthew thomas robert nicole samantha whatever cheese pepper flower freedom ginger
    killer cookie mustang corvette ferrari mercedes porsche harley yankees liverpool arsenal chelsea juventus barcelona
    qazwsx qwerty qwertz azerty asdf zxcvbn google facebook microsoft windows apple samsung android linux
    correcthorsebatterystaple correct horse battery staple
    """.split()  # noqa: SIM905 - read by people
)

_ROWS = (
    *("abcdefghijklmnopqrstuvwxyz", "01234567890123456789", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl"),
    *("qsdfghjklm", "zxcvbnm", "yxcvbnm", "wxcvbn", "!@#$%^&*()", "1q2w3e4r5t6y7u8i9o0p", "1qaz2wsx3edc4rfv5tgb"),
)
_SEQUENCES = (*_ROWS, *(row[::-1] for row in _ROWS))
_DISGUISED = str.maketrans("@4831!0$57", "aabeiiosst")
_NAME_PART = re.compile(r"[^\W_]+")


def normalize(password: str) -> str:
    """The password in NFKC, so that every way to type the same characters is the same password.

    Raises ValueError with one sentence: nothing, more than 1,024 characters (before or after), NUL, lone surrogates.
    Whoever checks a password may take any of these for a wrong one: nobody has such a password.
    """
    if not password:
        raise ValueError("The password is empty.")
    _check_length(password)
    if "\0" in password:
        raise ValueError("The password must not contain NUL.")
    if any("\ud800" <= character <= "\udfff" for character in password):
        raise ValueError("The password must not contain lone surrogates.")
    normalized = unicodedata.normalize("NFKC", password)
    _check_length(normalized)
    return normalized


def check_new_password(password: str, *, min_length: int, names: Iterable[str], blocked: Iterable[str]) -> str:
    """A password that somebody wants to have, as `normalize` gives it.

    `names` are the user's own (user name, e-mail address, name), `blocked` the words of the place. Raises ValueError
    with one sentence for whoever chose it, which never repeats it.
    """
    normalized = normalize(password)
    if len(normalized) < min_length:
        raise ValueError(f"The new password must have at least {min_length} characters.")
    folded = _fold(normalized)
    covered = _repetition(folded)
    _cover_sequences(folded, covered)
    if _own(folded, covered) < MIN_OWN_CHARACTERS:
        raise ValueError("The new password must not be made of repetitions and sequences.")
    words = set(_WORDS)
    words.update(word for text in blocked if len(word := _fold(text)) >= _SHORTEST_NAME)
    words.update(name for text in names for name in _name_parts(_fold(text)))
    if _cover_words(folded, words, covered):
        # Years and exclamation marks around a word are what every guesser adds.
        rest = [kept or not folded[place].isalpha() for place, kept in enumerate(covered)]
        if _own(folded, rest) < MIN_OWN_CHARACTERS:
            raise ValueError("The new password must not be built around a common word or a name.")
    return normalized


def _check_length(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"The password must have at most {MAX_CHARACTERS} characters.")


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _name_parts(name: str) -> set[str]:
    """The whole name, what stands before an ``@``, and its words."""
    parts = {name, name.partition("@")[0]}
    parts.update(part for part in _NAME_PART.findall(name) if len(part) >= _SHORTEST_WORD)
    return {part for part in parts if len(part) >= _SHORTEST_NAME}


def _own(folded: str, covered: list[bool]) -> int:
    """How many characters nothing explains."""
    return len(folded) - sum(covered)


def _repetition(folded: str) -> list[bool]:
    """Marks what repeats what stood before: the whole text as one block again and again, and runs of one character."""
    length = len(folded)
    period = next((p for p in range(1, length // 2 + 1) if folded[p:] == folded[: length - p]), length)
    covered = [place >= period for place in range(length)]
    for run in re.finditer(rf"(.)\1{{{_RUN - 1},}}", folded, re.DOTALL):
        covered[run.start() + 1 : run.end()] = [True] * (run.end() - run.start() - 1)
    return covered


def _cover_sequences(folded: str, covered: list[bool]) -> None:
    start = 0
    while start <= len(folded) - _SEQUENCE:
        end = start + _SEQUENCE
        if not any(folded[start:end] in row for row in _SEQUENCES):
            start += 1
            continue
        while end < len(folded) and any(folded[start : end + 1] in row for row in _SEQUENCES):
            end += 1
        covered[start:end] = [True] * (end - start)
        start = end


def _cover_words(folded: str, words: Iterable[str], covered: list[bool]) -> bool:
    """Marks every one of `words`, also where signs and digits stand for letters; whether there was one."""
    found = False
    for text in (folded, folded.translate(_DISGUISED)):
        for word in words:
            place = text.find(word)
            while place >= 0:
                found = True
                covered[place : place + len(word)] = [True] * len(word)
                place = text.find(word, place + 1)
    return found
