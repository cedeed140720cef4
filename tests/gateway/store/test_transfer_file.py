from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import BadRequest
from gateway.store.copies import TargetNotReplaceable
from gateway.store.transfer.file import FileReader, new_file, write_lines
from gateway.store.transfer.records import KINDS, MAX_LINE_BYTES, TABLES, Header, PlanRecord, RoleRecord, UserRecord
from gateway.store.transfer.records import line as line_of
from tests.support.transfers import ACME, FREE, HEADER, line, sealed, token, user

SMALL = sealed(FREE, ACME, user("u1", tokens=[token("t1")]), user("u2"))


def refusal(content: bytes) -> str:
    """Why a file is refused as a whole; verifying is all that an import does before it touches the database."""
    with pytest.raises(BadRequest) as caught:
        FileReader(io.BytesIO(content), "FILE").verify()
    return str(caught.value)


def test_a_whole_file_is_read_as_often_as_wanted() -> None:
    sizes: list[int] = []
    reader = FileReader(io.BytesIO(SMALL), "FILE", sizes.append)
    assert reader.verify().seq == 7
    assert sum(sizes[:-1]) == len(SMALL)
    first, again = list(reader.records()), list(reader.records())
    assert first == again
    assert [(record.number, record.record.id) for record in first] == [(2, "free"), (3, "o_acme"), (4, "u1"), (5, "u2")]


def test_nothing_at_all_is_a_file_too() -> None:
    assert FileReader(io.BytesIO(sealed()), "FILE").verify().version == 1


def test_what_is_written_is_what_is_read() -> None:
    header = Header(**{name: value for name, value in HEADER.items() if name != "kind"})  # type: ignore[arg-type]
    records: list[Any] = [
        RoleRecord(id="r"),
        PlanRecord(id="p", permissions=["a"]),
        UserRecord(id="u", username="u", plan="p", created_at=1, updated_at=2),
    ]
    out = io.BytesIO()
    kinds = ["role", "plan", "user"]
    assert write_lines(out, header, zip(kinds, map(line_of, records), strict=True)) == dict.fromkeys(kinds, 1)
    assert [found.record for found in FileReader(out, "FILE").records()] == records


def test_the_tables_are_those_of_the_schema() -> None:
    schema = (Path(__file__).parents[3] / "schema.sql").read_text()
    assert [table for table in TABLES if f"CREATE TABLE {table}(" not in schema] == []
    public = {"users", "plans", "roles", "organizations", "memberships", "member_caps", "api_tokens", "quota_usage"}
    assert public <= set(TABLES)
    held: dict[str, set[str]] = {kind.table: set(kind.columns) for kind in KINDS}
    for part in (part for kind in KINDS for part in kind.parts):
        held.setdefault(part.table, set()).update(part.columns, [part.owner])
    for table, columns in held.items():
        definition = schema.partition(f"CREATE TABLE {table}(")[2].partition(") STRICT")[0]
        own = {text.split()[0] for text in definition.strip().split("\n") if "PRIMARY KEY (" not in text}
        # What is reserved is held by leases, which do not move.
        assert columns == own - {"reserved"}, table


def test_a_file_that_was_cut_off_anywhere_is_refused() -> None:
    for size in range(len(SMALL)):
        assert refusal(SMALL[:size]).startswith("FILE: line ")


def test_a_file_with_any_altered_byte_is_refused() -> None:
    for place in range(len(SMALL)):
        for flip in (1, 0x20):
            altered = SMALL[:place] + bytes([SMALL[place] ^ flip]) + SMALL[place + 1 :]
            assert refusal(altered).startswith("FILE: line ")


def test_lines_that_were_taken_out_or_put_in_are_noticed() -> None:
    lines = SMALL.splitlines(keepends=True)
    for place in range(1, len(lines) - 1):
        assert "does not fit its manifest" in refusal(b"".join(lines[:place] + lines[place + 1 :]))
    more = [*lines[:-1], line(user("u3")), lines[-1]]
    assert refusal(b"".join(more)) == "FILE: line 7: the file was altered or is damaged: it does not fit its manifest"
    assert "follows the manifest" in refusal(SMALL + b"\n")
    assert "follows the manifest" in refusal(SMALL + SMALL)


def deep(levels: int) -> bytes:
    inner = b'{"a":' * levels + b"1" + b"}" * levels
    return line(user("u1"))[:-2] + b', "attributes": ' + inner + b"}\n"


HOSTILE: dict[str, tuple[Any, str]] = {
    "deep": (deep(100_000), "nested too deeply"),
    "deep arrays": (b"[" * 100_000 + b"\n", ""),
    "NaN": (b'{"kind":"role","id":"r","name":NaN}\n', "malformed"),
    "infinite": (line(user("u1"))[:-2] + b', "attributes": {"a": 1e999}}\n', "out of range"),
    "a key twice": (b'{"kind":"role","id":"r","id":"s"}\n', "a field occurs twice"),
    "a key twice inside": (line(user("u1"))[:-2] + b', "attributes": {"a":1,"\\u0061":2}}\n', "a field occurs twice"),
    "a mark of order": (b'\xef\xbb\xbf{"kind":"role","id":"r"}\n', "malformed"),
    "UTF-16": ('{"kind":"role","id":"r"}'.encode("utf-16") + b"\n", ""),
    "not UTF-8": (b'{"kind":"role","id":"r","name":"\xff"}\n', "utf-8"),
    "a lone surrogate": (b'{"kind":"role","id":"r","name":"\\ud800"}\n', ""),
    "empty": (b"\n", ""),
    "no object": (b"[]\n", ""),
    "null": (b"null\n", ""),
    "two values": (b'{"kind":"role","id":"r"}{"kind":"role","id":"s"}\n', "malformed"),
    "huge": (b'{"kind":"role","id":"r","name":"' + b"x" * MAX_LINE_BYTES + b'"}\n', "longer than"),
    "huge number": (line(user("u1", created_at=1))[:-2] + b', "anchor_at": ' + b"9" * 10_000 + b"}\n", ""),
    "unknown kind": ({"kind": "invoice", "id": "i"}, "Invalid value 'invoice'"),
    "no kind": (b'{"id":"i"}\n', "kind"),
    "header again": (HEADER, "Invalid value 'header'"),
    "unknown field": ({"kind": "role", "id": "r", "color": "red"}, "unknown field `color`"),
    "unknown field inside": (user("u1", roles=[{"role": "r", "by": "x"}]), "unknown field `by`"),
    "missing field": ({"kind": "plan"}, "missing required field `id`"),
    "wrong type": (user("u1", is_admin=1), "Expected `bool`"),
    "fraction": (user("u1", created_at=1.5), "Expected `int`"),
    "text for object": (user("u1", attributes="{}"), "Expected `object`"),
    "null where nothing may be absent": (user("u1", name=None), "Expected `str`"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_lines_are_refused_with_their_number(name: str) -> None:
    content, reason = HOSTILE[name]
    said = refusal(sealed({"kind": "role", "id": "a"}, content))
    assert said.startswith("FILE: line 3: ")
    assert reason in said
    assert len(said) < 300


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (HEADER | {"version": 2}, "the format's version is 2, this program reads 1"),
        (HEADER | {"version": 2, "more": {}}, "the format's version is 2, this program reads 1"),
        (HEADER | {"more": 1}, "unknown field `more`"),
        (HEADER | {"format": "other"}, "this is not the beginning of an export"),
        (HEADER | {"tables": ["users", "invoices"]}, "tables that this program does not know: invoices"),
        (FREE, "this is not the beginning of an export"),
        (b"SQLite format 3\0\n", "this is not the beginning of an export"),
        (b"\xef\xbb\xbf" + line(HEADER), "this is not the beginning of an export"),
    ],
)
def test_headers_that_are_not_ours(header: Any, reason: str) -> None:
    said = refusal(sealed(FREE, header=header))
    assert said.startswith("FILE: line 1: ")
    assert reason in said


def test_records_out_of_order_or_twice() -> None:
    for records in (
        [user("u1"), FREE],
        [user("u2"), user("u1")],
        [user("u1"), user("u1")],
        [FREE, {"kind": "role", "id": "a"}],
    ):
        assert refusal(sealed(*records)).startswith("FILE: line 3: the records are not in the order")


def test_a_manifest_that_counts_wrongly() -> None:
    assert "does not fit its manifest" in refusal(sealed(FREE, plan=2))
    assert "does not fit its manifest" in refusal(sealed(FREE, user=1))


def test_a_manifest_that_counts_what_is_not_there() -> None:
    assert FileReader(io.BytesIO(sealed(FREE, user=0, role=0)), "FILE").verify().version == 1


# --- the place of a file ---------------------------------------------------------------------------------------------


def test_a_file_appears_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    before = os.umask(0)
    try:
        with new_file(target, overwrite=False, database=None) as file:
            file.write(b"part")
            file.flush()
            assert not target.exists()
            [temporary] = tmp_path.iterdir()
            assert temporary.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert target.read_bytes() == b"part"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_fails_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_bytes(b"before")

    def fail() -> None:
        with new_file(target, overwrite=True, database=None) as file:
            file.write(b"part")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        fail()
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_what_may_not_be_replaced(tmp_path: Path) -> None:
    database, target = tmp_path / "gateway.db", tmp_path / "out.jsonl"
    database.touch()
    target.touch()
    for path, kind in (
        (database, TargetNotReplaceable),
        (tmp_path / "gateway.db-wal", TargetNotReplaceable),
        (tmp_path, TargetNotReplaceable),
    ):
        with pytest.raises(kind), new_file(path, overwrite=True, database=database):
            pass
    with pytest.raises(FileExistsError), new_file(target, overwrite=False, database=database):
        pass
    with new_file(tmp_path / "new", overwrite=False, database=None) as file:
        file.write(b"x")
    with pytest.raises(FileExistsError), new_file(tmp_path / "late", overwrite=False, database=None):
        (tmp_path / "late").write_bytes(b"somebody's")
    assert (tmp_path / "late").read_bytes() == b"somebody's"


def test_equal_records_are_equal_bytes() -> None:
    one, other = (
        user("u1", attributes={"a": 1, "b": {"c": 2, "d": 3}}),
        user("u1", attributes={"b": {"d": 3, "c": 2}, "a": 1}),
    )
    assert json.dumps(one) != json.dumps(other)
    [first], [second] = (list(FileReader(io.BytesIO(sealed(record)), "FILE").records()) for record in (one, other))
    assert line_of(first.record) == line_of(second.record)
