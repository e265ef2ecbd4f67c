"""Sockets whose every operation ends by the deadline of the exchange they serve, and read no more than its budget."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_MAX_HEAD = 64 * 1024


class Deadline:
    """The moment by which a step must have its answer, however many requests that takes.

    :param seconds: from now on.
    """

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds left, more than 0.

        :raises TimeoutError: when there are none.
        """
        left = self._end - monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left

    def share(self, parts: int) -> Deadline:
        """Return the deadline of the first of several attempts that share what is left alike."""
        return Deadline(self.left / parts)

    @property
    def left(self) -> float:
        """Return the seconds left, or 0."""
        return max(self._end - monotonic(), 0.0)

    @property
    def generous(self) -> bool:
        """Tell whether at least half of the time is left."""
        return self._end - monotonic() >= self.seconds / 2

    @property
    def spent(self) -> bool:
        """Tell whether no time is left."""
        return self._end <= monotonic()


class TooMuch(Exception):
    """The answer is larger than we read."""


class Exchange:
    """What the sockets must know of the request under way.

    :param sent: whether something went out to the server itself, a proxy on the way to it apart.
    """

    __slots__ = ("_budget", "deadline", "max_body", "sent")

    def __init__(self, deadline: Deadline, max_body: int) -> None:
        self.deadline = deadline
        self.max_body = max_body
        self.sent = False
        self._budget = _MAX_HEAD + max_body

    def received(self, octets: int) -> None:
        """Count what was read.

        :raises TooMuch: when it is more than the head and the body may have.
        """
        self._budget -= octets
        if self._budget < 0:
            raise TooMuch


exchange_under_way: ContextVar[Exchange] = ContextVar("flask_genesys_auth.upstream.exchange")


@contextmanager
def exchanging(exchange: Exchange) -> Iterator[None]:
    """Let the sockets that are used meanwhile keep to this exchange."""
    token = exchange_under_way.set(exchange)
    try:
        yield
    finally:
        exchange_under_way.reset(token)


def tls_context(certificates: str) -> ssl.SSLContext:
    """Return what verifies certificates and host names, and makes bounded sockets.

    :param certificates: in PEM form, the authorities to trust instead of the system's; empty: the system's.
    """
    context = ssl.create_default_context(cadata=certificates or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = BoundedTlsSocket
    return context


class BoundedSocket(socket.socket):
    """A socket on which every operation ends by the deadline of the exchange it serves.

    A time-out of the socket itself begins anew with every byte, so a slow drip would never meet it.
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

    def quiet(self) -> bool:
        """Tell whether nothing has come while nobody waited for anything, not even the end."""
        self.settimeout(0)
        try:
            # Past TLS: nothing that belongs to an answer is read.
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
    """The same over TLS."""


def connect(host: str, port: int) -> BoundedSocket:
    """Return a connection to the first address of a host that takes one, by the deadline.

    :raises OSError: if none does.
    """
    deadline = exchange_under_way.get().deadline
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror("the host is no name") from error
    failure: OSError = OSError("the name has no address")
    for place, (family, kind, protocol, _, address) in enumerate(found):
        try:
            # Of several addresses a dead one must leave time for the next.
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
