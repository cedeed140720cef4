from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.gateway_process import wait_for
from tests.support.tcp_proxy import TcpProxy


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(65_536):
                self.request.sendall(data)
        except ConnectionResetError:
            return


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def wire() -> Iterator[TcpProxy]:
    with _Server(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with TcpProxy(server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()


def _connect(wire: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", wire.port), timeout=5)


def _echo(plug: socket.socket, data: bytes) -> bytes:
    plug.sendall(data)
    return _receive(plug, len(data))


def _receive(plug: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (data := plug.recv(65_536)):
        received += data
    return received


def test_bytes_and_ends_pass_both_ways(wire: TcpProxy) -> None:
    data = bytes(range(256)) * 8_000
    with _connect(wire) as one, _connect(wire) as other:
        sender = threading.Thread(target=one.sendall, args=(data,))
        sender.start()
        assert _receive(one, len(data)) == data
        sender.join()
        assert _echo(other, b"two") == b"two"
        assert (wire.accepted, wire.open) == (2, 2)
        one.shutdown(socket.SHUT_WR)
        assert one.recv(1) == b""
        wait_for(lambda: wire.open == 1, what="one is closed")


def test_a_cut_resets_and_refuses_until_it_is_restored(wire: TcpProxy) -> None:
    with _connect(wire) as plug:
        assert _echo(plug, b"x") == b"x"
        wire.cut()
        with pytest.raises(ConnectionResetError):
            plug.recv(1)
        assert wire.open == 0
    with pytest.raises(ConnectionRefusedError):
        _connect(wire)
    wire.restore()
    with _connect(wire) as plug:
        assert _echo(plug, b"y") == b"y"


def test_silence_swallows_and_closes_nothing(wire: TcpProxy) -> None:
    with _connect(wire) as used, _connect(wire) as idle:
        assert _echo(used, b"a") == _echo(idle, b"a") == b"a"
        wire.cut(silent=True)
        used.sendall(b"lost")
        with _connect(wire) as late:
            late.sendall(b"lost")
            for plug in (used, late):
                plug.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    plug.recv(1)
            wire.restore()
            used.sendall(b"after the hole")
            with pytest.raises(TimeoutError):
                used.recv(1)
            assert _echo(idle, b"b") == b"b"
            with _connect(wire) as fresh:
                assert _echo(fresh, b"c") == b"c"


def test_delay_is_added_each_way_and_ends(wire: TcpProxy) -> None:
    with _connect(wire) as plug:
        wire.delay(0.1)
        before = time.monotonic()
        assert _echo(plug, b"slow") == b"slow"
        assert time.monotonic() - before >= 0.2
        wire.delay(0.0)
        assert _echo(plug, b"fast") == b"fast"


def test_a_target_that_refuses_resets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with TcpProxy(port) as wire:
        with pytest.raises(ConnectionResetError), _connect(wire) as plug:  # which it may interrupt
            plug.recv(1)
        wire.close()
        wire.close()
