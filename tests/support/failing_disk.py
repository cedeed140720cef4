"""A disk that fails on demand: SQLite's own file system underneath, faults on top."""

from __future__ import annotations

import apsw


class FailingDisk(apsw.VFS):
    """The real file system, whose syncs fail while `broken`."""

    name = "failing_disk"

    def __init__(self) -> None:
        self.broken = False
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> FailingFile:
        return FailingFile(self, name, flags)


class FailingFile(apsw.VFSFile):
    def __init__(self, disk: FailingDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.disk = disk
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:
        if self.disk.broken:
            raise apsw.IOError("the disk does not answer")
        super().xSync(flags)
