"""One server of a directory: its idle connections, the calls of a login, and the checks of its health.

Connections of two kinds are never mixed: those bound as the service account, which search and read, and those on which
users are bound. A caller that takes one of the latter binds before anything else, so that no request acts as the user
before.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING

from ...checks import Check
from ...config.settings import CONCURRENT_CALLS
from ...processes import PerProcess
from ...upstream import Deadline, Exchange, advice, exchanging, tls_context
from .connection import Connection
from .results import SUCCESS, NoAnswer, policy_error, refused_service

if TYPE_CHECKING:
    from ...config.addresses import LdapServer
    from ...config.settings import Ldap

_SAID = ("bind_dn is refused", "; ")
"""Words of a detail that already says what to do."""

MAX_ANSWER = 256 * 1024
"""Octets that are read for one login: a person with a thousand groups has about a hundred thousand."""


LONGEST_IDLE = 60.0
"""Seconds after which an idle connection is not used any more: firewalls drop idle connections silently."""
LONGEST_LIFE = 600.0
"""Seconds after which a connection is replaced, so that changed addresses and access rights take effect."""


class Pool:
    """The idle connections of one kind to one server, in one process; the last returned is the first taken.

    :param most: how many are kept.
    :param clock: returns seconds that never go back, as connections are timed by.
    """

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
        """Return an idle connection that is still good, or ``None``."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if self._good(connection) and connection.quiet:
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

    def _good(self, connection: Connection) -> bool:
        now = self._clock()
        return now - connection.used < LONGEST_IDLE and now - connection.opened < LONGEST_LIFE


def _close_own(connections: list[Connection], process: int) -> None:
    """Close what this process has opened: to close a connection ends it in the parent process, too."""
    if os.getpid() == process:
        for connection in connections:
            connection.close()


class _Connections:
    """What a process has of one server: its idle connections, and the TLS context with its session cache.

    :param certificates: as :func:`~flask_genesys_auth.upstream.tls_context` has it; ``None``: without TLS.
    """

    def __init__(self, certificates: str | None, most: int, clock: Callable[[], float]) -> None:
        self.tls = None if certificates is None else tls_context(certificates)
        self.people = Pool(most, clock=clock)
        self.service = Pool(most, clock=clock)


class DirectoryServer:
    """One of the servers of a directory.

    :param settings: of the directory.
    :param certificates: in PEM form, the authorities to trust instead of the system's; empty: the system's.
    :param connections: how many idle connections of each kind are kept.
    :param clock: returns seconds that never go back; the age of connections is measured by it.
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
    def asked(self, deadline: Deadline) -> Iterator[Call]:
        """Return a way to ask it until then."""
        with exchanging(Exchange(deadline, MAX_ANSWER)):
            yield Call(self, deadline)

    def open(self, deadline: Deadline) -> Connection:
        """Return a new connection, bound as nobody; to be called within an exchange.

        :raises NoAnswer: if there is none to be had.
        """
        tls = self._connections.get().tls
        connection = Connection.open(self.address, deadline, tls, start_tls=self._settings.start_tls)
        connection.opened = self._clock()
        return connection

    def open_for_service(self, deadline: Deadline) -> Connection:
        """Return a new connection bound as the service account, or as nobody where there is none.

        :raises NoAnswer: if there is none to be had, or the account is refused.
        """
        connection = self.open(deadline)
        settings = self._settings
        if settings.bind_password is None:
            return connection
        try:
            result = connection.bind(settings.bind_dn, settings.bind_password.reveal(), counts=False)
            if result.code != SUCCESS or policy_error(result.policy) is not None:
                raise refused_service(result)
        except BaseException:
            connection.close()
            raise
        return connection

    def idle(self) -> tuple[Pool, Pool]:
        """Return the idle connections of this process: those of users, and those of the service account."""
        connections = self._connections.get()
        return connections.people, connections.service

    def close(self) -> None:
        """Close the idle connections of this process. The next login opens new ones."""
        connections = self._connections.made()
        if connections is not None:
            connections.people.clear()
            connections.service.clear()


class Call:
    """What one login does at one server.

    :param deadline: until when.
    """

    def __init__(self, server: DirectoryServer, deadline: Deadline) -> None:
        self._server = server
        self.deadline = deadline

    @contextmanager
    def service(self) -> Iterator[Connection]:
        """Return a connection on which to search and read, as the service account or as nobody."""
        _, pool = self._server.idle()
        connection = pool.take() or self._server.open_for_service(self.deadline)
        with _kept(connection, pool):
            yield connection

    @contextmanager
    def person(self) -> Iterator[Connection]:
        """Return a connection on which to bind, before anything else."""
        pool, _ = self._server.idle()
        connection = pool.take() or self._server.open(self.deadline)
        connection.seal()
        with _kept(connection, pool):
            yield connection


@contextmanager
def _kept(connection: Connection, pool: Pool) -> Iterator[None]:
    """Keep a connection for the next one, unless anything goes wrong with it."""
    try:
        yield
    except BaseException:
        connection.close()
        raise
    pool.give(connection)


def directory_checks(name: str, settings: Ldap, servers: Sequence[DirectoryServer], timeout: float) -> Iterator[Check]:
    """Yield what is to be said of a directory.

    :param name: of the checks, dotted.
    :param timeout: seconds for each server.
    """
    for server in servers:
        yield from _server_checks(f"{name}.{server.name}", settings, server, timeout)
        if not (server.address.tls or settings.start_tls or server.address.loopback):
            yield Check(
                f"{name}.{server.name}.allow_plain",
                "warning",
                "passwords cross the network in the open",
                "give the server ldaps:// or start_tls = true, then remove allow_plain",
            )


def _server_checks(name: str, settings: Ldap, server: DirectoryServer, timeout: float) -> Iterator[Check]:
    deadline = Deadline(timeout)
    with server.asked(deadline):
        began = perf_counter()
        try:
            connection = server.open(deadline)
        except NoAnswer as missed:
            yield _failure(name, missed)
            return
        try:
            check = _connection_check(name, connection, deadline, began)
        finally:
            connection.close()
        yield check
        if check.status == "failure":
            return
        if settings.bind_password is not None or settings.base or settings.group_base:
            yield from _service_checks(name, settings, server, deadline)


def _connection_check(name: str, connection: Connection, deadline: Deadline, began: float) -> Check:
    try:
        connection.read("", [], deadline)
    except NoAnswer as missed:
        if missed.code is None:
            return _failure(name, missed)
    milliseconds = (perf_counter() - began) * 1000
    secured = connection.tls_version or "no TLS"
    return Check(name, "ok", f"connected and answered in {milliseconds:.0f} ms, {secured}")


def _service_checks(name: str, settings: Ldap, server: DirectoryServer, deadline: Deadline) -> Iterator[Check]:
    try:
        connection = server.open_for_service(deadline)
    except NoAnswer as missed:
        yield _failure(f"{name}.bind_dn", missed)
        return
    try:
        if settings.bind_password is not None:
            yield Check(f"{name}.bind_dn", "ok", f"{settings.bind_dn} is bound")
        for key in ("base", "group_base"):
            if getattr(settings, key):
                yield _base_check(f"{name}.{key}", getattr(settings, key), connection, deadline)
    finally:
        connection.close()


def _failure(name: str, missed: NoAnswer) -> Check:
    detail = missed.outcome.detail
    told = "do what it says" if any(words in detail for words in _SAID) else advice(detail)
    return Check(name, "failure", detail, f"{told}; nobody can log in by this server before")


def _base_check(name: str, base: str, connection: Connection, deadline: Deadline) -> Check:
    mend = "mend it, or let bind_dn read it (the directory's access rules)"
    try:
        found = connection.read(base, [], deadline)
    except NoAnswer as missed:
        return Check(name, "failure", f"{base}: {missed.outcome.detail}", mend)
    if found is None:
        return Check(name, "failure", f"{base} is not there, or bind_dn does not see it", mend)
    return Check(name, "ok", f"{base} is there")
