from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidMessage

from client_sdk import Channel, Disconnected, Revoked, ServerClient, SyncChannel, TokenExpired, testing
from client_sdk.faults import Direction, FaultProxy
from client_sdk.loop_thread import LoopThread
from client_sdk.testing import GatewayMissing, RunningGateway
from tests.support.waiting import eventually

gateway = testing.gateway
PYTEST_INI = """
[pytest]
addopts = -q -p no:cacheprovider
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


def example() -> str:
    """The example of the module's docstring."""
    found = re.search(r"::\n\n((?:(?:    .*)?\n)+)", testing.__doc__ or "")
    assert found is not None
    return textwrap.dedent(found[1])


def run_pytest(directory: Path, source: str) -> str:
    (directory / "pytest.ini").write_text(PYTEST_INI)
    (directory / "test_of_a_user.py").write_text(source)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest"],
        cwd=directory,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


# --- as its users see it ---


def test_the_example_in_its_documentation_passes(tmp_path: Path) -> None:
    source = example()
    assert source.count("async def test_") == 2
    assert "2 passed" in run_pytest(tmp_path, source)


def test_it_is_a_plugin_too(tmp_path: Path) -> None:
    source = """
    import asyncio
    from client_sdk import Channel

    pytest_plugins = ["client_sdk.testing"]

    def test_without_a_coroutine(gateway):
        ada = gateway.add_user("ada", permissions=["a"])
        assert gateway.sql("SELECT permission FROM user_permissions WHERE user_id = ?", ada) == [("a",)]
    """
    assert "1 passed" in run_pytest(tmp_path, textwrap.dedent(source))


def test_a_client_without_the_gateway_may_import_it() -> None:
    program = "import client_sdk.testing, sys; print([name for name in sys.modules if name.split('.')[0] == 'gateway'])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["gateway.serve", "gateway"])
def test_without_the_gateway_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, module: str, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "gateway.serve", raising=False) if module == "gateway" else None
    with pytest.raises(GatewayMissing, match=r"gateway.* is not installed: pip install session-gateway"):
        RunningGateway(tmp_path / "gateway.db")


# --- life ---


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with RunningGateway(tmp_path / "gateway.db") as running:
        with SyncChannel(running.faults.url, running.token(running.add_user("ada"))):
            pass
        running.restart()
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before


def test_it_is_closed_under_a_live_channel_and_after_a_failure(tmp_path: Path) -> None:
    before = set(threading.enumerate())

    def fail_with_a_channel_open() -> None:
        with RunningGateway(tmp_path / "gateway.db") as running:
            channel = SyncChannel(running.faults.url, running.token(running.add_user("ada")))
            channel.open()
            stack.callback(channel.close)
            raise ZeroDivisionError

    with ExitStack() as stack, pytest.raises(ZeroDivisionError):
        fail_with_a_channel_open()
    assert set(threading.enumerate()) == before


def test_a_gateway_that_can_not_start_leaves_nothing(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    (tmp_path / "gateway.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(Exception, match=r"gateway\.db"):
        RunningGateway(tmp_path / "gateway.db").open()
    assert set(threading.enumerate()) == before


async def test_stopped_it_refuses_and_started_again_it_is_at_the_same_address(gateway: RunningGateway) -> None:
    ada = gateway.add_user("ada")
    token, url = gateway.token(ada), gateway.url
    gateway.stop()
    async with ServerClient(url, token) as server:
        with pytest.raises(Disconnected):
            await server.identity()
        gateway.allow(ada, "granted_meanwhile")
        gateway.start()
        assert (await server.identity()).can("granted_meanwhile")
    assert gateway.url == url


def test_it_runs_once(gateway: RunningGateway) -> None:
    with pytest.raises(RuntimeError, match="runs already"):
        gateway.start()
    gateway.stop()
    gateway.stop()
    gateway.start()


def test_before_it_is_open_there_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not open"):
        RunningGateway(tmp_path / "gateway.db").sql("SELECT 1")


async def test_settings_are_given_by_section(tmp_path: Path) -> None:
    with RunningGateway(tmp_path / "gateway.db", channel={"heartbeat_s": 7.5}) as running:
        async with connect(running.url.replace("http", "ws") + "/ws", proxy=None) as socket:
            assert '"heartbeat_s":7.5' in str(await socket.recv())
    with pytest.raises(TypeError, match="colour"):
        RunningGateway(tmp_path / "gateway.db", channel={"colour": "green"})


def test_a_loop_says_what_still_runs_in_it() -> None:
    host = LoopThread("a test", strict=True)
    host.start()

    async def begin() -> None:
        host.forever = asyncio.create_task(asyncio.Event().wait(), name="forever")  # type: ignore[attr-defined]

    host.call(begin())
    with pytest.raises(RuntimeError, match="forever"):
        host.stop()


# --- rows ---


def test_every_word_about_a_user_is_seen(gateway: RunningGateway) -> None:
    gateway.add_plan("pro", permissions=["can_use_sms"], quotas={"sms_messages": 5, "mails": None})
    ada = gateway.add_user(
        "ada", permissions=["can_use_voice"], quotas={"voice_minutes": 10}, attributes={"persona": "boss"}
    )
    with SyncChannel(gateway.url, gateway.token(ada)) as channel:
        assert channel.principal == f"user:{ada}"
        assert channel.document["identity"]["attributes"] == {"persona": "boss"}
        assert channel.permissions == {"can_use_voice"}
        assert channel.quotas["voice_minutes"].remaining == 10
        channel.wait_for(gateway.set_plan(ada, "pro"), 10)
        assert channel.permissions == {"can_use_voice", "can_use_sms"}
        assert channel.quotas["sms_messages"].limit == 5
        assert channel.quotas["mails"].limit is None
        channel.wait_for(gateway.set_quota(ada, "voice_minutes", 20, period="day", hard=False), 10)
        assert (channel.quotas["voice_minutes"].limit, channel.quotas["voice_minutes"].period) == (20, "day")
        channel.wait_for(gateway.deny(ada, "can_use_voice"), 10)
        assert channel.permissions == {"can_use_sms"}
        channel.wait_for(gateway.allow(ada, "can_use_voice"), 10)
        assert channel.can("can_use_voice")
        assert gateway.sql("UPDATE users SET name = 'Ada King' WHERE id = ? RETURNING name", ada) == [("Ada King",)]
        assert channel.wait_for(gateway.seq, 10) == gateway.seq
        assert channel.document["identity"]["name"] == "Ada King"


def test_a_plan_that_exists_is_used_and_one_that_does_not_is_made(gateway: RunningGateway) -> None:
    gateway.add_plan("pro", permissions=["a"])
    gateway.add_user("ada", plan="pro")
    gateway.add_user("bob", plan="new", is_admin=True)
    assert gateway.sql("SELECT plan, permission FROM plan_permissions") == [("pro", "a")]
    assert gateway.sql("SELECT id, plan, is_admin FROM users ORDER BY id") == [
        ("u_ada", "pro", 0),
        ("u_bob", "new", 1),
    ]


@pytest.mark.parametrize("by", ["gateway", "faults"])
def test_a_credential_ends(gateway: RunningGateway, by: str) -> None:
    ada = gateway.add_user("ada")
    first, second = gateway.token(ada), gateway.token(ada)
    ends = gateway if by == "gateway" else gateway.faults
    with SyncChannel(gateway.url, first, backoff_base_s=0.01) as one, SyncChannel(gateway.url, second) as other:
        ends.revoke(second)
        with pytest.raises(Revoked):
            list(other)
        assert one.ping() > 0
        ended = threading.Event()
        one.on_freshness(lambda _: ended.set())
        ends.expire(first)
        assert ended.wait(10)
        assert isinstance(one.trouble, TokenExpired)


async def test_a_token_may_have_an_end(gateway: RunningGateway) -> None:
    ada = gateway.add_user("ada")
    before = time.time()
    async with ServerClient(gateway.url, cache_s=0.0) as server:
        assert (await server.authenticate(gateway.token(ada))).expires_at is None
        ends_at = (await server.authenticate(gateway.token(ada, expires_in_s=3600.0))).expires_at
    assert ends_at is not None
    assert before + 3599 < datetime.fromisoformat(ends_at).timestamp() < time.time() + 3601


# --- the proxy ---


class Peers:
    """A server that notes what it gets, and clients that reach it through the proxy or past it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.received: list[str] = []
        self.sockets: list[ServerConnection] = []
        self.proxy = FaultProxy("127.0.0.1", port)

    async def serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        try:
            async for message in socket:
                self.received.append(str(message))
                await socket.send(f"echo {message!s}")
        except ConnectionClosed:
            pass

    def client(self, *, past_the_proxy: bool = False) -> connect:
        port = self.port if past_the_proxy else self.proxy.port
        return connect(f"ws://127.0.0.1:{port}/", proxy=None, compression=None, ping_interval=None)

    async def a_while(self) -> None:
        """Messages go to the server and back, past the proxy."""
        async with self.client(past_the_proxy=True) as socket:
            for number in range(5):
                await socket.send(f"past {number}")
                await socket.recv()

    def through(self) -> list[str]:
        return [message for message in self.received if not message.startswith("past")]


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    made: list[Peers] = []

    async def handle(socket: ServerConnection) -> None:
        await made[0].serve(socket)

    async with serve(handle, "127.0.0.1", 0, ping_interval=None) as server:
        made.append(Peers(next(iter(server.sockets)).getsockname()[1]))
        await made[0].proxy.open()
        yield made[0]
        await made[0].proxy.close()
        assert made[0].proxy.connections == 0


async def talk(socket: ClientConnection, *messages: str) -> None:
    for message in messages:
        await socket.send(message)


async def hear(socket: ClientConnection, count: int) -> list[str]:
    async with asyncio.timeout(10):
        return [str(await socket.recv()) for _ in range(count)]


async def test_without_a_fault_it_passes_everything_on(peers: Peers) -> None:
    large = "x" * 300_000
    async with peers.client() as socket:
        await talk(socket, "a", large, "")
        assert await hear(socket, 3) == ["echo a", "echo " + large, "echo "]
        await (await socket.ping())
        assert peers.proxy.connections == 1
    await eventually(lambda: peers.proxy.connections == 0)
    assert peers.proxy.counts == {"accepted": 1}
    assert peers.sockets[0].close_code == 1000


@pytest.mark.parametrize(("direction", "arrived"), [("to_gateway", ["c"]), ("to_client", ["a", "b", "c"])])
async def test_frames_are_dropped(peers: Peers, direction: Direction, arrived: list[str]) -> None:
    async with peers.client() as socket:
        peers.proxy.drop(direction, 2)
        await talk(socket, "a", "b", "c")
        assert await hear(socket, 1) == ["echo c"]
        assert peers.received == arrived
        assert peers.proxy.counts["dropped"] == 2
        peers.proxy.drop(direction)
        await talk(socket, "d", "e")
        await (await socket.ping())
        await eventually(lambda: peers.proxy.counts["dropped"] == 4)
        peers.proxy.heal()
        await talk(socket, "f")
        assert await hear(socket, 1) == ["echo f"]


async def test_frames_are_duplicated(peers: Peers) -> None:
    async with peers.client() as socket:
        peers.proxy.duplicate("to_gateway", 1)
        await talk(socket, "a", "b")
        assert await hear(socket, 3) == ["echo a", "echo a", "echo b"]
        peers.proxy.duplicate("to_client")
        await talk(socket, "c")
        assert await hear(socket, 2) == ["echo c", "echo c"]
        peers.proxy.heal()
        await talk(socket, "d", "e")
        assert await hear(socket, 2) == ["echo d", "echo e"]


async def test_frames_are_delayed_in_order(peers: Peers) -> None:
    async with peers.client() as socket:
        peers.proxy.delay("to_gateway", 0.1)
        began = time.monotonic()
        await talk(socket, "a", "b")
        await eventually(lambda: peers.received == ["a", "b"])
        assert time.monotonic() - began >= 0.1
        peers.proxy.heal()
        peers.proxy.delay("to_client", 0.1)
        began = time.monotonic()
        await talk(socket, "c")
        assert await hear(socket, 3) == ["echo a", "echo b", "echo c"]
        assert time.monotonic() - began >= 0.1


async def test_connections_are_cut(peers: Peers) -> None:
    async with peers.client() as one, peers.client() as other:
        await talk(one, "a")
        await hear(one, 1)
        peers.proxy.cut()
        for socket in (one, other):
            with pytest.raises(ConnectionClosedError):
                await hear(socket, 1)
            assert socket.close_code == 1006
    async with peers.client() as again:
        await talk(again, "b")
        assert await hear(again, 1) == ["echo b"]
    assert peers.proxy.counts["cut"] == 2


@pytest.mark.parametrize(("direction", "arrived"), [("to_gateway", []), ("to_client", ["a"])])
async def test_one_connection_is_cut_within_a_frame(peers: Peers, direction: Direction, arrived: list[str]) -> None:
    async with peers.client() as bystander, peers.client() as socket:
        peers.proxy.cut(within=direction)
        await talk(socket, "a")
        with pytest.raises(ConnectionClosedError):
            await hear(socket, 1)
        await eventually(lambda: peers.proxy.connections == 1)
        assert peers.received == arrived
        await talk(bystander, "b")
        assert await hear(bystander, 1) == ["echo b"]
    assert peers.proxy.counts["cut"] == 1


async def test_frozen_it_accepts_and_passes_on_nothing(peers: Peers) -> None:
    async with peers.client() as socket:
        peers.proxy.freeze()
        await talk(socket, "a", "b")
        opening = asyncio.ensure_future(peers.client().__aenter__())
        await eventually(lambda: peers.proxy.connections == 2)
        await peers.a_while()
        assert peers.through() == []
        assert not opening.done()
        peers.proxy.heal()
        assert await hear(socket, 2) == ["echo a", "echo b"]
        async with asyncio.timeout(10):
            late = await opening
        await talk(late, "c")
        assert await hear(late, 1) == ["echo c"]
        await late.close()


async def test_a_frozen_connection_can_be_cut(peers: Peers) -> None:
    peers.proxy.freeze()
    opening = asyncio.ensure_future(peers.client().__aenter__())
    await eventually(lambda: peers.proxy.connections == 1)
    peers.proxy.cut()
    with pytest.raises((InvalidMessage, OSError)):
        await opening
    assert peers.sockets == []


async def test_nobody_behind_it_is_a_connection_that_ends() -> None:
    lonely = FaultProxy("127.0.0.1", 1)
    await lonely.open()
    with pytest.raises(InvalidMessage):
        await connect(f"ws://127.0.0.1:{lonely.port}/", proxy=None)
    await eventually(lambda: lonely.connections == 0)
    await lonely.close()


async def test_plain_requests_pass_too(gateway: RunningGateway) -> None:
    ada = gateway.add_user("ada", permissions=["a"])
    async with ServerClient(gateway.faults.url, gateway.token(ada), cache_s=0.0, timeout_s=0.2) as server:
        assert (await server.identity()).can("a")
        gateway.faults.cut()
        await eventually(lambda: gateway.faults.connections == 0)
        gateway.deny(ada, "a")
        assert not (await server.identity()).can("a")
        gateway.faults.freeze()
        with pytest.raises(Disconnected):
            await server.identity()
        gateway.faults.heal()
        assert await server.health()


async def test_what_a_channel_holds_survives_a_cut_through_the_fixture(gateway: RunningGateway) -> None:
    ada = gateway.add_user("ada", permissions=["a"])
    async with Channel(gateway.faults.url, gateway.token(ada), backoff_base_s=0.01) as channel:
        gateway.faults.cut()
        await eventually(lambda: gateway.faults.counts["accepted"] == 2 and channel.freshness.state == "live")
        assert channel.can("a")
