"""One server of a directory: its idle connections, the calls of a login, and its health checks.

Connections of two kinds are never mixed: those bound as the service account, which search and read, and those on which
users are bound. On the latter every login binds before anything else, so that no request acts as the previous user.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING

from ...checks import Check
from ...config.settings import CONCURRENT_CALLS
from ...processes import PerProcess
from ...upstream import Deadline, Exchange, advice, exchanging, tls_context
from .connection import Connection, NoAnswer, check_service_bind

if TYPE_CHECKING:
    from ...config.addresses import LdapServer
    from ...config.settings import Ldap

MAX_ANSWER = 256 * 1024
"""Octets that are read for one login: a user with a thousand groups has about a hundred thousand."""
LONGEST_IDLE = 60.0
"""Seconds after which an idle connection is not used again: firewalls drop idle connections silently."""
LONGEST_LIFE = 600.0
"""Seconds after which a connection is replaced, so that changed addresses and access rights take effect."""


class Pool:
    """The idle connections of one kind to one server, in one process; last in, first out."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = Lock()
        self._idle: list[Connection] = []
        # Not at exit: a child must not end connections that its parent uses.
        weakref.finalize(self, _close_own, self._idle, os.getpid()).atexit = False

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> Connection | None:
        """Return an idle connection that still works, or ``None``."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            now = self._clock()
            fresh = now - connection.used < LONGEST_IDLE and now - connection.opened < LONGEST_LIFE
            if fresh and connection.idle:
                return connection
            connection.close()

    def give(self, connection: Connection) -> None:
        """Keep a connection on which nothing has failed."""
        connection.used = self._clock()
        with self._lock:
            kept = len(self._idle) < self._most
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close()

    def clear(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle = self._idle[:]
            self._idle.clear()
        for connection in idle:
            connection.close()


def _close_own(connections: list[Connection], process: int) -> None:
    """Close the connections that this process has opened: a child would end those of its parent."""
    if os.getpid() == process:
        for connection in connections:
            connection.close()


class _Connections:
    """The idle connections of one process to one server, and the TLS context with its session cache.

    :param certificates: as for :func:`~flask_genesys_auth.upstream.tls_context`; ``None``: without TLS.
    """

    def __init__(self, certificates: str | None, most: int, clock: Callable[[], float]) -> None:
        self.tls = None if certificates is None else tls_context(certificates)
        self.users = Pool(most, clock=clock)
        self.service = Pool(most, clock=clock)


class DirectoryServer:
    """One of the servers of a directory.

    :param certificates: the authorities to trust, in PEM; empty: the system's.
    """

    def __init__(
        self,
        address: LdapServer,
        settings: Ldap,
        *,
        certificates: str = "",
        connections: int = CONCURRENT_CALLS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self.name = str(address)
        self._settings = settings
        self._clock = clock
        trusted = certificates if address.tls or settings.start_tls else None
        self._connections = PerProcess(lambda: _Connections(trusted, connections, clock))

    def __repr__(self) -> str:
        return f"DirectoryServer({self.name!r})"

    @contextmanager
    def call(self, deadline: Deadline) -> Iterator[Call]:
        """Begin the calls of one login, which end by this deadline."""
        with exchanging(Exchange(deadline, MAX_ANSWER)):
            yield Call(self, deadline)

    def open(self, deadline: Deadline) -> Connection:
        """Return a new anonymous connection; to be called within :meth:`call`.

        :raises NoAnswer: if there is no connection.
        """
        tls = self._connections.get().tls
        connection = Connection.open(self.address, deadline, tls, start_tls=self._settings.start_tls)
        connection.opened = self._clock()
        return connection

    def open_as_service(self, deadline: Deadline) -> Connection:
        """Return a new connection bound as the service account, or anonymous without one.

        :raises NoAnswer: if there is no connection, or the account is rejected.
        """
        connection = self.open(deadline)
        settings = self._settings
        if settings.bind_password is None:
            return connection
        try:
            check_service_bind(connection.bind(settings.bind_dn, settings.bind_password.reveal(), counts=False))
        except BaseException:
            connection.close()
            raise
        return connection

    def idle(self) -> tuple[Pool, Pool]:
        """Return the idle connections of this process: those of users, and those of the service account."""
        connections = self._connections.get()
        return connections.users, connections.service

    def close(self) -> None:
        """Close the idle connections of this process; the next login opens new ones."""
        connections = self._connections.made()
        if connections is not None:
            connections.users.clear()
            connections.service.clear()


class Call:
    """The calls of one login to one server."""

    def __init__(self, server: DirectoryServer, deadline: Deadline) -> None:
        self._server = server
        self.deadline = deadline

    @contextmanager
    def service(self) -> Iterator[Connection]:
        """Return a connection for searches and reads, as the service account or anonymous."""
        _, pool = self._server.idle()
        connection = pool.take() or self._server.open_as_service(self.deadline)
        with _kept(connection, pool):
            yield connection

    @contextmanager
    def user(self) -> Iterator[Connection]:
        """Return a connection on which a user must be bound before anything else."""
        pool, _ = self._server.idle()
        connection = pool.take() or self._server.open(self.deadline)
        connection.require_bind()
        with _kept(connection, pool):
            yield connection


@contextmanager
def _kept(connection: Connection, pool: Pool) -> Iterator[None]:
    """Give the connection to the pool, or close it after an error."""
    try:
        yield
    except BaseException:
        connection.close()
        raise
    pool.give(connection)


def directory_checks(name: str, settings: Ldap, servers: Sequence[DirectoryServer], timeout: float) -> Iterator[Check]:
    """Yield the health checks of a directory.

    :param name: the prefix of the checks' names.
    """
    for server in servers:
        yield from _server_checks(f"{name}.{server.name}", settings, server, timeout)
        if not (server.address.tls or settings.start_tls or server.address.loopback):
            yield Check(
                f"{name}.{server.name}.allow_plain",
                "warning",
                "passwords cross the network without encryption",
                "use ldaps:// or start_tls = true, then remove allow_plain",
            )


def _server_checks(name: str, settings: Ldap, server: DirectoryServer, timeout: float) -> Iterator[Check]:
    deadline = Deadline(timeout)
    with server.call(deadline):
        began = perf_counter()
        try:
            with closing(server.open(deadline)) as connection:
                _read_root(connection, deadline)
                tls = connection.tls_version or "no TLS"
        except NoAnswer as missed:
            yield _failure(name, missed)
            return
        milliseconds = (perf_counter() - began) * 1000
        yield Check(name, "ok", f"connected and answered in {milliseconds:.0f} ms, {tls}")
        if settings.bind_password is not None or settings.base or settings.group_base:
            yield from _service_checks(name, settings, server, deadline)


def _read_root(connection: Connection, deadline: Deadline) -> None:
    """Read the root entry; any result shows that the server works, also a refusal.

    :raises NoAnswer: if there was no result.
    """
    try:
        connection.read("", [], deadline)
    except NoAnswer as missed:
        if missed.code is None:
            raise


def _service_checks(name: str, settings: Ldap, server: DirectoryServer, deadline: Deadline) -> Iterator[Check]:
    try:
        connection = server.open_as_service(deadline)
    except NoAnswer as missed:
        yield _failure(f"{name}.bind_dn", missed)
        return
    with closing(connection):
        if settings.bind_password is not None:
            yield Check(f"{name}.bind_dn", "ok", f"{settings.bind_dn} is bound")
        for key in ("base", "group_base"):
            if getattr(settings, key):
                yield _base_check(f"{name}.{key}", getattr(settings, key), connection, deadline)


def _failure(name: str, missed: NoAnswer) -> Check:
    detail = missed.outcome.detail
    has_advice = "bind_dn is rejected" in detail or "; " in detail
    told = "follow the advice in the finding" if has_advice else advice(detail)
    return Check(name, "failure", detail, f"{told}; until then users cannot log in with this server")


def _base_check(name: str, base: str, connection: Connection, deadline: Deadline) -> Check:
    fix = "correct it, or let bind_dn read it (the directory's access rules)"
    try:
        found = connection.read(base, [], deadline)
    except NoAnswer as missed:
        return Check(name, "failure", f"{base}: {missed.outcome.detail}", fix)
    if found is None:
        return Check(name, "failure", f"{base} does not exist, or bind_dn may not read it", fix)
    return Check(name, "ok", f"{base} exists")
