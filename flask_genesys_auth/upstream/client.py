"""The HTTP client for the servers behind the steps: one deadline, one size limit, a value for every outcome."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import responses
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import ProxyError

from ..chain.outcomes import Reason, Unavailable
from ..checks import Check
from ..processes import PerProcess
from .breaker import Guard
from .connections import TIMEOUTS, USER_AGENT, Deadline, Exchange, TooMuch, exchanging, explain, pools, printable

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self
    from urllib3 import BaseHTTPResponse

    from ..config.addresses import Proxy
    from ..config.settings import ConfigurationServer, Salesforce
    from .breaker import Passage

MAX_BODY = 64 * 1024
NOT_NOW = frozenset({408, 429})
"""Statuses that say nothing about the server's health."""

_PIECE = 16 * 1024
_DEFAULT_RETRY_AFTER = 5
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: ([0-9]{3})\b")
"""The message of http.client for a proxy that refuses; the proxy writes the rest of it."""
_MAX_RETRY_AFTER = 300
_PORTS = {"https": 443, "http": 80}
_ADVICE = {
    "proxy is for https only": "use https there, or remove proxy",
    "certificate is refused": "give it a certificate for its host name from a trusted authority, or put the "
    "authority's certificate into ca_file",
    "TLS failed": "it does not support TLS 1.2 on this port: check its port, and whether its URL should use TLS",
    "does not resolve": "check the host name in its URL, and this machine's name servers",
    "the proxy": "check proxy: its URL, the servers it allows, its user and password",
    "refused": "nothing listens there: check the host and port of its URL, and whether it runs",
    "ended the connection": "check its port, whether it requires TLS from the start, and its own log",
    "no complete answer": "it accepts connections but does not answer: check that server, or raise timeout",
    "timed out": "check the network to it (firewall, proxy), or raise timeout",
    "answered HTTP": "the server has a fault: check its log",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer.

    :param status: any except 408, 429 and 5xx.
    :param headers: by name, case-insensitive.
    :param body: within the caller's limit, without a content coding.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Upstream:
    """An HTTP client with pooled connections, and a :class:`Guard` in front of its servers.

    :param certificates: the authorities to trust, in PEM; empty: the system's.
    :param proxy: the proxy for every server; http URLs are then refused.
    """

    def __init__(
        self,
        *,
        certificates: str = "",
        proxy: Proxy | None = None,
        connections: int = 16,
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard or Guard()
        self._proxied = proxy is not None
        self._pools = PerProcess(lambda: pools(certificates, proxy, connections))

    def close(self) -> None:
        """Close the idle connections of this process; the next request opens new ones."""
        pools = self._pools.made()
        if pools is not None:
            pools.clear()

    def visit(self, url: str, deadline: Deadline, *, part: str = "") -> Visit | Unavailable:
        """Begin requests to one server that count as one call; to be used as a context manager at once.

        :param url: any URL of that server.
        :param part: as for :meth:`Guard.enter`.
        :returns: ``Unavailable`` with ``circuit_open`` or ``upstream_busy`` if nothing may be sent.
        """
        passage = self._guard.enter(_server(url), part, within=deadline.left)
        return passage if isinstance(passage, Unavailable) else Visit(self, passage, deadline)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        deadline: Deadline,
        body: bytes | None = None,
        max_body: int = MAX_BODY,
        part: str = "",
    ) -> Answer | Unavailable:
        """Send a single request: a :meth:`visit` with one :meth:`Visit.send`."""
        visit = self.visit(url, deadline, part=part)
        if isinstance(visit, Unavailable):
            return visit
        with visit:
            return visit.send(method, url, headers=headers, body=body, max_body=max_body)

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, exchange: Exchange
    ) -> _Result:
        if self._proxied and urlsplit(url).scheme != "https":
            detail = f"no connection: {_server(url)} is not https, and proxy is for https only"
            return _Result(Unavailable(Reason.UNREACHABLE, detail=detail))
        status = None
        try:
            with exchanging(exchange):
                exchange.deadline.remaining()
                response = self._pools.get().urlopen(
                    method,
                    url,
                    body=body,
                    headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=None,
                )
                status = response.status
                try:
                    outcome = read(response, exchange.max_body)
                finally:
                    # If the answer was read to its end, the connection is back in the pool; otherwise this closes it.
                    response.close()
        except ProxyError as error:
            return _Result(Unavailable(Reason.UNREACHABLE, detail=f"no connection: {_of_proxy(error)}"))
        except (urllib3.exceptions.HTTPError, OSError, TooMuch) as error:
            return _Result(failure(error, exchange), status, healthy=False)
        return _Result(outcome, status, healthy=None if status in NOT_NOW else isinstance(outcome, Answer))


class _Result(NamedTuple):
    """The result of a request.

    :param status: the status of the answer, if any.
    :param healthy: whether the server is healthy; ``None``: not known.
    """

    outcome: Answer | Unavailable
    status: int | None = None
    healthy: bool | None = None


_Key = tuple[str, "Proxy | None", int, float]


class Upstreams:
    """The clients and guards of an application.

    Contact centers with the same connection settings share them, so that their calls to a server are limited together.
    """

    def __init__(self) -> None:
        self._clients: dict[_Key, Upstream] = {}
        self._guards: dict[_Key, Guard] = {}

    def of(self, settings: Salesforce | ConfigurationServer) -> Upstream:
        """Return the HTTP client for these settings."""
        key = _key(settings)
        if key not in self._clients:
            guard = self.guard(settings)
            self._clients[key] = Upstream(certificates=settings.ca_file, proxy=settings.proxy, guard=guard)
        return self._clients[key]

    def guard(self, settings: Salesforce | ConfigurationServer) -> Guard:
        """Return the guard for these settings, for any protocol."""
        return self._guards.setdefault(_key(settings), Guard(concurrent=settings.concurrent_calls))

    def clear(self) -> None:
        """Close every circuit."""
        for guard in self._guards.values():
            guard.clear()


def _key(settings: Salesforce | ConfigurationServer) -> _Key:
    return (settings.ca_file, settings.proxy, settings.concurrent_calls, settings.timeout)


class Visit:
    """Requests to one server with one deadline that count as one call; a context manager.

    A timeout does not count as a failure if more than half of the deadline had passed before the visit began: then
    another server was slow.
    """

    def __init__(self, client: Upstream, passage: Passage, deadline: Deadline) -> None:
        self._client = client
        self._passage = passage
        self._deadline = deadline
        self._had_time = deadline.half_left

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._passage.__exit__(kind, error, trace)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        max_body: int = MAX_BODY,
    ) -> Answer | Unavailable:
        """Send one request, without retries.

        :param url: a checked URL of this server: http or https, with an ASCII host.
        :param max_body: bytes of the answer's body that are read.
        :returns: ``Unavailable`` with ``unreachable`` if nothing was sent to the server, also because of a proxy;
            ``timed_out`` or ``server_error`` if no answer came, and for HTTP 408, 429 and 5xx (with ``Retry-After``,
            RFC 9110 10.2.3, between 1 and 300 s); ``unreadable_answer`` if it is too large, encoded or incomplete.
        """
        result = self._client._request(method, url, headers, body, Exchange(self._deadline, max_body))
        if result.healthy:
            self._passage.answered()
        elif result.healthy is False and (self._had_time or not self._deadline.spent):
            self._passage.failed(result.outcome.detail if isinstance(result.outcome, Unavailable) else "")
        return result.outcome


def _server(url: str) -> str:
    """Return the scheme, host and port of a URL."""
    found = urlsplit(url)
    host = found.hostname or ""
    return f"{found.scheme}://{f'[{host}]' if ':' in host else host}:{found.port or _PORTS[found.scheme]}"


def probe(
    client: Upstream,
    method: str,
    url: str,
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    max_body: int = MAX_BODY,
) -> tuple[Answer | Unavailable, int | None, float]:
    """Send one request for a health check; it bypasses the guard.

    :returns: the outcome, the status of the answer if any, and the seconds that it took.
    """
    began = perf_counter()
    exchange = Exchange(Deadline(seconds), max_body)
    result = client._request(method, url, headers or {}, body, exchange)
    return result.outcome, result.status, perf_counter() - began


def reach_check(
    name: str, server: str, outcome: Answer | Unavailable, status: int | None, taken: float, seconds: float
) -> Check:
    """Return the check of a server: any answer below HTTP 500 shows that it is reachable.

    :param taken: seconds; more than half of the ``seconds`` allowed is slow.
    """
    if status is None or status >= 500:
        detail = outcome.detail if isinstance(outcome, Unavailable) else ""
        return Check(name, "failure", f"{server}: {detail}", advice(detail))
    finding = f"{server} answered HTTP {status} after {1000 * taken:.0f} ms"
    if taken > seconds / 2:
        return Check(name, "warning", f"{finding}; timeout is {seconds:g} s", "check why it is slow, or raise timeout")
    return Check(name, "ok", finding)


def advice(detail: str) -> str:
    """Return what an operator can do about an unreachable server."""
    for words, what_to_do in _ADVICE.items():
        if words in detail:
            return what_to_do
    return "check its URL, and the network to it (firewall, proxy)"


def read(response: BaseHTTPResponse, max_body: int) -> Answer | Unavailable:
    """Read a server's answer. An answer with a content coding is refused, because none was requested.

    :param max_body: bytes of the body that are read.
    :raises TooMuch: if the body is longer. Errors of urllib3 and the sockets pass, too.
    """
    status = response.status
    if status in NOT_NOW or status >= 500:
        wait = _retry_after(response.headers.get("Retry-After")) if status in {429, 503} else _DEFAULT_RETRY_AFTER
        phrase = f" ({responses[status]})" if status in responses else ""
        return Unavailable(Reason.SERVER_ERROR, wait, f"the server answered HTTP {status}{phrase}", uncounted=True)
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in {"", "identity"}:
        detail = f"the answer is encoded ({printable(coding, 40)}), although identity was requested"
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=detail)
    body = bytearray()
    while piece := response.read(_PIECE, decode_content=False):
        body += piece
        if len(body) > max_body:
            raise TooMuch
    return Answer(status, response.headers, bytes(body))


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


def failure(raised: BaseException, exchange: Exchange) -> Unavailable:
    """Return the outcome of a request that an error of urllib3 or of the sockets has ended."""
    error = _root(raised)
    if isinstance(error, TooMuch):
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the answer is larger than {exchange.max_body} bytes")
    if not exchange.sent:
        return Unavailable(Reason.UNREACHABLE, detail=f"no connection: {explain(error)}")
    if isinstance(error, TIMEOUTS):
        return Unavailable(Reason.TIMED_OUT, detail="no complete answer before the timeout")
    if isinstance(error, OSError):
        return Unavailable(Reason.SERVER_ERROR, detail=f"the connection failed: {explain(error)}")
    detail = f"the answer is incomplete or not HTTP ({type(error).__name__})"
    return Unavailable(Reason.UNREADABLE_ANSWER, detail=detail)


def _of_proxy(error: ProxyError) -> str:
    cause = error.original_error
    refused = _TUNNEL_REFUSED.match(str(cause))
    return f"the proxy refuses with HTTP {refused[1]}" if refused else f"{error.args[0]}, {explain(cause)}"


def _root(error: BaseException) -> BaseException:
    """Return the cause of an error of urllib3."""
    inner = next((part for part in error.args if isinstance(part, BaseException)), None)
    return error if inner is None or inner is error else _root(inner)
