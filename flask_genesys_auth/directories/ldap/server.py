"""One server of a directory, asked within one share of the time: with the connections that it takes."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...upstream import Deadline, Exchange, exchanging
from .connection import Connection
from .pool import Pool
from .results import SUCCESS, policy_error, refused_service

if TYPE_CHECKING:
    from ...config.addresses import LdapServer
    from ...config.settings import Ldap

MAX_ANSWER = 256 * 1024
"""Octets that are read for one login: a person with a thousand groups has about a hundred thousand."""


class DirectoryServer:
    """One of the servers of a directory.

    :param address: which.
    :param settings: of the directory.
    :param tls: verifies the server.
    :param connections: how many of each kind are kept.
    """

    def __init__(self, address: LdapServer, settings: Ldap, tls: ssl.SSLContext, *, connections: int) -> None:
        self.address = address
        self.name = str(address)
        self._settings = settings
        self._tls = tls
        self.people = Pool(connections)
        self.service = Pool(connections)

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
        return Connection.open(self.address, deadline, self._tls, start_tls=self._settings.start_tls)

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

    def close(self) -> None:
        """Let go of idle connections; new ones are made when it is asked again."""
        self.people.clear()
        self.service.clear()


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
        server = self._server
        connection = server.service.take() or server.open_for_service(self.deadline)
        with _kept(connection, server.service):
            yield connection

    @contextmanager
    def person(self) -> Iterator[Connection]:
        """Return a connection on which to bind, before anything else."""
        server = self._server
        connection = server.people.take() or server.open(self.deadline)
        connection.seal()
        with _kept(connection, server.people):
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
