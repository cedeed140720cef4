from __future__ import annotations

from collections.abc import Iterator

from gateway.live.presence import put_back, take


class Counted(dict[str, None]):
    """A list of names that counts how many of them are looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            self.looked_at += 1
            yield name


def test_the_first_names_leave_the_list_and_no_others_are_looked_at() -> None:
    wanted = Counted(dict.fromkeys(f"u{number}" for number in range(1_000)))
    assert take(wanted, 2) == ["u0", "u1"]
    assert wanted.looked_at <= 3
    assert (len(wanted), take(wanted, 1)) == (998, ["u2"])


def test_what_is_put_back_comes_last() -> None:
    wanted = dict.fromkeys("abc")
    put_back(wanted, take(wanted, 2))
    assert take(wanted, 9) == ["c", "a", "b"]
    assert wanted == {}
