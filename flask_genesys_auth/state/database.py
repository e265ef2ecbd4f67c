"""Connections to a SQL database, which the state and the accounts share where they are in the same one."""

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
"""Connections of one process to a server, at most."""
WRITABLE = "the file and its folder must be writable by the user who runs this"

TABLES_PATIENCE = 30.0
"""Seconds that making tables on a server may take, at least: an operator waits for that, a request does not."""

_LONGEST_FINDING = 400
_RETRY_PAUSE = 0.005
# Of two processes that make tables at once, the second waits. The number is an arbitrary one of ours.
_ALONE = select(func.pg_advisory_xact_lock(0x67656E65737973))
_deadline: ContextVar[float | None] = ContextVar("flask_genesys_auth_deadline", default=None)
_WAL = "PRAGMA journal_mode = WAL"
_POSTGRESQL_SETTINGS = (
    "SELECT set_config('statement_timeout', '{milliseconds}', false),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    # Every statement of ours has an index, also where the server has not yet counted the rows of a new table.
    " set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),"
    " set_config('enable_mergejoin', 'off', false)"
)


class DatabaseRefusal(SQLAlchemyError):
    """Raised by this module; its text names no secret and is shown as it is."""


class FileReplaced(DatabaseRefusal):
    """SQLite's file is not the one that this process has open."""


class Busy(DatabaseRefusal):
    """Other threads of this process use what a call needs; this says nothing about the database."""


class _Connections:
    """The connections of one process to a database.

    :ivar file: device and inode of SQLite's file while connections to it may be open, else ``None``.
    :ivar opened: SQLite's open connections.
    :ivar loans: one object for each connection that a thread is using.
    :ivar writing: held by the thread that writes to SQLite, which has no queue: of many threads that poll some starve.
    :ivar places: one for each connection to a server.
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
        self.places = BoundedSemaphore(CONNECTIONS)
        self.forked_in_use = ""

    def track_opened(self) -> None:
        """Keep :attr:`opened` up to date."""
        event.listen(self.engine, "connect", lambda connection, _: self.opened.add(connection))
        event.listen(self.engine, "close", lambda connection, _: self.opened.discard(connection))
        event.listen(self.engine, "close_detached", lambda connection: self.opened.discard(connection))


_sqlite_databases: WeakSet[Database] = WeakSet()
"""Those of this process: what one of them has open counts for all, see :meth:`Database._close_inherited`."""


class Database:
    """Lends connections of SQLAlchemy's pool, of which each process has its own.

    :param url: a SQLAlchemy address; of SQLite only files.
    :param timeout: seconds to wait for a free connection, for another writer of SQLite, and for PostgreSQL's answer.
    :param setting: the configuration key that the address is of.
    :param drivers: those that it may name, by SQLAlchemy's names (default: any).
    :param durable: whether SQLite's last changes survive a power cut, too (``synchronous = FULL``).
    :raises ConfigurationError: if the address cannot be used, or its driver is not installed.
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
        """Lend a connection on which each statement is a transaction of its own.

        :param changes: whether a statement changes something: SQLite's writers of this process take turns.
        """
        connections = self._connections.get()
        return self._lent(connections, connections.statements, changes)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend a connection for one transaction: committed at the end, rolled back by any exception."""
        connections = self._connections.get()
        with self._lent(connections, connections.transactions, True) as connection, connection.begin():
            yield connection

    def make_tables(self, metadata: MetaData, then: Callable[[Connection], None] = lambda _: None) -> None:
        """Make SQLite's file and the tables where they are missing; several processes may do so at once.

        :param then: what is done in the same transaction, with the tables there.
        :raises OSError: if SQLite's file cannot be made.
        :raises SQLAlchemyError: if the database cannot be reached or written.
        """
        patience = self._timeout if self.path else max(self._timeout, TABLES_PATIENCE)
        with TimeLimit(patience):
            self._make_file()
            with self.transaction() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text(f"SET LOCAL statement_timeout = {int(1000 * patience)}"))
                    connection.execute(_ALONE)
                if connection.dialect.name in {"postgresql", "sqlite"}:
                    for table in metadata.sorted_tables:
                        connection.execute(CreateTable(table, if_not_exists=True))
                        for index in table.indexes:
                            connection.execute(CreateIndex(index, if_not_exists=True))
                else:
                    metadata.create_all(connection)
                then(connection)

    def _make_file(self) -> None:
        """Make SQLite's file and its folders where they are missing, and switch it to its write-ahead log."""
        if self.path is None:
            return
        if self._connections.get().file is None and not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Sessions and password hashes are the owner's alone; SQLite gives its other two files the same mode.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        deadline = time.monotonic() + self._timeout
        with self.statements() as connection:
            # SQLite's own busy time-out does not count here. The mode stays with the file.
            while time.monotonic() < deadline:
                with suppress(OperationalError):
                    connection.exec_driver_sql(_WAL)
                    return
                time.sleep(_RETRY_PAUSE)
            connection.exec_driver_sql(_WAL)

    def close(self) -> None:
        """Close the connections of this process; they are opened anew when they are needed again."""
        connections = self._connections.made()
        if connections is not None:
            connections.engine.dispose()
            connections.file = None

    def finding(self, error: SQLAlchemyError | OSError) -> str:
        """Return what has failed and, where that is known, what helps; without a secret."""
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
            # Readers write, too: to the index of the write-ahead log, beside the file.
            return f"; {WRITABLE}"
        if "is full" in said or "disk I/O" in said:
            return f"; free space on the disk of {self.path.parent}, and see that no quota or limit is reached"
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
                    # The database was closed meanwhile: this connection goes with the others.
                    connection.detach()
                connection.close()
            if engine.pool is pool:
                connections.file = file
        finally:
            connections.loans.discard(loan)
            if turn is not None:
                turn.release()

    def _wait_for_turn(self, connections: _Connections, changes: bool) -> Lock | BoundedSemaphore | None:
        """Wait until this thread may use a connection; return what it releases afterwards, if anything.

        :raises Busy: if other threads of this process take too long.
        """
        left = seconds_left(self._timeout)
        if self.path is None:
            # The other half is the server's: a call that waited here must not report that the server was too slow.
            if not connections.places.acquire(timeout=left / 2):
                raise Busy(f"all {CONNECTIONS} connections of this process are in use")
            return connections.places
        if connections.forked_in_use:
            raise DatabaseRefusal(connections.forked_in_use)
        if not changes:
            return None
        if not connections.writing.acquire(timeout=left):
            raise Busy(f"database is locked: threads of this process have been writing for {self._timeout:g} s")
        return connections.writing

    def _same_file(self, connections: _Connections) -> tuple[int, int] | None:
        """Return which file there is.

        :raises FileReplaced: if connections are open to another one: what they write would be lost.
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
        """Return an engine for this process; it connects when a connection is lent."""
        sqlite = self.path is not None
        # Where the default is none, SQLAlchemy sets it with each loan: of other databases it knows the level only then.
        level = {"sqlite": "SERIALIZABLE", "postgresql": "READ COMMITTED"}.get(self._address.get_backend_name())
        engine = create_engine(
            self._address,
            poolclass=QueuePool,
            pool_size=CONNECTIONS,
            # A reader of SQLite waits for no writer, so it must not wait for a writer's connection either.
            max_overflow=-1 if sqlite else 0,
            pool_timeout=self._timeout,
            # A file closes no connection.
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
        """Close the connections to SQLite that the parent process left open; return why that is not enough, if so.

        SQLite keeps its locks by process, in memory that a fork copies. While an inherited connection is there, SQLite
        takes the parent's lock for the child's own, so that it locks nothing: when the parent has ended, another
        process removes the write-ahead log that the child is writing to. A connection that no thread was using can be
        closed, which releases no lock of the parent (fcntl's locks belong to a process). One in use cannot.
        """
        in_use = False
        for database in list(_sqlite_databases):
            for inherited in database._connections.inherited():
                if inherited.loans:
                    in_use = in_use or database.path == self.path
                    continue
                while inherited.opened:
                    inherited.opened.pop().close()
        if not in_use:
            return ""
        return (
            f"a thread was using {self.path} when this process was forked, so that SQLite cannot lock it here; restart "
            "this process, and fork before the first use of the file"
        )


class TimeLimit:
    """Bounds the sum of all waits of this thread in a ``with`` block; its connections observe that.

    :param seconds: from the beginning of the block.
    """

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._token: Token[float | None] = _deadline.set(time.monotonic() + self._seconds)

    def __exit__(self, *_: object) -> None:
        _deadline.reset(self._token)


def seconds_left(default: float) -> float:
    """Return how long the call may still wait, 0 at least.

    :param default: seconds where no deadline is set.
    """
    deadline = _deadline.get()
    return default if deadline is None else max(0.0, deadline - time.monotonic())


def extend(seconds: float) -> None:
    """Move the deadline, if one is set, by a wait that does not count."""
    deadline = _deadline.get()
    if deadline is not None:
        _deadline.set(deadline + seconds)


def out_of_step(connection: Connection) -> NoReturn:
    """Close a connection that has answered another question.

    :raises DatabaseRefusal: always.
    """
    connection.invalidate()
    raise DatabaseRefusal("the connection answered another question than the one asked; it was closed")


def _address(url: str, setting: str, drivers: Sequence[str]) -> URL:
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"{setting}: is not a database's address") from None
    if drivers and address.drivername not in drivers:
        raise ConfigurationError(f"{setting}: {address.drivername} is not supported; use one of {', '.join(drivers)}")
    database = address.database or ""
    if address.get_backend_name() == "sqlite" and (database in {"", ":memory:"} or database.startswith("file:")):
        memory = "; for memory there is memory://" if setting == "state_url" else ""
        raise ConfigurationError(f"{setting}: must name a SQLite file by its path{memory}")
    return address


def _shown(address: URL) -> str:
    """Return the address without user, password and query, which may be secret."""
    bare = URL.create(address.drivername, host=address.host, port=address.port, database=address.database)
    return bare.render_as_string()


def _is_psycopg(address: URL) -> bool:
    return address.get_backend_name() == "postgresql" and address.get_driver_name() == "psycopg"


def _check_options(address: URL, setting: str) -> None:
    """Refuse what libpq would refuse at the first connection."""
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
    """Open SQLite's file, but never make it: it would have another mode, and no tables."""
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
