"""Tables as they are: definitions, and rows in pages that take every value over exactly, from a local file or a server.

A client's library takes text that is not UTF-8 for an error and an infinite number for none. So each row comes with the
types of its values, text as its bytes, and numbers that are not whole as SQL writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.errors import StoreError
from gateway.store.driver import Row, Statement, Value

PAGE_ROWS = 2_000
PAGE_BYTES = 2_000_000
"""A page ends with the row that reaches this: a server's reply is limited to 10 MB, of which base64 takes a quarter."""

_OURS = r"name NOT LIKE 'sqlite\_%' ESCAPE '\'"

OBJECTS = Statement(f"SELECT type, name, sql FROM sqlite_schema WHERE {_OURS} ORDER BY rowid")  # noqa: S608
"""Whatever has a definition. SQLite's own tables and the indexes that constraints make come by themselves."""

TABLES = Statement(
    f"SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND {_OURS}"  # noqa: S608
)
"""The tables and whether they are ``WITHOUT ROWID``."""

SHADOWS = Statement("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'")
"""The tables that virtual ones keep their rows in: they come and go with those."""

SEQUENCES = Statement("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'")
"""Whether the table of the sequences is there: the first AUTOINCREMENT brings it."""

SEQUENCE_VALUES = Statement("SELECT name, seq FROM sqlite_sequence")

_COLUMNS = "SELECT name, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid"
_GENERATED = (2, 3)
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


class Text(bytes):
    """Text that is not UTF-8."""


class Object(NamedTuple):
    """A table, index, view or trigger, and the statement that makes it."""

    kind: str
    name: str
    sql: str


class Table(NamedTuple):
    """A table whose rows are copied: `key` is unique and orders them, `columns` are what is stored. All as SQL has
    them."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]

    def counted(self) -> Statement:
        """How many rows there are."""
        return Statement(f"SELECT count(*) FROM {self.name}")  # noqa: S608

    def first(self) -> Statement:
        """The first page."""
        return Statement(self._page(""), (PAGE_ROWS, PAGE_BYTES))

    def after(self, row: Sequence[Value]) -> Statement:
        """The page that follows the one that ends with this row."""
        last = row[: len(self.key)]
        where = f"WHERE ({', '.join(self.key)}) > ({', '.join(map(_placeholder, last))})"
        values = arguments(last)
        return Statement(self._page(where), (*values, *values, PAGE_ROWS, PAGE_BYTES))

    def insert(self, rows: Sequence[Sequence[Value]]) -> Statement:
        """Insert rows, of whom each begins with the key's values and goes on with the columns'."""
        into = self._inserted()
        values = ", ".join(f"({', '.join(map(_placeholder, self._stored(row)))})" for row in rows)
        return Statement(
            f"INSERT INTO {self.name} ({', '.join(into)}) VALUES {values}",  # noqa: S608
            tuple(value for row in rows for value in arguments(self._stored(row))),
        )

    def width(self) -> int:
        """How many values a row inserts."""
        return len(self._inserted())

    def _inserted(self) -> tuple[str, ...]:
        return self.columns if set(self.key) <= set(self.columns) else (*self.key, *self.columns)

    def _stored(self, row: Sequence[Value]) -> Sequence[Value]:
        return row[-self.width() :]

    def _page(self, where: str) -> str:
        shown = (*self.key, *self.columns)
        types = " || ' ' || ".join(f"typeof({column})" for column in shown)
        size = " + ".join(f"coalesce(octet_length({column}), 0)" for column in shown)
        order = f"{where} ORDER BY {', '.join(self.key)}"
        page = f"SELECT {size} AS size FROM {self.name} {order} LIMIT ?"  # noqa: S608
        summed = f"SELECT sum(size) OVER (ROWS UNBOUNDED PRECEDING) - size AS before FROM ({page})"  # noqa: S608
        exact = ", ".join(map(_exact, shown))
        counted = f"SELECT count(*) FROM ({summed}) WHERE before < ?"  # noqa: S608
        return f"SELECT {types}, {exact} FROM {self.name} {order} LIMIT ({counted})"  # noqa: S608


def table(name: str, without_rowid: bool, columns: Iterable[Row]) -> Table:
    """The table whose `columns` are these rows. Raises `StoreError` when its rows can not be told apart."""
    stored = [(column, position) for column, position, hidden in columns if hidden not in _GENERATED]
    if without_rowid:
        keys = sorted((position, column) for column, position in stored if position)
        key = [quoted(column) for _, column in keys]
    else:
        taken = {column.lower() for column, _ in stored}
        free = [alias for alias in _ROWID_NAMES if alias not in taken]
        if not free:
            raise StoreError(f"table {name} can not be copied: its columns hide the names of the rows")
        key = free[:1]
    return Table(quoted(name), tuple(key), tuple(quoted(column) for column, _ in stored))


def columns_of(name: str) -> Statement:
    """What `table` makes a `Table` of."""
    return Statement(_COLUMNS, (name,))


def exact_row(row: Row) -> list[Value]:
    """The values of a page's row."""
    types = row[0].split(" ")
    return [_decoded(kind, value) for kind, value in zip(types, row[1:], strict=True)]


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def arguments(values: Iterable[Value]) -> tuple[Value, ...]:
    """The parameters for the values' placeholders."""
    return tuple(value for value in values if not _is_infinite(value))


def _exact(column: str) -> str:
    text, real = f"WHEN 'text' THEN CAST({column} AS BLOB)", f"WHEN 'real' THEN quote({column})"
    return f"CASE typeof({column}) {text} {real} ELSE {column} END"


def _decoded(kind: str, value: Value) -> Value:
    match kind, value:
        case "text", bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return Text(value)
        case "real", str():
            return float(value)
    return value


def _placeholder(value: Value) -> str:
    if isinstance(value, Text):
        return "+CAST(? AS TEXT)"  # with the sign it has no affinity, as every other parameter
    if _is_infinite(value):
        return "9e999" if value == float("inf") else "-9e999"
    return "?"


def _is_infinite(value: Value) -> bool:
    return isinstance(value, float) and value in (float("inf"), float("-inf"))
