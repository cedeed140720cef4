"""Another program that changes one balance again and again, at a pace that it keeps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_PROGRAM = r"""
import json, sqlite3, sys, time
path, owner, quota, start, count, rate = sys.argv[1:4] + [int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6])]
change = sys.argv[7]
db = sqlite3.connect(path, isolation_level=None, timeout=10)
db.execute("PRAGMA synchronous=OFF")
begin = time.monotonic()
for number in range(1, count + 1):
    late = begin + number / rate - time.monotonic()
    if late > 0:
        time.sleep(late)
    db.execute(change, (number, owner, quota, start))
print(json.dumps({"commits": count, "seconds": time.monotonic() - begin}))
"""

USE = "UPDATE quota_usage SET used = ? WHERE owner = ? AND quota = ? AND period_start = ?"
LIMIT = "UPDATE user_quotas SET limit_value = ?1 WHERE 'user:' || user_id = ?2 AND quota = ?3 AND ?4 > 0"


class Paced(NamedTuple):
    """What was done: `commits` in `seconds`."""

    commits: int
    seconds: float

    @property
    def rate(self) -> float:
        """Commits a second."""
        return self.commits / self.seconds


class QuotaPace:
    """Sets `used` of the balance that began at `start` (with `LIMIT` the limit of a user's own quota) to 1, 2, ...
    `count`, one commit each, `rate` a second; from its beginning to `end` in a process of its own."""

    def __init__(
        self, database: Path, owner: str, quota: str, start: int, *, count: int, rate: float, change: str = USE
    ) -> None:
        arguments = [str(database), owner, quota, str(start), str(count), str(rate), change]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> QuotaPace:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end(self, timeout_s: float = 40.0) -> Paced:
        """Wait for the last commit."""
        said, _ = self._process.communicate(timeout=timeout_s)
        assert self._process.returncode == 0
        return Paced(**json.loads(said))
