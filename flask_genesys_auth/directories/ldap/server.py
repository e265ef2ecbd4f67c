"""One server of a directory, asked within one share of the time: with the connections that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...config.values import CONCURRENT_CALLS
from ...processes import PerProcess
from ...upstream import Deadline, Exchange, exchanging, tls_context
from .connection import Connection
from .pool import Pool
from .results import SUCCESS, policy_error, refused_service

if TYPE_CHECKING:
    from ...config.addresses import LdapServer
    from ...config.settings import Ldap

MAX_ANSWER = 256 * 1024
"""Octets that are read for one login: a person with a thousand groups has about a hundred thousand."""


class _Connections:
    """What a process has of one server: its idle connections, and the TLS context with its session cache.

    :param certificates: as :func:`~flask_genesys_auth.upstream.tls_context` has it.
    """

    def __init__(self, certificates: str, most: int, clock: Callable[[], float]) -> None:
        self.tls = tls_context(certificates)
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
        self._connections = PerProcess(lambda: _Connections(certificates, connections, clock))

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
