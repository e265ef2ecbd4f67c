"""The state in a SQLite file: the embedded default, shared by the processes of one machine."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, create_engine, event, insert, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from ..checks import Check, absent_file_check, file_checks
from ..errors import ConfigurationError, StateUnavailable
from ..events import Event, Outage
from ..forks import watch_forks
from . import sqlite_statements as ask
from .health import round_trip_check
from .tables import MOST_PURGE_WAIT, PURGE_BATCH, PURGE_INTERVAL, SCHEMA_VERSION, metadata, schema
from .values import BATCH, batches_by_key, check_key, check_terms, check_ttl, dump, load

if TYPE_CHECKING:
    from ..chain.ports import Json

IDLE_CONNECTIONS = 32
RETRY_PAUSE = 0.005

_WAL = "PRAGMA journal_mode = WAL"


class SqliteState:
    """Implements :class:`~flask_genesys_auth.chain.ports.StateStore` in a SQLite file, in WAL mode.

    Tables make themselves at first use. Every change is one immediate transaction, so of many processes one wins;
    a reader never waits for a writer. What was confirmed survives the end of the process; a power cut may undo the
    last changes (``synchronous = NORMAL``), never damage the file.

    :param url: a SQLAlchemy address of a SQLite file.
    :param namespace: whose keys these are: stores of other namespaces in the same file never see them.
    :param timeout: seconds to wait for another writer.
    :param clock: unix time, which all processes share.
    :raises ConfigurationError: if the address is not of a SQLite file, or the file's tables are of another version.
    """

    def __init__(self, url: str, namespace: str, timeout: float, *, clock: Callable[[], float] = time.time) -> None:
        address = _file_address(url)
        self._path = Path(str(address.database))
        self._namespace = check_key(namespace)
        self._timeout = timeout
        self._clock = clock
        self._engine = create_engine(
            address,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args={"timeout": timeout, "check_same_thread": False},
        )
        event.listen(self._engine, "connect", _set_up)
        # Idle connections wait in a deque of our own: a checkout from SQLAlchemy's pool costs as much as the read.
        self._idle: deque[Connection] = deque()
        self._in_use: set[Connection] = set()
        self._inherited: list[Connection] = []
        self._ready = False
        self._outage = Outage(f"the state in {self._path}")
        self._unpurged = Outage(f"the state in {self._path}", Event.STATE_NOT_PURGED, None)
        self._next_purge = 0.0
        self._purges_missed = 0
        watch_forks(self)
        self._check_existing()

    def __repr__(self) -> str:
        return f"SqliteState({str(self._path)!r}, {self._namespace!r})"

    def add(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> bool:
        """Store a value unless the key is taken (atomic); tell whether it was stored."""
        row, labels = self._row(key, value, ttl), check_terms(index)
        with self._transaction() as cursor:
            stored = ask.ADD.run(cursor, **row, now=self._clock()).fetchone() is not None
            if stored:
                self._label(cursor, key, labels)
        return stored

    def put(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> None:
        """Store a value whatever was there; ``index`` replaces the key's former index terms."""
        row, labels = self._row(key, value, ttl), check_terms(index)
        with self._transaction() as cursor:
            ask.PUT.run(cursor, **row)
            self._label(cursor, key, labels)

    def replace(self, key: str, value: Json, ttl: float) -> bool:
        """Store a value only where the key lives (atomic), its index terms kept; tell whether it did."""
        row = self._row(key, value, ttl)
        with self._transaction() as cursor:
            changed = ask.REPLACE.run(
                cursor, of=self._namespace, at=key, text=row["value"], end=row["expires"], now=self._clock()
            )
            return changed.rowcount == 1

    def get(self, key: str) -> Json:
        """Return the value, or ``None`` where there is none or it has expired."""
        check_key(key)
        with self._connection() as connection, _cursor(connection) as cursor:
            row = ask.READ.run(cursor, of=self._namespace, at=key, now=self._clock()).fetchone()
        return None if row is None else load(row[0])

    def get_many(self, keys: Sequence[str]) -> list[Json]:
        """Return the value of each key, as :meth:`get` would, in few round trips."""
        now = self._clock()
        named = [{"of": self._namespace, "at": check_key(key), "now": now} for key in keys]
        with self._connection() as connection, _cursor(connection) as cursor:
            rows = [ask.READ.run(cursor, **one).fetchone() for one in named]
        return [None if row is None else load(row[0]) for row in rows]

    def take(self, key: str) -> Json:
        """Return the value and delete it (atomic: of many callers one gets it), or ``None``."""
        taken = self._remove(key)
        return None if taken is None else load(taken)

    def delete(self, key: str) -> bool:
        """Delete the key; tell whether it was there."""
        return self._remove(key) is not None

    def find(self, term: str) -> list[str]:
        """Return the living keys that carry this index term."""
        return self._keys(ask.FIND, at=check_key(term))

    def find_each(self, term: str) -> Iterator[list[str]]:
        """Yield the living keys that carry this index term in batches, each looked for by itself."""
        check_key(term)
        return batches_by_key(lambda after: self._keys(ask.FIND_BATCH, at=term, after=after))

    def delete_found(self, term: str) -> int:
        """Delete living keys that carry this index term, a batch of them (atomic); return how many.

        A full batch is followed by as long a pause: SQLite has no queue, and others want to write, too.
        """
        check_key(term)
        began = time.monotonic()
        with self._transaction() as cursor:
            gone = ask.DELETE_FOUND.run(cursor, of=self._namespace, at=term, now=self._clock()).rowcount
        if gone == BATCH:
            time.sleep(time.monotonic() - began)
        return gone

    def purge(self) -> int:
        """Delete what has expired, of whatever namespace; return how many."""
        gone = 0
        while True:
            with self._transaction() as cursor:
                batch = ask.PURGE.run(cursor, now=self._clock()).rowcount
            gone += batch
            if batch < PURGE_BATCH:
                return gone

    def clear(self) -> None:
        """Delete everything of this namespace, for tests."""
        with self._transaction() as cursor:
            ask.CLEAR.run(cursor, of=self._namespace)

    def create_tables(self) -> None:
        """Make the file and its tables where they are missing, as the first use would."""
        with self._connection():
            pass

    def close(self) -> None:
        """Let go of connections; the store opens them anew when it is used again."""
        idle, self._idle = self._idle, deque()
        while idle:
            with suppress(IndexError):
                idle.pop().close()

    def checks(self) -> Iterator[Check]:
        """Yield whether the file takes changes, and who may read it; one that is missing is not made."""
        if not self._path.exists():
            yield absent_file_check("state.file", self._path)
            return
        yield round_trip_check(self)
        yield from file_checks("state.file", self._path, secret=True)

    def before_fork(self) -> None:
        """Close what is idle: SQLite's connections must not reach a child, not even to be closed there."""
        self.close()

    def after_fork(self) -> None:
        """Keep what was in use, or came back, at that very moment from ever being used or closed in this process."""
        self._inherited += [*self._in_use, *self._idle]
        self._in_use = set()
        self._idle = deque()

    def _row(self, key: str, value: Json, ttl: float) -> dict[str, Any]:
        return {
            "namespace": self._namespace,
            "key": check_key(key),
            "value": dump(value),
            "expires": self._clock() + check_ttl(ttl),
        }

    def _label(self, cursor: sqlite3.Cursor, key: str, labels: frozenset[str]) -> None:
        ask.FORGET.run(cursor, of=self._namespace, at=key)
        for term in sorted(labels):
            ask.LABEL.run(cursor, namespace=self._namespace, term=term, key=key)

    def _remove(self, key: str) -> str | None:
        check_key(key)
        with self._transaction() as cursor:
            row: tuple[str, float] | None = ask.TAKE.run(cursor, of=self._namespace, at=key).fetchone()
        return row[0] if row is not None and row[1] > self._clock() else None

    def _keys(self, statement: ask.Statement, **values: str) -> list[str]:
        with self._connection() as connection, _cursor(connection) as cursor:
            found = statement.run(cursor, of=self._namespace, now=self._clock(), **values)
            return [key for (key,) in found]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        """Hold the only writer's place, from before the first look to the end."""
        with self._connection() as connection, _cursor(connection) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            cursor.execute("COMMIT")
        if time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + PURGE_INTERVAL
            self._purge_in_passing()

    def _purge_in_passing(self) -> None:
        """Delete a batch of what has expired; the change has counted, whatever becomes of this."""
        try:
            with self._connection(in_passing=True) as connection, _cursor(connection) as cursor:
                # For whoever writes just now nobody waits; only where there is always somebody, a moment.
                longest = int(self._timeout * 1000)
                patience = min(10 * self._purges_missed, MOST_PURGE_WAIT, longest)
                cursor.execute(f"PRAGMA busy_timeout = {patience}")
                gone = ask.PURGE.run(cursor, now=self._clock()).rowcount
                cursor.execute(f"PRAGMA busy_timeout = {longest}")
        except (StateUnavailable, ConfigurationError) as error:
            if _is_busy(error.__cause__):
                self._purges_missed += 1
            else:
                self._unpurged.failed(str(error))
            return
        self._purges_missed = 0
        self._unpurged.answered()
        if gone == PURGE_BATCH:
            self._next_purge = 0.0

    @contextmanager
    def _connection(self, *, in_passing: bool = False) -> Iterator[Connection]:
        """Lend a connection to one thread; one that has met an error, or a close, is not lent again.

        :param in_passing: for nobody's request, so that an error is no outage.
        :raises StateUnavailable: for whatever the database says.
        """
        idle = self._idle
        connection: Connection | None = None
        try:
            try:
                connection = idle.pop()
            except IndexError:
                connection = self._connect()
            self._in_use.add(connection)
            if not self._ready:
                self._prepare(connection)
            yield connection
        except BaseException as error:
            self._discard(connection)
            if isinstance(error, (SQLAlchemyError, sqlite3.Error, OSError)):
                finding = self._finding(error)
                if not in_passing:
                    self._ready = False
                    self._outage.failed(finding)
                raise StateUnavailable(finding) from error
            raise
        if not in_passing:
            self._outage.answered()
        self._in_use.discard(connection)
        if idle is self._idle and len(idle) < IDLE_CONNECTIONS:
            idle.append(connection)
        else:
            connection.close()

    def _connect(self) -> Connection:
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Login sessions are nobody else's business; SQLite gives its other two files the same mode.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        return self._engine.connect()

    def _discard(self, connection: Connection | None) -> None:
        if connection is not None:
            self._in_use.discard(connection)
            # Closing rolls back; a connection that cannot even do that is let go as it is.
            with suppress(SQLAlchemyError):
                connection.close()

    def _finding(self, error: SQLAlchemyError | sqlite3.Error | OSError) -> str:
        said = error.orig if isinstance(error, DBAPIError) else error
        return f"the state in {self._path} did not answer: {said}"

    def _check_existing(self) -> None:
        """Refuse a file of another version at once; whether the file can be used is seen at its first use."""
        if self._path.exists():
            with suppress(StateUnavailable), self._connection():
                pass
            self.close()

    def _prepare(self, connection: Connection) -> None:
        if not inspect(connection).has_table(schema.name):
            self._create(connection)
        version = connection.execute(select(schema.c.version)).scalar()
        if version != SCHEMA_VERSION:
            raise ConfigurationError(
                f"state_url: the tables in {self._path} are of version {version}, this release needs {SCHEMA_VERSION}; "
                "name another file, or move this one away: people log in anew"
            )
        self._ready = True

    def _create(self, connection: Connection) -> None:
        self._switch_to_wal(connection)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        if not inspect(connection).has_table(schema.name):
            metadata.create_all(connection)
            connection.execute(insert(schema).values(version=SCHEMA_VERSION))
        connection.exec_driver_sql("COMMIT")

    def _switch_to_wal(self, connection: Connection) -> None:
        # SQLite does not wait for others here, whatever its busy time-out says; the mode stays with the file.
        deadline = time.monotonic() + self._timeout
        while time.monotonic() < deadline:
            with suppress(OperationalError):
                connection.exec_driver_sql(_WAL)
                return
            time.sleep(RETRY_PAUSE)
        connection.exec_driver_sql(_WAL)


@contextmanager
def _cursor(connection: Connection) -> Iterator[sqlite3.Cursor]:
    cursor = cast("sqlite3.Cursor", connection.connection.cursor())
    try:
        yield cursor
    finally:
        cursor.close()


def _is_busy(error: BaseException | None) -> bool:
    """Tell whether this is but another's write (SQLITE_BUSY, SQLITE_LOCKED)."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _file_address(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError:
        raise ConfigurationError("state_url: is not a database's address") from None
    if address.get_backend_name() != "sqlite":
        raise ConfigurationError(f"state_url: {address.drivername} is not a store this release knows")
    if not address.database or address.database == ":memory:" or address.database.startswith("file:"):
        raise ConfigurationError("state_url: must name a SQLite file by its path; for memory there is memory://")
    return address


def _set_up(connection: Any, _: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")
