"""The one HTTP client for the servers a step asks: one deadline, one size limit, no surprises.

It follows no redirect, repeats no request, reads no proxy from the environment, verifies certificates, and answers
with values: an :class:`Answer`, or :class:`~flask_genesys_auth.chain.decision.Unavailable`.
"""

from __future__ import annotations

import socket
import ssl
import zlib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .chain.decision import Reason, Unavailable
from .forks import watch_forks

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

MAX_BODY = 64 * 1024
_MAX_HEAD = 64 * 1024
_PIECE = 16 * 1024
_DEFAULT_RETRY_AFTER = 5
_MAX_RETRY_AFTER = 300
_MAX_DETAIL = 120
_TIMEOUTS = (TimeoutError, urllib3.exceptions.TimeoutError)
_DECODERS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered, whatever it thinks of the question.

    :param status: any but 408, 429 and 5xx.
    :param headers: by name, without regard to case.
    :param body: within the limit of whoever asked, its content coding undone.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Deadline:
    """The moment by which a step must have its answer, however many requests that takes.

    :param seconds: from now on.
    """

    __slots__ = ("_end",)

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds left, more than 0.

        :raises TimeoutError: when there are none.
        """
        left = self._end - monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left


class _TooMuch(Exception):
    """The answer is larger than we read."""


class _Exchange:
    """What the sockets must know of the request under way."""

    __slots__ = ("_budget", "deadline", "max_body", "sent")

    def __init__(self, deadline: Deadline, max_body: int) -> None:
        self.deadline = deadline
        self.max_body = max_body
        self.sent = False
        self._budget = _MAX_HEAD + max_body

    def received(self, octets: int) -> None:
        self._budget -= octets
        if self._budget < 0:
            raise _TooMuch


_exchange: ContextVar[_Exchange] = ContextVar("flask_genesys_auth.upstream.exchange")


class _BoundedSocket(socket.socket):
    """A socket on which every operation ends by the deadline of the exchange it serves.

    A time-out of the socket itself begins anew with every byte, so a slow drip would never meet it.
    """

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        exchange = _exchange.get()
        self.settimeout(exchange.deadline.remaining())
        octets = super().recv_into(buffer, nbytes or memoryview(buffer).nbytes, flags)
        exchange.received(octets)
        return octets

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        exchange = _exchange.get()
        self.settimeout(exchange.deadline.remaining())
        exchange.sent = True
        super().sendall(data, flags)


class _BoundedTlsSocket(_BoundedSocket, ssl.SSLSocket):
    """The same over TLS."""


def _connect(host: str, port: int) -> socket.socket:
    deadline = _exchange.get().deadline
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror("the host is no name") from error
    failure: OSError = OSError("the name has no address")
    for place, (family, kind, protocol, _, address) in enumerate(found):
        try:
            # Of several addresses a dead one must leave time for the next.
            share = deadline.remaining() / (len(found) - place)
            sock = _BoundedSocket(family, kind, protocol)
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


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self.host, self.port or self.default_port)


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self.host, self.port or self.default_port)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Upstream:
    """A pool of connections to the servers that one step asks.

    :param certificates: a PEM file of the authorities to trust instead of the system's.
    :param connections: how many idle connections are kept for each server.
    """

    def __init__(self, *, certificates: str | None = None, connections: int = 16) -> None:
        self._certificates = certificates
        self._connections = connections
        self._inherited: list[urllib3.PoolManager] = []
        watch_forks(self)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._certificates)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _BoundedTlsSocket
        return context

    @cached_property
    def _pools(self) -> urllib3.PoolManager:
        pools = urllib3.PoolManager(
            num_pools=16,
            maxsize=self._connections,
            cert_reqs="CERT_REQUIRED",
            ssl_context=self._tls,
        )
        pools.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return pools

    def before_fork(self) -> None:
        """Keep everything: connections of the parent stay the parent's."""

    def after_fork(self) -> None:
        """Begin with connections of the child's own; the parent's are kept unused, for their locks may be taken."""
        inherited = self.__dict__.pop("_pools", None)
        if inherited is not None:
            self._inherited.append(inherited)

    def close(self) -> None:
        """Let go of idle connections; new ones are made when it is used again."""
        self._pools.clear()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        deadline: Deadline,
        body: bytes | None = None,
        max_body: int = MAX_BODY,
    ) -> Answer | Unavailable:
        """Send one request, once, and return what came of it.

        :param url: an address that has been checked: http or https, an ASCII host.
        :param max_body: bytes of the answer's body that are read, before and after its content coding is undone.
        :returns: ``Unavailable`` with ``unreachable`` where nothing was sent; ``timed_out`` or ``server_error`` where
            the request went out and no answer came, also for HTTP 408, 429 and 5xx (with ``Retry-After``, RFC 9110
            10.2.3, between 1 and 300 s); ``unreadable_answer`` where it is too large or broken.
        """
        exchange = _Exchange(deadline, max_body)
        token = _exchange.set(exchange)
        try:
            deadline.remaining()
            response = self._pools.urlopen(
                method,
                url,
                body=body,
                headers={"User-Agent": "flask-genesys-auth", "Accept-Encoding": "identity", **headers},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=None,
            )
            try:
                return _read(response, max_body)
            finally:
                # A connection whose answer was read to its end is back in the pool by now; any other is closed.
                response.close()
        except (urllib3.exceptions.HTTPError, OSError, _TooMuch) as error:
            return _failure(_root(error), exchange)
        finally:
            _exchange.reset(token)


def _read(response: urllib3.BaseHTTPResponse, max_body: int) -> Answer | Unavailable:
    status = response.status
    if status in {408, 429} or status >= 500:
        wait = _retry_after(response.headers.get("Retry-After")) if status in {429, 503} else _DEFAULT_RETRY_AFTER
        return Unavailable(
            Reason.SERVER_ERROR, wait, f"the server answered HTTP {status}{_phrase(status)}", uncounted=True
        )
    pieces = bytearray()
    while piece := response.read(_PIECE, decode_content=False):
        pieces += piece
        if len(pieces) > max_body:
            raise _TooMuch
    body = _decode(bytes(pieces), response.headers.get("Content-Encoding", ""), max_body)
    if body is None:
        return Unavailable(Reason.UNREADABLE_ANSWER, detail="the answer's content coding cannot be undone")
    return Answer(status, response.headers, body)


def _decode(body: bytes, coding: str, max_body: int) -> bytes | None:
    """Undo a content coding that nobody asked for, without inflating more than the limit."""
    name = coding.strip().lower()
    if name in {"", "identity"}:
        return body
    if name not in _DECODERS:
        return None
    decoder = zlib.decompressobj(_DECODERS[name])
    try:
        plain = decoder.decompress(body, max_body + 1)
    except zlib.error:
        return None
    if len(plain) > max_body:
        raise _TooMuch
    return plain if decoder.eof else None


def _retry_after(header: str | None) -> int:
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return _DEFAULT_RETRY_AFTER
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        seconds = (moment - datetime.now(timezone.utc)).total_seconds()
    return round(min(max(seconds, 1), _MAX_RETRY_AFTER))


def _failure(error: BaseException, exchange: _Exchange) -> Unavailable:
    if isinstance(error, _TooMuch):
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the answer is larger than {exchange.max_body} bytes")
    if not exchange.sent:
        return Unavailable(Reason.UNREACHABLE, detail=f"no connection: {_explain(error)}")
    if isinstance(error, _TIMEOUTS):
        return Unavailable(Reason.TIMED_OUT, detail="no whole answer in time")
    if isinstance(error, OSError):
        return Unavailable(Reason.SERVER_ERROR, detail=f"the connection broke: {_explain(error)}")
    return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the answer is broken off or no HTTP ({type(error).__name__})")


def _root(error: BaseException) -> BaseException:
    """Return what an error of urllib3 was made from."""
    inner = next((part for part in error.args if isinstance(part, BaseException)), None)
    return error if inner is None or inner is error else _root(inner)


def _explain(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused, {printable(error.verify_message)}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed, {printable(error.reason or '')}"
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, _TIMEOUTS):
        return "not within the time allowed"
    return printable(getattr(error, "strerror", None) or type(error).__name__)


def printable(text: str, limit: int = _MAX_DETAIL) -> str:
    """Return text from outside as a log may hold it: visible ASCII and single spaces, of bounded length.

    :param limit: characters.
    """
    shown = "".join(character if " " <= character <= "~" else " " for character in text[: 4 * limit])
    squeezed = " ".join(shown.split())
    return squeezed if len(squeezed) <= limit else squeezed[: limit - 3] + "..."


def _phrase(status: int) -> str:
    try:
        return f" ({HTTPStatus(status).phrase})"
    except ValueError:
        return ""
