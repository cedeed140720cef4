"""The wheel: built as pip builds it, it holds all that a gateway serves, and serves it from wherever it is unpacked."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gateway.web.assets import CONTENT_TYPES

TREE = Path(__file__).parents[2]
SERVED = {"gateway/web/dashboard": frozenset(CONTENT_TYPES), "client_sdk/js": frozenset((".js",))}
"""Where browsers' files lie, and how they end."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(command, cwd=TREE, check=True, capture_output=True, timeout=50)
    [built] = directory.glob("*.whl")
    return built


def tracked(*paths: str) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", *paths], cwd=TREE, capture_output=True, text=True, check=True, timeout=30
    )
    return {line for line in listed.stdout.splitlines() if (TREE / line).exists()}


def test_it_holds_every_file_that_browsers_load(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    for directory, endings in SERVED.items():
        files = {file for file in tracked(directory) if Path(file).suffix in endings}
        assert files - held == set()
    assert {"gateway/web/dashboard/index.html", "client_sdk/js/gateway.js"} <= held


def test_it_holds_the_packages_and_nothing_of_the_workshop(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    assert tracked("gateway", "client_sdk") - held == set()
    assert {"gateway/schema.sql", "gateway/config.toml", "client_sdk/py.typed"} <= held
    own = {name.split("/")[0] for name in held if ".dist-info/" not in name}
    assert own == {"gateway", "client_sdk"}
    assert [name for name in held if "__pycache__" in name or "node_modules" in name] == []


PROGRAM = """
import json
from pathlib import Path
from starlette.applications import Starlette
from starlette.testclient import TestClient
from gateway.metrics import Metrics
from gateway.web.assets import DASHBOARD, Assets, sdk_directory
from gateway.web.operation import operation_routes
from gateway.core.networks import Networks
routes = operation_routes(Assets(DASHBOARD, sdk_directory()).operations(), None, Metrics(), Networks(()))
client = TestClient(Starlette(routes=routes))
answers = {path: client.get(path) for path in ("/", "/sdk/gateway.js")}
print(json.dumps([str(DASHBOARD), {path: [one.status_code, len(one.content)] for path, one in answers.items()}]))
"""


def test_it_serves_them_from_where_it_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        **{"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 50},
    )
    assert told.returncode == 0, told.stderr
    sizes = [
        (tmp_path / file).stat().st_size for file in ("gateway/web/dashboard/index.html", "client_sdk/js/gateway.js")
    ]
    served = {path: [200, size] for path, size in zip(("/", "/sdk/gateway.js"), sizes, strict=True)}
    assert told.stdout.strip() == f'["{tmp_path}/gateway/web/dashboard", {str(served).replace(chr(39), chr(34))}]'
