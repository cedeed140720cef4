"""The kernel's view of one TCP connection, by sock_diag(7): whether the server has closed its end.

A client that does not read can not learn from its own socket that the server hung up: with its window shut, the FIN
waits behind the data. The state of the server's end tells it all the same.
"""

from __future__ import annotations

import socket
import struct

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_ESTABLISHED = 1
_ANY_COOKIE = 0xFFFFFFFF

Address = tuple[str, int]


class SocketStates:
    """Asks the kernel about TCP connections over IPv4, one at a time."""

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)

    def established(self, near: Address, far: Address) -> bool:
        """Whether the end bound to `near` still has an established connection to `far`."""
        addresses = b"".join(socket.inet_aton(host).ljust(16, b"\0") for host, _ in (near, far))
        ports = struct.pack("!HH", near[1], far[1])
        cookie = struct.pack("=III", 0, _ANY_COOKIE, _ANY_COOKIE)
        request = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, _ANY_COOKIE) + ports + addresses + cookie
        self._netlink.send(
            struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + request
        )
        answer = self._netlink.recv(8192)
        kind = struct.unpack_from("=H", answer, 4)[0]
        return kind != _NLMSG_ERROR and answer[17] == _ESTABLISHED

    def close(self) -> None:
        """Give the socket back."""
        self._netlink.close()
