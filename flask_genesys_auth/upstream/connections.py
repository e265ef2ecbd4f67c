"""Connections whose every operation ends by the deadline of the current exchange.

An exchange also limits the size of an answer. The sockets serve every protocol, the pools at the end urllib3's HTTP.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPException
from time import monotonic
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ProtocolError, ProxyError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from ..config.addresses import Proxy

USER_AGENT = "flask-genesys-auth"
TIMEOUTS = (TimeoutError, urllib3.exceptions.TimeoutError)

_MAX_DETAIL = 120
_MAX_HEAD = 64 * 1024


class Deadline:
    """The time by which a step must end, however many requests it sends."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds left, more than 0.

        :raises TimeoutError: if there are none.
        """
        left = self._end - monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left

    def share(self, parts: int) -> Deadline:
        """Return the deadline of the first of several attempts that share the time left equally."""
        return Deadline(self.left / parts)

    @property
    def left(self) -> float:
        """Return the seconds left, or 0."""
        return max(self._end - monotonic(), 0.0)

    @property
    def half_left(self) -> bool:
        """Return whether at least half of the time is left."""
        return self._end - monotonic() >= self.seconds / 2

    @property
    def spent(self) -> bool:
        """Return whether no time is left."""
        return self._end <= monotonic()


class TooMuch(Exception):
    """The answer is longer than the limit."""


class Exchange:
    """The limits of the current request, which the sockets enforce.

    :param max_body: bytes of the body that are read; the head may have 64 KiB.
    :ivar sent: something was sent to the server itself, not only to a proxy.
    """

    __slots__ = ("_budget", "deadline", "max_body", "sent")

    def __init__(self, deadline: Deadline, max_body: int) -> None:
        self.deadline = deadline
        self.max_body = max_body
        self.sent = False
        self._budget = _MAX_HEAD + max_body

    def received(self, octets: int) -> None:
        """Count octets that were read.

        :raises TooMuch: if the head and the body are longer than allowed.
        """
        self._budget -= octets
        if self._budget < 0:
            raise TooMuch


exchange_under_way: ContextVar[Exchange] = ContextVar("flask_genesys_auth.upstream.exchange")


@contextmanager
def exchanging(exchange: Exchange) -> Iterator[None]:
    """Apply the limits of this exchange to the sockets that are used within."""
    token = exchange_under_way.set(exchange)
    try:
        yield
    finally:
        exchange_under_way.reset(token)


def tls_context(certificates: str) -> ssl.SSLContext:
    """Return a TLS context (1.2 or later) that verifies certificates and host names, and creates bounded sockets.

    :param certificates: the authorities to trust, in PEM; empty: the system's.
    """
    context = ssl.create_default_context(cadata=certificates or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = BoundedTlsSocket
    return context


class BoundedSocket(socket.socket):
    """A socket on which every operation ends by the deadline of the current exchange.

    A timeout of the socket itself would start again with every byte, so that a slow answer would never reach it.
    """

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        """Read once (``socket.socket.recv_into``)."""
        exchange = exchange_under_way.get()
        self.settimeout(exchange.deadline.remaining())
        octets = super().recv_into(buffer, nbytes or memoryview(buffer).nbytes, flags)
        exchange.received(octets)
        return octets

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Read once (``socket.socket.recv``)."""
        exchange = exchange_under_way.get()
        self.settimeout(exchange.deadline.remaining())
        data = super().recv(buflen, flags)
        exchange.received(len(data))
        return data

    def idle(self) -> bool:
        """Return whether the connection has received nothing, not even its end."""
        self.settimeout(0)
        try:
            # Below TLS, so that no part of an answer is read.
            socket.socket.recv(self, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Send all (``socket.socket.sendall``)."""
        exchange = exchange_under_way.get()
        self.settimeout(exchange.deadline.remaining())
        exchange.sent = True
        super().sendall(data, flags)


class BoundedTlsSocket(BoundedSocket, ssl.SSLSocket):
    """A bounded socket over TLS."""


def connect(host: str, port: int) -> BoundedSocket:
    """Connect to the first address of a host that accepts, by the deadline of the current exchange.

    :raises OSError: if none accepts.
    """
    deadline = exchange_under_way.get().deadline
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror("the host name is not valid") from error
    failure: OSError = OSError("the host name has no address")
    for place, (family, kind, protocol, _, address) in enumerate(found):
        try:
            # A dead address must leave time for the next one.
            share = deadline.remaining() / (len(found) - place)
            sock = BoundedSocket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(share)
            sock.connect(address)
            sock.settimeout(deadline.remaining())
        except OSError as error:
            failure = error
            sock.close()
        else:
            return sock
    raise failure


def explain(error: BaseException) -> str:
    """Describe why there is no connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused, {printable(error.verify_message)}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed, {printable(error.reason or '')}"
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, TIMEOUTS):
        return "timed out"
    return printable(getattr(error, "strerror", None) or type(error).__name__)


def printable(text: str, limit: int = _MAX_DETAIL) -> str:
    """Return text from outside for a log: visible ASCII and single spaces, at most ``limit`` characters."""
    shown = "".join(character if " " <= character <= "~" else " " for character in text[: 4 * limit])
    squeezed = " ".join(shown.split())
    return squeezed if len(squeezed) <= limit else squeezed[: limit - 3] + "..."


def pools(certificates: str, proxy: Proxy | None, connections: int) -> urllib3.PoolManager:
    """Return pools of bounded connections for HTTP.

    A proxy is used for https only, by ``CONNECT`` (RFC 9110 9.3.6), so that TLS ends at the server itself. A failure up
    to the end of ``CONNECT`` is a :class:`urllib3.exceptions.ProxyError`.

    :param certificates: as for :func:`tls_context`.
    """
    keywords: dict[str, Any] = {
        "num_pools": 16,
        "maxsize": connections,
        "cert_reqs": "CERT_REQUIRED",
        "ssl_context": tls_context(certificates),
    }
    if proxy is None:
        made = urllib3.PoolManager(**keywords)
    else:
        headers = {"User-Agent": USER_AGENT}
        if proxy.authorization is not None:
            headers["Proxy-Authorization"] = proxy.authorization.reveal()
        made = urllib3.ProxyManager(str(proxy), proxy_headers=headers, use_forwarding_for_https=False, **keywords)
    made.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return made


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)

    def _tunnel(self) -> None:
        # A private method of http.client, the only place between the end of CONNECT and the start of TLS.
        try:
            super()._tunnel()
        except TooMuch:
            endless = OSError(0, "its answer exceeds the size limit")
            raise ProxyError("the proxy did not open a tunnel", endless) from None
        except (OSError, HTTPException) as error:
            raise ProxyError("the proxy did not open a tunnel", error) from error
        finally:
            # Until here, nothing was sent to the server itself.
            exchange_under_way.get().sent = False


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _connected(connection: HTTPConnection) -> socket.socket:
    try:
        return connect(connection.host, connection.port or connection.default_port)
    except OSError as error:
        if connection.proxy is not None:
            raise ProxyError("the proxy is not reached", error) from error
        # urllib3 would ignore a bare ECONNRESET or EPIPE, and then read without a socket.
        raise ProtocolError("no connection", error) from error
