"""A wire that remembers every byte that a program sent to a server through it."""

from __future__ import annotations

import socket
import threading

from tests.support.foreign_signers import Sent


class RecordingWire:
    """Listens on `port` of 127.0.0.1 and connects each connection with 127.0.0.1:`target`. Of each connection the first
    request is remembered: `sent`, in the order in which connections were made.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._came: list[bytearray] = []
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def sent(self) -> list[Sent]:
        """The requests that went through, as they were written."""
        return [parsed(bytes(each)) for each in self._came]

    def __enter__(self) -> RecordingWire:
        self._threads[0].start()
        return self

    def __exit__(self, *exception: object) -> None:
        # A blocked accept, and a blocked recv, are woken by this alone.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            _end(end)
        for thread in self._threads:
            thread.join(10)
        for end in self._sockets:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [near, far]
            self._came.append(bytearray())
            for ends in ((near, far, self._came[-1]), (far, near, bytearray())):
                self._threads.append(threading.Thread(target=_pump, args=ends, daemon=True))
                self._threads[-1].start()


def _pump(source: socket.socket, target: socket.socket, came: bytearray) -> None:
    try:
        while data := source.recv(65_536):
            came += data
            target.sendall(data)
    except OSError:
        pass
    finally:
        _end(target)


def _end(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def parsed(data: bytes) -> Sent:
    """The first request in what was sent on a connection: one with a ``Content-Length``, or without a body."""
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    fields = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
    headers = dict(fields)
    assert len(headers) == len(fields), f"a field came twice: {lines}"
    return Sent(method, f"http://{headers['host']}{target}", headers, rest[: int(headers.get("content-length", "0"))])
