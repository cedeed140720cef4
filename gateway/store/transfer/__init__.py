"""Moves users, and all that belongs to them, from one database into another by way of a file: what the file is made of
(`records`, `file`), how it is filled (`reading`, `export`), and how it is put in (`checks`, `conflicts`, `writing`,
`imports`)."""

from __future__ import annotations

from gateway.store.transfer.export import (
    AS_STORED,
    LEFT_OUT,
    REFUSED,
    Draft,
    Exported,
    Remark,
    count_records,
    read_everything,
    write_export,
)
from gateway.store.transfer.file import FileReader, new_file
from gateway.store.transfer.imports import Counts, Outcome, Rules, import_file

__all__ = [
    "AS_STORED",
    "LEFT_OUT",
    "REFUSED",
    "Counts",
    "Draft",
    "Exported",
    "FileReader",
    "Outcome",
    "Remark",
    "Rules",
    "count_records",
    "import_file",
    "new_file",
    "read_everything",
    "write_export",
]
