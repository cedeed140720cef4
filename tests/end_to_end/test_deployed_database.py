"""libSQL servers with the settings, secrets and scripts of `deploy/`: only addresses and paths are the test's."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.conftest import Connect
from tests.support import lifeline
from tests.support.certificates import openssl, self_signed
from tests.support.gateway_process import ROOT, GatewayProcess, free_port, wait_for
from tests.support.nginx import Nginx
from tests.support.plain_hrana import PlainHrana, Refused
from tests.support.sqld import sqld_program

DEPLOY = ROOT / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
OF_THE_IMAGE = {"SQLD_NODE", "SQLD_PRIMARY_URL"}
"""What the image's own script understands, and hands to the program as options."""


def run(*command: str, **environment: str) -> str:
    """What a program prints that has to end well."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("deploy") / "secrets"
    run(str(DEPLOY / "make-secrets"), "--directory", str(directory), "--host", "gateway.example.org")
    return directory


class Deployed:
    """A service of the composition as a process. Its address has no dot in its name, as in the composition."""

    def __init__(self, service: str, directory: Path, secrets: Path, addresses: dict[str, str]) -> None:
        self.directory = directory
        self.port = free_port()
        self.addresses = {**addresses, "0.0.0.0:8080": f"127.0.0.1:{self.port}"}
        self.addresses["/run/secrets/database_jwt_key"] = str(secrets / "database_jwt_key.pem")
        settings = {name: self.here(value) for name, value in SERVICES[service]["environment"].items()}
        self.environment = {name: value for name, value in settings.items() if name not in OF_THE_IMAGE}
        self.data = directory / service
        self.arguments = [*SERVICES[service]["command"][1:], "--db-path", str(self.data)]
        if "SQLD_PRIMARY_URL" in settings:
            self.arguments += ["--primary-grpc-url", settings["SQLD_PRIMARY_URL"]]
        self.token = (secrets / "database_token").read_text().strip()
        self.process: subprocess.Popen[bytes] | None = None

    def here(self, value: str) -> str:
        for theirs, ours in self.addresses.items():
            value = value.replace(theirs, ours)
        return value

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def execute(self, sql: str, token: str | None = None) -> list[tuple[Any, ...]]:
        with PlainHrana(self.url, self.token if token is None else token) as client:
            return client.execute(sql)

    def start(self) -> None:
        command = [str(sqld_program()), *self.arguments]
        with (self.directory / f"{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env={"PATH": os.environ["PATH"], **self.environment}, stdout=log, stderr=log
            )
        lifeline.hold(self.process.pid)
        wait_for(self._answers, 20, "the server answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / f"{self.port}.log").read_text()
        try:
            self.execute("SELECT 1")
        except (OSError, Refused):
            return False
        return True

    def terminate(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(20) == 0
        self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            lifeline.go(self.process.pid)
            self.process = None


@pytest.fixture
def primary(tmp_path: Path, secrets: Path) -> Iterator[Deployed]:
    inner = {"0.0.0.0:5001": f"127.0.0.1:{free_port()}", "127.0.0.1:9090": f"127.0.0.1:{free_port()}"}
    server = Deployed("sqld", tmp_path, secrets, inner)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def replica(primary: Deployed, tmp_path: Path, secrets: Path) -> Iterator[Deployed]:
    addresses = {"sqld:5001": primary.addresses["0.0.0.0:5001"], "sqld:8080": f"127.0.0.1:{primary.port}"}
    server = Deployed("sqld-replica", tmp_path, secrets, addresses)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def synchronous(server: Deployed) -> Any:
    """SQLite's setting: 1 is NORMAL, 2 is FULL."""
    return server.execute("PRAGMA synchronous")[0][0]


def test_commits_are_on_disk_when_they_are_answered_after_a_crash_of_the_server_too(primary: Deployed) -> None:
    assert synchronous(primary) == 1
    [script] = SERVICES["durability"]["entrypoint"][1:]
    assert SERVICES["durability"]["volumes"] == [f".{script}:{script}:ro"]
    for _ in range(2):
        run(sys.executable, f"{DEPLOY}{script}", primary.addresses["127.0.0.1:9090"])
        assert synchronous(primary) == 2
    primary.execute("CREATE TABLE t (x)")
    primary.kill()
    primary.start()
    assert synchronous(primary) == 2
    assert primary.execute("SELECT count(*) FROM t") == [(0,)]


def test_a_server_that_does_not_answer_fails_the_script() -> None:
    command = [sys.executable, str(DEPLOY / "durability.py"), f"127.0.0.1:{free_port()}"]
    assert subprocess.run(command, capture_output=True, timeout=30).returncode != 0


def test_the_replica_holds_what_the_primary_holds_and_knows_its_address(primary: Deployed, replica: Deployed) -> None:
    primary.execute("CREATE TABLE t (x)")
    primary.execute("INSERT INTO t VALUES (1)")

    def arrived() -> bool:
        try:
            return replica.execute("SELECT x FROM t") == [(1,)]
        except Refused:
            return False

    wait_for(arrived, what="the replica has the row")
    replica.execute("INSERT INTO t VALUES (2)")
    assert primary.execute("SELECT x FROM t ORDER BY x") == [(1,), (2,)]

    listening = http.client.HTTPConnection("localhost", replica.port, timeout=10)
    path = "/beta/listen?table=t&action=insert"
    listening.request("GET", path, headers={"Authorization": f"Bearer {replica.token}"})
    answer = listening.getresponse()
    assert (answer.status, answer.headers["Location"]) == (307, f"http://127.0.0.1:{primary.port}{path}")
    listening.close()


@pytest.mark.parametrize("token", ["", "nonsense", "eyJhbGciOiJub25lIn0.eyJhIjoicncifQ."])
def test_nobody_else_gets_in(token: str, primary: Deployed) -> None:
    with pytest.raises(Refused) as refused:
        primary.execute("SELECT 1", token)
    assert refused.value.code == "HTTP 401"


@pytest.mark.parametrize("name", ["sqld", "sqld-replica"])
def test_its_health_is_looked_at(name: str, primary: Deployed) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    kind, program, *arguments = SERVICES[name]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "bash")
    check = [argument.replace("$$", "$").replace("8080", str(primary.port)) for argument in arguments]
    run(bash, *check)
    primary.kill()
    assert subprocess.run([bash, *check], capture_output=True, timeout=10).returncode != 0


def test_the_program_knows_every_option_and_variable() -> None:
    text = run(str(sqld_program()), "--help")
    for service in (SERVICES["sqld"], SERVICES["sqld-replica"]):
        assert set(service["environment"]) - OF_THE_IMAGE <= set(re.findall(r"\[env: (\w+)=", text))
        assert all(f"\n      {option}" in text for option in service["command"][1:])


def test_secrets_are_made_once_and_closed(secrets: Path) -> None:
    before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    run(str(DEPLOY / "make-secrets"), "--directory", str(secrets))
    assert {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()} == before
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert (secrets / "database_private_key.pem").stat().st_mode & 0o777 == 0o600
    assert (secrets / ".gitignore").read_text() == "*\n"
    # Accounts of the containers are not the one that made them.
    readable = {"database_token", "database_jwt_key.pem", "master_key", "cert.pem", "key.pem"}
    assert all(path.stat().st_mode & 0o004 for path in before if path.name in readable)
    text = openssl("x509", "-in", secrets / "tls" / "cert.pem", "-noout", "-text").decode()
    assert "DNS:gateway.example.org" in text


def settings(primary: Deployed, replica: Deployed | None, secrets: Path) -> dict[str, str]:
    """What the composition sets for a gateway."""
    environment: dict[str, str] = dict(SERVICES["gateway-1"]["environment"])
    assert environment["GATEWAY_DATABASE_URL"] == "http://sqld:8080"
    assert environment["GATEWAY_DATABASE_REPLICA"] == "http://sqld-replica:8080"
    environment["GATEWAY_DATABASE_URL"] = primary.url
    environment["GATEWAY_DATABASE_REPLICA"] = replica.url if replica else ""
    environment["GATEWAY_DATABASE_AUTH_TOKEN_FILE"] = str(secrets / "database_token")
    environment["GATEWAY_AUTH_MASTER_KEY_FILE"] = str(secrets / "master_key")
    environment["GATEWAY_SERVER_TRUSTED_PROXIES"] = "127.0.0.1/32"
    return environment


def gateway(environment: dict[str, str], *arguments: str) -> str:
    return run(sys.executable, "-m", "gateway", *arguments, **environment, PYTHONPATH=str(ROOT))


async def test_the_parts_of_the_composition_work_together(
    primary: Deployed, replica: Deployed, secrets: Path, tmp_path: Path, connect: Connect
) -> None:
    environment = settings(primary, replica, secrets)
    gateway(environment, *SERVICES["migrate"]["command"])
    token = json.loads(gateway(environment, "init", "--demo", "--json"))["token"]
    nodes = []
    try:
        for name in ("gateway-1", "gateway-2"):
            (tmp_path / name).mkdir()
            node = GatewayProcess(tmp_path / name)
            node.environment |= environment
            nodes.append(node)
            node.start()
        with Nginx(tmp_path, nodes, self_signed(tmp_path)) as proxy:
            clients = [await connect(token, at=proxy) for _ in range(4)]
            assert {node.metric("gateway_sessions", kind="user") for node in nodes} == {2.0}
            for client in clients:
                await client.until(lambda client=client: client.data)
            gateway(environment, "user", "plan", "ada", "free")
            for client in clients:
                await client.until(lambda client=client: client.data["identity"]["plan"] == "free")
            gateway(environment, "user", "disable", "ada")
            for client in clients:
                assert (await client.end())["code"] == "revoked"
    finally:
        for node in nodes:
            node.end()


def test_a_backup_of_the_server_is_put_in_place_of_another(
    primary: Deployed, replica: Deployed, secrets: Path, tmp_path: Path
) -> None:
    """The steps of docs/operations.md, "A libSQL server"."""
    environment = settings(primary, None, secrets)
    gateway(environment, "init", "--demo")
    users = gateway(environment, "user", "list", "--json")
    gateway(environment, "backup", str(tmp_path / "backup.db"))
    gateway(environment, "user", "plan", "ada", "free")
    primary.terminate()
    gateway({"GATEWAY_DATABASE_URL": f"file:{tmp_path}/restored.db"}, "restore", "--yes", str(tmp_path / "backup.db"))
    shutil.rmtree(primary.data)
    (primary.data / "dbs" / "default").mkdir(parents=True)
    (tmp_path / "restored.db").rename(primary.data / "dbs" / "default" / "data")
    primary.start()
    assert gateway(environment, "user", "list", "--json") == users
    assert gateway(environment, "doctor").endswith("Nothing is wrong.\n")
    replica.kill()
    shutil.rmtree(replica.data)
    replica.start()
    gateway(environment, "user", "plan", "ada", "enterprise")
    wait_for(lambda: replica.execute("SELECT plan FROM users WHERE id = 'u_ada'") == [("enterprise",)])
    primary.kill()
    primary.start()
    assert json.loads(gateway(environment, "user", "show", "ada", "--json"))["plan"] == "enterprise"


def test_the_servers_of_the_documents_are_started_as_those_of_the_composition() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    primary, replica = (
        set(re.findall(r"--[\w-]+", line)) for line in re.findall(r"^    sqld (.+)$", text, re.MULTILINE)
    )
    known = re.findall(r"^ +(?:-\w, )?(--[\w-]+)", run(str(sqld_program()), "--help"), re.MULTILINE)
    assert primary | replica <= set(known)
    for options, service in ((primary, "sqld"), (replica, "sqld-replica")):
        variables = set(SERVICES[service]["environment"]) - {"SQLD_NODE"}
        said = {f"--{name.removeprefix('SQLD_').lower().replace('_', '-')}" for name in variables}
        said = {option.replace("--primary-url", "--primary-grpc-url") for option in said}
        assert options == said | set(SERVICES[service]["command"][1:]) | {"--db-path"}
