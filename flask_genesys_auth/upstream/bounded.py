"""Sockets whose every operation ends by the deadline of the exchange they serve, and read no more than its budget."""

from __future__ import annotations

import socket
import ssl
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
