"""Lend connections to a SQL database; the state and the accounts share them if they use the same database."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar, Token
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, NoReturn
from weakref import WeakSet

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateIndex, CreateTable

from ..errors import ConfigurationError
from ..processes import PerProcess

CONNECTIONS = 8
"""The most connections that one process opens to a server."""
WRITABLE = "the file and its folder must be writable by the user who runs this"

CREATE_TIMEOUT = 30.0
"""The shortest timeout in seconds for creating tables on a server: an operator waits for that, not a request."""

_LONGEST_FINDING = 400
_RETRY_PAUSE = 0.005
# Taken by a process that creates tables. The number is arbitrary.
_CREATE_LOCK = select(func.pg_advisory_xact_lock(0x67656E65737973))
_deadline: ContextVar[float | None] = ContextVar("flask_genesys_auth_deadline", default=None)
_WAL = "PRAGMA journal_mode = WAL"
_POSTGRESQL_SETTINGS = (
    "SELECT set_config('statement_timeout', '{milliseconds}', false),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    # Our statements all use an index, but before the server has analysed a new table it would scan it.
    " set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),"
    " set_config('enable_mergejoin', 'off', false)"
)


class DatabaseRefusal(SQLAlchemyError):
    """Raised by this module; its text contains no secret."""


class FileReplaced(DatabaseRefusal):
    """The SQLite file is not the one that this process has open."""


class Busy(DatabaseRefusal):
    """Other threads of this process use all connections, or are writing to SQLite; the database may be healthy."""


class _Connections:
    """The connections of one process to a database.

    :ivar file: device and inode of SQLite's file while connections to it may be open, else ``None``.
    :ivar opened: SQLite's open connections.
    :ivar loans: one object for each connection that a thread is using.
    :ivar writing: held by the thread that writes to SQLite. SQLite has no queue, so that some of many threads starve.
    :ivar free: counts the connections to a server that no thread is using.
    :ivar forked_in_use: why this process cannot use SQLite's file, if it cannot.
    """

    def __init__(self, engine: Engine, *, statements: Engine, transactions: Engine) -> None:
        self.engine = engine
        self.statements = statements
        self.transactions = transactions
        self.file: tuple[int, int] | None = None
        self.opened: set[Any] = set()
        self.loans: set[object] = set()
        self.writing = Lock()
        self.free = BoundedSemaphore(CONNECTIONS)
        self.forked_in_use = ""

    def track_opened(self) -> None:
        """Keep :attr:`opened` up to date."""
        event.listen(self.engine, "connect", lambda connection, _: self.opened.add(connection))
        event.listen(self.engine, "close", lambda connection, _: self.opened.discard(connection))
        event.listen(self.engine, "close_detached", lambda connection: self.opened.discard(connection))


_sqlite_databases: WeakSet[Database] = WeakSet()
"""All databases of this process in SQLite; :meth:`Database._close_inherited` closes the connections of all."""


class Database:
    """Lends connections of SQLAlchemy's pool; each process has its own pool.

    :param url: a SQLAlchemy URL; for SQLite, of a file.
    :param timeout: seconds to wait for a free connection, for another writer of SQLite, and for PostgreSQL's answer.
    :param setting: the configuration key that the URL comes from.
    :param drivers: the drivers that it may name, as SQLAlchemy spells them (default: any).
    :param durable: whether SQLite's last changes survive a power cut (``synchronous = FULL``).
    :raises ConfigurationError: if the URL is not valid, or its driver is not installed.
    """

    def __init__(
        self, url: str, timeout: float, *, setting: str, drivers: Sequence[str] = (), durable: bool = True
    ) -> None:
        self._address = address = _address(url, setting, drivers)
        self._timeout = timeout
        self._durable = durable
        self.path = Path(str(address.database)) if address.get_backend_name() == "sqlite" else None
        self.name = str(self.path) if self.path else _shown(address)
        self._secrets = [
            one
            for one in (address.password, address.query.get("password"), address.query.get("sslpassword"))
            if isinstance(one, str)
        ]
        self._connections = PerProcess(self._connect_lazily)
        if self.path is not None:
            _sqlite_databases.add(self)
        try:
            self._connections.get()
        except (ImportError, SQLAlchemyError) as error:
            raise ConfigurationError(f"{setting}: {address.drivername} cannot be used: {error}") from None
        if _is_psycopg(address):
            _check_options(address, setting)

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    def statements(self, *, changes: bool = False) -> AbstractContextManager[Connection]:
        """Lend a connection on which each statement is its own transaction.

        :param changes: whether a statement changes data: SQLite's writers of this process take turns.
        """
        connections = self._connections.get()
        return self._lent(connections, connections.statements, changes)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend a connection for one transaction; an exception rolls it back."""
        connections = self._connections.get()
        with self._lent(connections, connections.transactions, True) as connection, connection.begin():
            yield connection

    def make_tables(self, metadata: MetaData, then: Callable[[Connection], None] = lambda _: None) -> None:
        """Create missing tables, and the SQLite file; several processes may do this at the same time.

        :param then: called in the same transaction, after the tables.
        :raises OSError: if the SQLite file cannot be created.
        :raises SQLAlchemyError: if the database cannot be reached or written.
        """
        timeout = self._timeout if self.path else max(self._timeout, CREATE_TIMEOUT)
        with TimeLimit(timeout):
            self._make_file()
            with self.transaction() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text(f"SET LOCAL statement_timeout = {int(1000 * timeout)}"))
                    connection.execute(_CREATE_LOCK)
                if connection.dialect.name in {"postgresql", "sqlite"}:
                    for table in metadata.sorted_tables:
                        connection.execute(CreateTable(table, if_not_exists=True))
                        for index in table.indexes:
                            connection.execute(CreateIndex(index, if_not_exists=True))
                else:
                    metadata.create_all(connection)
                then(connection)

    def _make_file(self) -> None:
        """Create the SQLite file and its folders if they are missing, and switch it to WAL mode."""
        if self.path is None:
            return
        if self._connections.get().file is None and not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Only the owner may read sessions and password hashes. SQLite copies the mode to its other two files.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        deadline = time.monotonic() + self._timeout
        with self.statements() as connection:
            # SQLite's busy timeout does not apply to this statement.
            while time.monotonic() < deadline:
                with suppress(OperationalError):
                    connection.exec_driver_sql(_WAL)
                    return
                time.sleep(_RETRY_PAUSE)
            connection.exec_driver_sql(_WAL)

    def close(self) -> None:
        """Close the connections of this process; the next call opens new ones."""
        connections = self._connections.made()
        if connections is not None:
            connections.engine.dispose()
            connections.file = None

    def finding(self, error: SQLAlchemyError | OSError) -> str:
        """Return the error's text without secrets and, if the cause is known, with advice."""
        said = str(error)
        if isinstance(error, DBAPIError):
            said = str(error.orig).partition("\n")[0] or type(error.orig).__name__
        elif isinstance(error, SQLAlchemyError) and not isinstance(error, DatabaseRefusal):
            said = type(error).__name__
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return said[:_LONGEST_FINDING] + self._advice(said)

    def _advice(self, said: str) -> str:
        if self.path is None:
            return ""
        if "readonly" in said or "unable to open" in said:
            # Readers also write: to the index of the write-ahead log, beside the file.
            return f"; {WRITABLE}"
        if "is full" in said or "disk I/O" in said:
            return f"; free space on the disk of {self.path.parent}, and check quotas and limits"
        return ""

    @contextmanager
    def _lent(self, connections: _Connections, engine: Engine, changes: bool) -> Iterator[Connection]:
        turn = self._wait_for_turn(connections, changes)
        loan = object()
        connections.loans.add(loan)
        try:
            file = self._same_file(connections)
            pool = engine.pool
            connection = engine.connect()
            try:
                yield connection
            finally:
                if engine.pool is not pool and not connection.closed and not connection.invalidated:
                    # close() has closed the pool that this connection belongs to.
                    connection.detach()
                connection.close()
            if engine.pool is pool:
                connections.file = file
        finally:
            connections.loans.discard(loan)
            if turn is not None:
                turn.release()

    def _wait_for_turn(self, connections: _Connections, changes: bool) -> Lock | BoundedSemaphore | None:
        """Wait until this thread may use a connection; return what it must release afterwards.

        :raises Busy: if other threads of this process take too long.
        """
        left = seconds_left(self._timeout)
        if self.path is None:
            # The server has the other half of the time. Otherwise this wait would count as the server's timeout.
            if not connections.free.acquire(timeout=left / 2):
                raise Busy(f"all {CONNECTIONS} connections of this process are in use")
            return connections.free
        if connections.forked_in_use:
            raise DatabaseRefusal(connections.forked_in_use)
        if not changes:
            return None
        if not connections.writing.acquire(timeout=left):
            raise Busy(f"database is locked: threads of this process have been writing for {self._timeout:g} s")
        return connections.writing

    def _same_file(self, connections: _Connections) -> tuple[int, int] | None:
        """Return device and inode of the SQLite file.

        :raises FileReplaced: if connections are open to another file, so that their changes would be lost.
        """
        if self.path is None:
            return None
        try:
            found = self.path.stat()
            file = found.st_dev, found.st_ino
        except OSError:
            file = None
        if connections.file is not None and file != connections.file:
            connections.engine.dispose()
            if file is None:
                raise FileReplaced(
                    f"{self.path} was moved away or deleted while this process used it; put it back, or restart the "
                    "application to begin with an empty one"
                )
            raise FileReplaced(
                f"{self.path} was replaced while this process used it; restart the application to use the new file"
            )
        return file

    def _connect_lazily(self) -> _Connections:
        """Return an engine for this process, which connects at its first loan."""
        sqlite = self.path is not None
        # For other databases SQLAlchemy learns the default level only from a connection.
        level = {"sqlite": "SERIALIZABLE", "postgresql": "READ COMMITTED"}.get(self._address.get_backend_name())
        engine = create_engine(
            self._address,
            poolclass=QueuePool,
            pool_size=CONNECTIONS,
            # SQLite's readers do not wait for writers, nor for a connection.
            max_overflow=-1 if sqlite else 0,
            pool_timeout=self._timeout,
            # A connection to a file does not break while it is idle.
            pool_pre_ping=not sqlite,
            pool_use_lifo=True,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT" if level else None,
            **_options(self._address, self._timeout),
        )
        connections = _Connections(
            engine,
            statements=engine if level else engine.execution_options(isolation_level="AUTOCOMMIT"),
            transactions=engine.execution_options(isolation_level=level) if level else engine,
        )
        if sqlite:
            event.listen(engine, "connect", _sqlite_setup(durable=self._durable))
            if self._address.get_driver_name() == "pysqlite":
                event.listen(engine, "do_connect", _open_existing)
            event.listen(connections.transactions, "begin", _begin_immediate)
            connections.track_opened()
            connections.forked_in_use = self._close_inherited()
        elif self._address.get_backend_name() == "postgresql":
            event.listen(engine, "connect", _postgresql_setup(self._timeout))
            if _is_psycopg(self._address):
                from .psycopg_connection import connector

                event.listen(engine, "do_connect", connector(self._timeout, seconds_left=seconds_left, extend=extend))
        return connections

    def _close_inherited(self) -> str:
        """Close the connections to SQLite that the parent has opened; return why this process cannot use the file.

        SQLite records its locks per process, in memory that a fork copies. With an inherited connection, SQLite takes
        the parent's lock for the child's and locks nothing. When the parent ends, another process then removes the
        write-ahead log that the child writes to. An idle connection can be closed: this releases no lock of the parent,
        because fcntl locks belong to a process. A connection that a thread was using cannot be closed.
        """
        in_use = False
        for database in list(_sqlite_databases):
            for inherited in database._connections.inherited():
                if inherited.loans:
                    in_use = in_use or database.path == self.path
                    continue
                # Other threads may be doing the same.
                for connection in tuple(inherited.opened):
                    inherited.opened.discard(connection)
                    connection.close()
        if not in_use:
            return ""
        return (
            f"a thread was using {self.path} when this process was forked, so that SQLite cannot lock it here; restart "
            "this process, and fork before the first use of the file"
        )


class TimeLimit:
    """Sets the deadline of this thread's connections for a ``with`` block.

    :param seconds: counted from the beginning of the block.
    """

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._token: Token[float | None] = _deadline.set(time.monotonic() + self._seconds)

    def __exit__(self, *_: object) -> None:
        _deadline.reset(self._token)


def seconds_left(default: float) -> float:
    """Return the seconds until the deadline, at least 0.

    :param default: returned if no deadline is set.
    """
    deadline = _deadline.get()
    return default if deadline is None else max(0.0, deadline - time.monotonic())


def extend(seconds: float) -> None:
    """Move the deadline, if one is set, by the seconds of a wait that does not count."""
    deadline = _deadline.get()
    if deadline is not None:
        _deadline.set(deadline + seconds)


def out_of_step(connection: Connection) -> NoReturn:
    """Close a connection that has returned the answer to another statement.

    :raises DatabaseRefusal: always.
    """
    connection.invalidate()
    raise DatabaseRefusal("the connection returned the answer to another statement and was closed")


def _address(url: str, setting: str, drivers: Sequence[str]) -> URL:
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"{setting}: is not a valid database URL") from None
    if drivers and address.drivername not in drivers:
        raise ConfigurationError(f"{setting}: {address.drivername} is not supported; use one of {', '.join(drivers)}")
    database = address.database or ""
    if address.get_backend_name() == "sqlite" and (database in {"", ":memory:"} or database.startswith("file:")):
        memory = "; to keep the state in memory, use memory://" if setting == "state_url" else ""
        raise ConfigurationError(f"{setting}: must name a SQLite file by its path{memory}")
    return address


def _shown(address: URL) -> str:
    """Return the URL without user, password and query, which may be secret."""
    bare = URL.create(address.drivername, host=address.host, port=address.port, database=address.database)
    return bare.render_as_string()


def _is_psycopg(address: URL) -> bool:
    return address.get_backend_name() == "postgresql" and address.get_driver_name() == "psycopg"


def _check_options(address: URL, setting: str) -> None:
    """Refuse options that libpq would refuse at the first connection."""
    import psycopg
    from psycopg.conninfo import make_conninfo

    _, options = address.get_dialect()().create_connect_args(address)
    try:
        make_conninfo(**{name: value for name, value in options.items() if name != "context"})
    except psycopg.ProgrammingError:
        raise ConfigurationError(f"{setting}: has an option that libpq does not know") from None


def _options(address: URL, timeout: float) -> dict[str, Any]:
    """Return the options of ``create_engine`` that depend on the driver."""
    if address.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": timeout, "check_same_thread": False}}
    if _is_psycopg(address):
        named = {"client_encoding": "UTF8", "fallback_application_name": "flask-genesys-auth"}
        return {"connect_args": named, "use_native_hstore": False}
    if address.get_backend_name() == "postgresql" and address.get_driver_name() == "psycopg2":
        limits = {"connect_timeout": max(2, math.ceil(timeout)), "tcp_user_timeout": max(2000, int(timeout * 1000))}
        return {"connect_args": limits}
    return {}


def _open_existing(_: object, __: object, arguments: list[Any], options: dict[str, Any]) -> sqlite3.Connection:
    """Open the SQLite file without creating it, which would give it another mode and no tables."""
    opened: sqlite3.Connection = sqlite3.connect(
        f"{Path(arguments[0]).absolute().as_uri()}?mode=rw", **{**options, "uri": True}
    )
    return opened


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _sqlite_setup(*, durable: bool) -> Callable[[Any, object], None]:
    def set_up(connection: Any, _: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")

    return set_up


def _postgresql_setup(timeout: float) -> Callable[[Any, object], None]:
    settings = _POSTGRESQL_SETTINGS.format(milliseconds=max(1, int(timeout * 1000)))

    def set_up(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(settings)
        connection.commit()

    return set_up
