"""The client itself: pools of bounded connections, behind a guard for each server."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ..chain.decision import Unavailable
from ..processes import PerProcess
from .bounded import Deadline, Exchange, TooMuch, connect, exchanging, tls_context
from .breaker import Guard
from .proxy import tunnel
from .reading import MAX_BODY, NOT_NOW, Answer, failure, read

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from ..config.addresses import Proxy
    from ..config.settings import ConfigurationServer, Salesforce
    from .breaker import Passage

_PORTS = {"https": 443, "http": 80}


def _pools(certificates: str, proxy: Proxy | None, connections: int) -> urllib3.PoolManager:
    tls = tls_context(certificates)

    def reach(host: str, port: int) -> socket.socket:
        try:
            return connect(host, port) if proxy is None else tunnel(proxy, host, port)
        except OSError as error:
            # A bare ECONNRESET or EPIPE urllib3 would pass over, and go on to read from no socket at all.
            raise urllib3.exceptions.ProtocolError("no connection", error) from error

    class Connection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return reach(self.host, self.port or self.default_port)

    class TlsConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return reach(self.host, self.port or self.default_port)

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = TlsConnection

    pools = urllib3.PoolManager(num_pools=16, maxsize=connections, cert_reqs="CERT_REQUIRED", ssl_context=tls)
    pools.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}
    return pools


class Upstream:
    """A pool of connections to the servers that steps ask, and what is known of the health of these.

    :param certificates: in PEM form, the authorities to trust instead of the system's; empty: the system's.
    :param proxy: through which every server is reached.
    :param connections: how many idle connections are kept for each server.
    :param guard: what its calls must pass; default: one of its own.
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
        self._pools = PerProcess(lambda: _pools(certificates, proxy, connections))

    def close(self) -> None:
        """Close the idle connections of this process. The next request opens new ones."""
        pools = self._pools.made()
        if pools is not None:
            pools.clear()

    def visit(self, url: str, deadline: Deadline, *, part: str = "") -> Visit | Unavailable:
        """Return the way to a server for requests that belong together, to be used as a context at once.

        They count as one call, which has failed if any of them has.

        :param url: any address of that server.
        :param part: what can fail there while the rest is well, as :meth:`Guard.enter` has it.
        :returns: ``Unavailable`` with ``circuit_open`` or ``upstream_busy``, without asking anybody, where that server
            has not answered for a while, or too many calls to it are under way.
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
    ) -> tuple[Answer | Unavailable, int | None]:
        """Return what came of a request, and the status that was answered, if any."""
        status = None
        try:
            with exchanging(exchange):
                exchange.deadline.remaining()
                response = self._pools.get().urlopen(
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
                status = response.status
                try:
                    return read(response, exchange.max_body), status
                finally:
                    # A connection whose answer was read to its end is back in the pool by now; any other is closed.
                    response.close()
        except (urllib3.exceptions.HTTPError, OSError, TooMuch) as error:
            return failure(error, exchange), status


class Upstreams:
    """The clients of an application: one for all contact centers that go the same way and wait equally long.

    So the calls to a server that several of them ask are bounded together.
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
        """Return what calls by any protocol must pass that go this way."""
        return self._guards.setdefault(_way(settings), Guard(concurrent=settings.concurrent_calls))

    def clear(self) -> None:
        """Forget which servers do not answer."""
        for guard in self._guards.values():
            guard.clear()


def _way(settings: Salesforce | ConfigurationServer) -> tuple[str, Proxy | None, int, float]:
    return (settings.ca_file, settings.proxy, settings.concurrent_calls, settings.timeout)


class Visit:
    """Requests to one server that belong together, by one deadline; a context.

    What happens to them tells of the server's health, but for a time-out where most of the deadline was spent before
    it was asked: it is not the one that was slow.
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
        :returns: ``Unavailable`` with ``unreachable`` where nothing was sent; ``timed_out`` or ``server_error`` where
            the request went out and no answer came, also for HTTP 408, 429 and 5xx (with ``Retry-After``, RFC 9110
            10.2.3, between 1 and 300 s); ``unreadable_answer`` where it is too large, encoded or broken.
        """
        outcome, status = self._client._ask(method, url, headers, body, Exchange(self._deadline, max_body))
        if isinstance(outcome, Answer):
            self._passage.answered()
        elif status not in NOT_NOW and (self._had_time or not self._deadline.spent):
            self._passage.failed(outcome.detail)
        return outcome


def _server(url: str) -> str:
    """Return what an address names as a server: scheme, host and port."""
    found = urlsplit(url)
    host = found.hostname or ""
    return f"{found.scheme}://{f'[{host}]' if ':' in host else host}:{found.port or _PORTS[found.scheme]}"
