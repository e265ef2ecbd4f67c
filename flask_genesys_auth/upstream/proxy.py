"""The way through an HTTP proxy: a tunnel by CONNECT (RFC 9110 9.3.6), for every server, whatever it speaks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .bounded import BoundedSocket, connect, exchange_under_way
from .wording import explain

if TYPE_CHECKING:
    from ..config.addresses import Proxy

_MAX_HEAD = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r?\n")
_END = re.compile(rb"\r?\n\r?\n")


class ProxyRefused(OSError):
    """The proxy makes no tunnel; why, in words of our own.

    :param finding: its ``strerror``.
    """

    def __init__(self, finding: str) -> None:
        super().__init__(0, finding)


def tunnel(proxy: Proxy, host: str, port: int) -> BoundedSocket:
    """Return a connection to a server through a proxy, on which nothing has been said yet.

    :param host: the server's; an IPv6 address with its brackets or without.
    :raises OSError: if the proxy cannot be reached, or makes no tunnel (:class:`ProxyRefused`).
    """
    try:
        sock = connect(proxy.host, proxy.port)
    except OSError as error:
        raise ProxyRefused(f"the proxy is not reached, {explain(error)}") from error
    try:
        bare = host.strip("[]")
        _ask(sock, proxy, f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}")
    except BaseException:
        sock.close()
        raise
    return sock


def _ask(sock: BoundedSocket, proxy: Proxy, target: str) -> None:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", "User-Agent: flask-genesys-auth"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization.reveal()}")
    try:
        sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        head = _head(sock)
    finally:
        # What has gone out has gone to the proxy: the server itself has been sent nothing.
        exchange_under_way.get().sent = False
    status = _STATUS.match(head)
    if status is None:
        raise ProxyRefused("the proxy answers no HTTP")
    if not status[1].startswith(b"2"):
        raise ProxyRefused(f"the proxy refuses with HTTP {status[1].decode()}")


def _head(sock: BoundedSocket) -> bytes:
    """Read the head of the answer and nothing behind it, for that is the server's."""
    head = bytearray()
    octet = bytearray(1)
    while not _END.search(head, max(0, len(head) - 4)):
        if len(head) >= _MAX_HEAD:
            raise ProxyRefused("the proxy's answer does not end")
        if not sock.recv_into(octet):
            raise ProxyRefused("the proxy breaks off")
        head += octet
    return bytes(head)
