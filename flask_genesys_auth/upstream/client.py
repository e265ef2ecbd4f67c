"""The HTTP client for the servers that steps ask: one deadline, one size limit, a value for every outcome."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
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
"""What a server that is well may answer instead of an answer: it says nothing of its health."""

_PIECE = 16 * 1024
_DEFAULT_RETRY_AFTER = 5
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: ([0-9]{3})\b")
"""How http.client words that a proxy refuses; the rest of its message is the proxy's."""
_MAX_RETRY_AFTER = 300
_PORTS = {"https": 443, "http": 80}
_ADVICE = {
    "proxy is for https only": "use https there, or remove proxy",
    "certificate is refused": "let it show a certificate for its name, of an authority that is trusted here; or name "
    "that authority's own in ca_file",
    "TLS failed": "it speaks no TLS 1.2 there, or none at all: check its port, and whether its address is to ask for "
    "TLS",
    "does not resolve": "check the host's name in its address, and this machine's name servers",
    "the proxy": "check proxy: its address, what it lets through, its user and password",
    "refused": "nothing listens there: check the host and port of its address, and whether it runs",
    "ended the connection": "check its port, whether it wants TLS there from the beginning, and its own log",
    "no whole answer": "it takes connections and says nothing: look there, or raise timeout",
    "in time": "check this machine's way to it (firewall, proxy), or raise timeout",
    "time allowed": "check this machine's way to it (firewall, proxy), or raise timeout",
    "answered HTTP": "the server itself has a fault: look there",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered, whatever it thinks of the question.

    :param status: any but 408, 429 and 5xx.
    :param headers: by name, without regard to case.
    :param body: within the caller's limit, without a content coding.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Upstream:
    """An HTTP client with pooled connections, and a :class:`Guard` in front of its servers.

    :param certificates: in PEM form, the authorities to trust instead of the system's; empty: the system's.
    :param proxy: the proxy through which every server is reached. It is used for https addresses only.
    :param connections: how many idle connections are kept for each server.
    :param guard: limits its calls; default: one of its own.
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
        """Close the idle connections of this process. The next request opens new ones."""
        pools = self._pools.made()
        if pools is not None:
            pools.clear()

    def visit(self, url: str, deadline: Deadline, *, part: str = "") -> Visit | Unavailable:
        """Begin requests to one server that belong together; to be used as a context manager at once.

        They count as one call, which has failed if any of them has.

        :param url: any address of that server.
        :param part: what can fail there by itself, as :meth:`Guard.enter` has it.
        :returns: ``Unavailable`` with ``circuit_open`` or ``upstream_busy``, and nothing is sent, while the server does
            not answer or too many calls to it are under way.
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

    def _ask(
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
                    # A connection whose answer was read to its end is back in the pool by now; any other is closed.
                    response.close()
        except ProxyError as error:
            return _Result(Unavailable(Reason.UNREACHABLE, detail=f"no connection: {_of_proxy(error)}"))
        except (urllib3.exceptions.HTTPError, OSError, TooMuch) as error:
            return _Result(failure(error, exchange), status, healthy=False)
        return _Result(outcome, status, healthy=None if status in NOT_NOW else isinstance(outcome, Answer))


class _Result(NamedTuple):
    """What came of a request.

    :param status: that the server has answered, if any.
    :param healthy: whether the server is well; ``None`` if the request does not show it.
    """

    outcome: Answer | Unavailable
    status: int | None = None
    healthy: bool | None = None


class Upstreams:
    """The clients of an application: contact centers with the same connection settings share one.

    So their calls to the same server are limited together.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[str, Proxy | None, int, float], Upstream] = {}
        self._guards: dict[tuple[str, Proxy | None, int, float], Guard] = {}

    def of(self, settings: Salesforce | ConfigurationServer) -> Upstream:
        """Return the client of a step with these settings."""
        way = _way(settings)
        if way not in self._made:
            guard = self.guard(settings)
            self._made[way] = Upstream(certificates=settings.ca_file, proxy=settings.proxy, guard=guard)
        return self._made[way]

    def guard(self, settings: Salesforce | ConfigurationServer) -> Guard:
        """Return the guard for calls by any protocol with these settings."""
        return self._guards.setdefault(_way(settings), Guard(concurrent=settings.concurrent_calls))

    def clear(self) -> None:
        """Close every circuit."""
        for guard in self._guards.values():
            guard.clear()


def _way(settings: Salesforce | ConfigurationServer) -> tuple[str, Proxy | None, int, float]:
    return (settings.ca_file, settings.proxy, settings.concurrent_calls, settings.timeout)


class Visit:
    """Requests to one server that belong together, by one deadline; a context manager.

    They are reported to the guard, except a timeout where most of the deadline had passed before: then the server was
    not the one that was slow.
    """

    def __init__(self, client: Upstream, passage: Passage, deadline: Deadline) -> None:
        self._client = client
        self._passage = passage
        self._deadline = deadline
        self._had_time = deadline.generous

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
        """Send one request, once, and return what came of it.

        :param url: an address of the server that is visited, which has been checked: http or https, an ASCII host.
        :param max_body: bytes of the answer's body that are read.
        :returns: ``Unavailable`` with ``unreachable`` where nothing was sent to the server, also because of a proxy,
            which says nothing of the server's health; ``timed_out`` or ``server_error`` where
            the request went out and no answer came, also for HTTP 408, 429 and 5xx (with ``Retry-After``, RFC 9110
            10.2.3, between 1 and 300 s); ``unreadable_answer`` where it is too large, encoded or broken.
        """
        result = self._client._ask(method, url, headers, body, Exchange(self._deadline, max_body))
        if result.healthy:
            self._passage.answered()
        elif result.healthy is False and (self._had_time or not self._deadline.spent):
            self._passage.failed(result.outcome.detail if isinstance(result.outcome, Unavailable) else "")
        return result.outcome


def _server(url: str) -> str:
    """Return what an address names as a server: scheme, host and port."""
    found = urlsplit(url)
    host = found.hostname or ""
    return f"{found.scheme}://{f'[{host}]' if ':' in host else host}:{found.port or _PORTS[found.scheme]}"


def ask(
    client: Upstream,
    method: str,
    url: str,
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    max_body: int = MAX_BODY,
) -> tuple[Answer | Unavailable, int | None, float]:
    """Send one request, not counted by the guard, for a check of the server's health.

    :param seconds: within which the answer must have come.
    :returns: what came of it, the status that was answered, if any, and how many seconds it took.
    """
    began = perf_counter()
    exchange = Exchange(Deadline(seconds), max_body)
    result = client._ask(method, url, headers or {}, body, exchange)
    return result.outcome, result.status, perf_counter() - began


def reach_check(
    name: str, server: str, outcome: Answer | Unavailable, status: int | None, taken: float, seconds: float
) -> Check:
    """Return the check of a server: any answer below HTTP 500 shows that it was reached.

    :param server: its address, as it is shown.
    :param taken: seconds; half of the ``seconds`` allowed is slow.
    """
    if status is None or status >= 500:
        detail = outcome.detail if isinstance(outcome, Unavailable) else ""
        return Check(name, "failure", f"{server}: {detail}", advice(detail))
    finding = f"{server} answered HTTP {status} after {1000 * taken:.0f} ms"
    if taken > seconds / 2:
        return Check(name, "warning", f"{finding}, and has {seconds:g} s", "look why it is slow, or raise timeout")
    return Check(name, "ok", finding)


def advice(detail: str) -> str:
    """Return what an operator can do about a server that was not reached.

    :param detail: as :func:`explain` and its callers word it.
    """
    for words, what_to_do in _ADVICE.items():
        if words in detail:
            return what_to_do
    return "check its address, and this machine's way to it (firewall, proxy)"


def read(response: BaseHTTPResponse, max_body: int) -> Answer | Unavailable:
    """Return what a server answered.

    Requests ask for ``Accept-Encoding: identity``; an answer with another content coding is not decoded but refused.

    :param max_body: bytes of the body that are read.
    :raises TooMuch: if the body is longer. What urllib3 and the sockets raise passes, too.
    """
    status = response.status
    if status in NOT_NOW or status >= 500:
        wait = _retry_after(response.headers.get("Retry-After")) if status in {429, 503} else _DEFAULT_RETRY_AFTER
        return Unavailable(
            Reason.SERVER_ERROR, wait, f"the server answered HTTP {status}{_phrase(status)}", uncounted=True
        )
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
    """Return what an error of urllib3 or of the sockets means for the request it ended."""
    error = _root(raised)
    if isinstance(error, TooMuch):
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the answer is larger than {exchange.max_body} bytes")
    if not exchange.sent:
        return Unavailable(Reason.UNREACHABLE, detail=f"no connection: {explain(error)}")
    if isinstance(error, TIMEOUTS):
        return Unavailable(Reason.TIMED_OUT, detail="no whole answer in time")
    if isinstance(error, OSError):
        return Unavailable(Reason.SERVER_ERROR, detail=f"the connection broke: {explain(error)}")
    return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the answer is broken off or no HTTP ({type(error).__name__})")


def _of_proxy(error: ProxyError) -> str:
    cause = error.original_error
    refused = _TUNNEL_REFUSED.match(str(cause))
    return f"the proxy refuses with HTTP {refused[1]}" if refused else f"{error.args[0]}, {explain(cause)}"


def _root(error: BaseException) -> BaseException:
    """Return what an error of urllib3 was made from."""
    inner = next((part for part in error.args if isinstance(part, BaseException)), None)
    return error if inner is None or inner is error else _root(inner)


def _phrase(status: int) -> str:
    try:
        return f" ({HTTPStatus(status).phrase})"
    except ValueError:
        return ""
