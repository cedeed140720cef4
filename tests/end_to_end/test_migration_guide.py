"""docs/migration.md, step by step, as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.support.gateway_process import GatewayProcess, free_port, wait_for
from tests.support.markdown import Markdown
from tests.support.waiting import eventually

GUIDE = Markdown("migration.md")
ROOT = Path(__file__).parents[2]
PASSWORD = "a password of these days"
PEOPLE = [("u_ada", "ada", True), ("u_bob", "bob", False), ("u_grace", "grace", False)]


class Shop:
    """A directory with the guide's programs in it, and what they print."""

    def __init__(self, directory: Path, gateway: GatewayProcess) -> None:
        self.directory = directory
        self.gateway = gateway
        for block in GUIDE.blocks_of("python"):
            (directory / block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)
        programs = directory / "bin"
        programs.mkdir()
        (programs / "gateway").write_text(f'#!/bin/sh\nexec {sys.executable} -W error -m gateway "$@"\n')
        (programs / "gateway").chmod(0o755)
        (programs / "python").symlink_to(sys.executable)
        path = f"{programs}:{os.environ['PATH']}"
        self.environment = {**gateway.environment, "PATH": path, "PYTHONPATH": f"{ROOT}:{directory}"}
        self.port = free_port()
        self.log = directory / "shop.log"

    def run(self, step: str) -> list[str]:
        """The commands of a step; what they print."""
        printed = []
        for block in GUIDE.blocks_of("sh"):
            if block.section == step:
                done = subprocess.run(
                    ["bash", "-euc", block.text],
                    cwd=self.directory,
                    env=self.environment,
                    capture_output=True,
                    text=True,
                    timeout=50,
                    check=False,
                )
                assert done.returncode == 0, done.stdout + done.stderr
                printed.append(done.stdout)
        assert printed, step
        return printed

    def own(self, code: str) -> None:
        """Something that the shop's own programs do."""
        subprocess.run(
            [sys.executable, "-c", f"import own_users\n{code}"],
            cwd=self.directory,
            env=self.environment,
            check=True,
            timeout=30,
        )

    @contextmanager
    def serving(self, mode: str) -> Iterator[None]:
        """The shop as long as this, with another setting."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(self.port), "--log-level", "warning"],
                cwd=self.directory,
                env={**self.environment, "SHOP_SIGN_IN": mode},
                stdout=log,
                stderr=log,
            )
        try:
            wait_for(self.answers, 20.0, "the shop")
            yield
        finally:
            process.terminate()
            process.wait(10)

    def answers(self) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/me", timeout=5).status_code == 401
        except httpx2.TransportError:
            return False

    def post(self, path: str, headers: dict[str, str] | None = None, **body: str) -> httpx2.Response:
        return httpx2.post(f"http://127.0.0.1:{self.port}{path}", json=body, headers=headers, timeout=20)

    def sign_in(self, name: str) -> dict[str, str]:
        """The headers that this person's client sends from then on."""
        answer = self.post("/login", username=name, password=PASSWORD)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        self.gateway.secrets += [told[name] for name in ("access_token", "refresh_token") if name in told]
        headers = {"X-Session": told["session"]} if "session" in told else {}
        return headers | ({"Authorization": f"Bearer {told['access_token']}"} if "access_token" in told else {})

    def me(self, headers: dict[str, str]) -> str | int:
        answer = httpx2.get(f"http://127.0.0.1:{self.port}/me", headers=headers, timeout=20)
        return str(answer.json()["id"]) if answer.status_code == 200 else answer.status_code

    def call(self, headers: dict[str, str]) -> int:
        return self.post("/calls", headers).status_code

    def reported(self) -> list[str]:
        return re.findall(r"^difference: (.*) \w{12}$", self.log.read_text(), re.MULTILINE)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "shop").mkdir()
    gateway = GatewayProcess(tmp_path / "gateway")
    gateway.environment["GATEWAY_AUTH_ISSUER"] = f"http://{gateway.address}"
    gateway.environment["GATEWAY_AUTH_MAX_ADDRESS_FAILURES"] = "3"
    with gateway:
        yield Shop(tmp_path / "shop", gateway)


def test_every_block_is_used() -> None:
    names = [block.text.splitlines()[0] for block in GUIDE.blocks_of("python")]
    assert names == ["# own_users.py", "# move.py", "# shop.py"]
    assert {block.section for block in GUIDE.blocks_of("sh")} == {"1. Move the users", "2. An instance"}


@pytest.mark.timeout(180)
async def test_the_guide_from_beginning_to_end(shop: Shop) -> None:
    await asyncio.to_thread(prepare, shop)
    for mode in ("Remote", "remote ", "locl"):
        await asyncio.to_thread(misspelt, shop, mode)
    await asyncio.to_thread(locally, shop)
    await side_by_side(shop, lambda: shop.reported())
    await asyncio.to_thread(remotely, shop)


def prepare(shop: Shop) -> None:
    for id, name, may_call in PEOPLE:
        shop.own(f"own_users.add({id!r}, {name!r}, {PASSWORD!r}, {may_call})")
    [printed] = shop.run("1. Move the users")
    assert not (shop.directory / "people.jsonl").exists()
    assert re.search(r"user +3 +0 +0 +0", printed)
    assert "Nothing" in printed
    shop.run("2. An instance")
    assert (shop.directory / "gateway.toml").stat().st_mode & 0o077 == 0
    block = (shop.directory / "gateway.toml").read_text()
    assert f'url = "http://{shop.gateway.address}"' in block


def misspelt(shop: Shop, mode: str) -> None:
    """A shop whose setting is none of the guide's words does not begin."""
    done = subprocess.run(
        [sys.executable, "-c", "import shop"],
        cwd=shop.directory,
        env={**shop.environment, "SHOP_SIGN_IN": mode},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert f"ConfigError: mode: {mode!r} is none of remote, local, both" in done.stderr


def locally(shop: Shop) -> None:
    with shop.serving("local"):
        ada, bob = shop.sign_in("ada"), shop.sign_in("bob")
        assert set(ada) == {"X-Session"}
        assert [shop.me(ada), shop.me(bob), shop.me({})] == ["u_ada", "u_bob", 401]
        assert [shop.call(ada), shop.call(bob)] == [200, 403]
        assert shop.post("/login", username="ada", password="wrong").status_code == 401


async def side_by_side(shop: Shop, reported: Callable[[], list[str]]) -> None:
    shop.own("with own_users.database() as rows: rows.execute(\"UPDATE users SET may_call = 0 WHERE id = 'u_ada'\")")
    with shop.serving("both"):
        ada, bob = [await asyncio.to_thread(shop.sign_in, name) for name in ("ada", "bob")]
        assert set(ada) == {"X-Session", "Authorization"}
        assert [await asyncio.to_thread(shop.me, person) for person in (bob, ada)] == ["u_bob", "u_ada"]
        assert await asyncio.to_thread(shop.call, ada) == 403  # the own table answers
        await eventually(lambda: len(reported()) == 2)
        assert set(reported()) == {
            "permissions [] ['can_use_voice'] u_ada /me",
            "permissions [] ['can_use_voice'] u_ada /calls",
        }
        await asyncio.to_thread(signs_in_alone, shop)
        shop.gateway.kill()
        assert await asyncio.to_thread(shop.me, bob) == "u_bob"
        assert set(await asyncio.to_thread(shop.sign_in, "bob")) == {"X-Session"}
        shop.gateway.start()


def signs_in_alone(shop: Shop) -> None:
    """The gateway hangs: nobody's sign-in fails by it, or takes its time from it."""
    shop.gateway.pause()
    try:
        asked_at = time.monotonic()
        assert set(shop.sign_in("bob")) == {"X-Session"}
        assert time.monotonic() - asked_at < 10.0
    finally:
        shop.gateway.resume()


def remotely(shop: Shop) -> None:
    with shop.serving("remote"):
        ada = shop.sign_in("ada")
        assert set(ada) == {"Authorization"}
        assert (shop.me(ada), shop.call(ada)) == ("u_ada", 200)
        assert shop.post("/login", username="ada", password="wrong").status_code == 401
        with shop.gateway.foreign_writer() as rows:
            rows.execute("UPDATE users SET status = 'disabled' WHERE id = 'u_ada'")
            signed_in = rows.execute("SELECT DISTINCT instance_id, ip FROM login_sessions")
            assert signed_in == [(rows.execute("SELECT id FROM instances")[0][0], "127.0.0.1")]
        wait_for(lambda: shop.me(ada) == 401, 10.0, "the end of what was disabled")
        for name in ("nobody", "somebody"):
            assert shop.post("/login", username=name, password="wrong").status_code == 401
        stopped = shop.post("/login", username="bob", password=PASSWORD)
        assert (stopped.status_code, int(stopped.headers["retry-after"]) > 1) == (429, True)
        shop.gateway.kill()
        away = shop.post("/login", username="bob", password=PASSWORD)
        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
    assert "Traceback" not in shop.log.read_text()
