"""Store the state in SQL: in a SQLite file for one machine, in PostgreSQL for several nodes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, extract, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..checks import SLOW, Check, absent_file_check, clock_check, file_checks
from ..errors import ConfigurationError, StateUnavailable
from ..events import Event, Outage
from ..processes import PerProcess
from . import statements as ask
from .database import Busy, Database, TimeLimit, out_of_step
from .health import round_trip_check
from .statements import PURGE_BATCH
from .tables import INIT_DB, SCHEMA_VERSION, entries, metadata, schema, terms
from .values import BATCH, batches, check_key, check_terms, check_ttl, dump, load

if TYPE_CHECKING:
    from ..chain.protocols import Json

PURGE_INTERVAL = 1.0
"""Seconds between two automatic purges of one process, unless the last one deleted a full batch."""
MOST_PURGE_WAIT = 200
"""The longest time in milliseconds for which an automatic purge waits for other writers of SQLite."""
_DRIVERS = ("postgresql+psycopg", "sqlite", "sqlite+pysqlite")
_OLDEST_POSTGRESQL = 130_000
_CLOCKS_MAY_DIFFER = 30.0
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_TABLES = (entries.name, terms.name)
_SERVER = select(
    func.current_setting("server_version_num"),
    func.current_setting("server_version"),
    extract("epoch", func.clock_timestamp()),
    func.current_setting("synchronous_commit"),
    func.current_setting("transaction_read_only"),
    and_(
        func.has_table_privilege(schema.name, "SELECT"),
        *(func.has_table_privilege(table, right) for table in _TABLES for right in _RIGHTS),
    ),
)


def state_database(url: str, timeout: float, *, durable: bool) -> Database:
    """Return the database of a ``state_url``; parameters as of :class:`Database`."""
    return Database(url, timeout, setting="state_url", drivers=_DRIVERS, durable=durable)


class _NotMade(ConfigurationError):
    """The tables do not exist, or their version is not recorded."""


class _Status:
    """The database's status as one process knows it.

    :ivar ready: whether the tables have been checked since the last error.
    :ivar purged: when the last automatic purge began.
    :ivar purges_missed: how many automatic purges in succession found SQLite locked by other writers.
    """

    def __init__(self, name: str) -> None:
        self.outage = Outage(name)
        self.unpurged = Outage(name, Event.STATE_NOT_PURGED, None)
        self.ready = False
        self.purged = 0.0
        self.purges_missed = 0


class SqlState:
    """Implements :class:`~flask_genesys_auth.chain.protocols.StateStore` in SQLite, or in PostgreSQL 13 or later.

    Each change is one transaction, so that of several processes only one succeeds. The SQLite file is in WAL mode:
    readers do not wait for writers. SQLite's tables are created at first use, those of PostgreSQL by a command. A
    failed call is not retried, because it may have taken effect.

    :param url: a SQLAlchemy URL: ``sqlite:///`` with a path, or ``postgresql+psycopg://`` with libpq's options.
    :param namespace: separates the keys of applications that share the tables.
    :param timeout: seconds to wait for another writer of SQLite; for PostgreSQL, seconds for a call without the time
        to open a connection.
    :param clock: unix time, the same on all nodes.
    :param database: connections to share (default: the store opens its own).
    :raises ConfigurationError: if the URL is not valid, or the tables have another version.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        timeout: float,
        *,
        clock: Callable[[], float] = time.time,
        database: Database | None = None,
    ) -> None:
        # After a power cut the state's own SQLite file may lack the last changes; it is not damaged.
        self._database = database or state_database(url, timeout, durable=False)
        self._ask = ask.SQLITE if self._database.path else ask.POSTGRESQL
        self._namespace = check_key(namespace)
        self._timeout = timeout
        self._clock = clock
        self._status = PerProcess(lambda: _Status(f"the state in {self._database.name}"))
        self._check_version_at_start()

    def __repr__(self) -> str:
        return f"SqlState({self._database.name!r}, {self._namespace!r})"

    def add(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> bool:
        """Store a value unless the key exists (atomic); return whether it was stored."""
        row, labels = self._new_row(key, value, ttl), check_terms(index)
        with self._change(together=True) as connection:
            stored = connection.execute(self._ask.add, {**row, "now": self._clock()}).all()
            if stored:
                _compare(connection, stored, {key})
                self._store_terms(connection, key, labels)
        return bool(stored)

    def put(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> None:
        """Store or replace a value; ``index`` replaces the key's index terms."""
        row, labels = self._new_row(key, value, ttl), check_terms(index)
        with self._change(together=True) as connection:
            connection.execute(self._ask.put, row)
            self._store_terms(connection, key, labels)

    def replace(self, key: str, value: Json, ttl: float) -> bool:
        """Replace the value of an existing key (atomic) and keep its index terms; return whether it existed."""
        row = self._new_row(key, value, ttl)
        values = {"text": row["value"], "end": row["expires"], "now": self._clock()}
        with self._change() as connection:
            return bool(self._select(connection, ask.REPLACE, key, **values))

    def get(self, key: str) -> Json:
        """Return the value, or ``None`` if the key does not exist or has expired."""
        check_key(key)
        with self._connection() as connection:
            found = self._select(connection, ask.READ, key, now=self._clock())
        return load(found[0].value) if found else None

    def get_many(self, keys: Sequence[str]) -> list[Json]:
        """Return the value of each key as :meth:`get` does, in few round trips."""
        found: dict[str, str] = {}
        for batch in batches(list(dict.fromkeys(map(check_key, keys)))):
            wanted = {"of": self._namespace, "keys": batch, "now": self._clock()}
            with self._connection() as connection:
                rows = connection.execute(ask.READ_MANY, wanted).all()
                _compare(connection, rows, set(batch))
            found.update((row.key, row.value) for row in rows)
        return [load(found[key]) if key in found else None for key in keys]

    def take(self, key: str) -> Json:
        """Delete the key and return its value, or ``None`` (atomic: only one of several callers gets the value)."""
        taken = self._remove(key)
        return None if taken is None else load(taken)

    def delete(self, key: str) -> bool:
        """Delete the key; return whether it existed."""
        return self._remove(key) is not None

    def find(self, term: str) -> list[str]:
        """Return the existing keys with this index term."""
        return self._found(ask.FIND, check_key(term))

    def find_each(self, term: str) -> Iterator[list[str]]:
        """Yield the existing keys with this index term in batches, with one query each."""
        after = ""
        while keys := self._found(self._ask.find_batch, check_key(term), after=after):
            yield keys
            if len(keys) < BATCH:
                return
            after = keys[-1]

    def delete_found(self, term: str) -> int:
        """Delete up to one batch of existing keys with this index term (atomic); return how many.

        On SQLite, which has no queue of writers, a full batch is followed by a pause of the same length.
        """
        check_key(term)
        began = time.monotonic()
        with self._change() as connection:
            gone = connection.execute(
                self._ask.delete_found, {"of": self._namespace, "at": term, "now": self._clock()}
            ).rowcount
        if gone == BATCH and self._database.path:
            time.sleep(time.monotonic() - began)
        return gone

    def purge(self) -> int:
        """Delete the expired entries of all namespaces; return how many."""
        gone = 0
        while True:
            with self._connection(changes=True) as connection:
                batch = connection.execute(self._ask.purge, {"now": self._clock()}).rowcount
            gone += batch
            if batch < PURGE_BATCH:
                return gone

    def clear(self) -> None:
        """Delete all entries of this namespace (for tests)."""
        with self._change() as connection:
            connection.execute(ask.CLEAR, {"of": self._namespace})

    def create_tables(self) -> None:
        """Create missing tables, and the SQLite file, and record their version.

        :raises StateUnavailable: if the database cannot be reached or written.
        """
        try:
            self._create()
        except (SQLAlchemyError, OSError) as error:
            raise StateUnavailable(self._finding(error)) from None

    def close(self) -> None:
        """Close the connections of this process; the next call opens new ones."""
        self._database.close()

    def checks(self, *, slow: float = SLOW) -> Iterator[Check]:
        """Yield the checks of the database and its tables; a missing file is not created.

        :param slow: a change that takes more seconds is reported.
        """
        path = self._database.path
        if path is None:
            yield from (found := list(self._server_checks()))
            if len(found) > 1:  # the server answers
                yield round_trip_check(self, slow=slow)
        elif path.exists():
            yield round_trip_check(self, slow=slow)
            yield from file_checks("state.file", path, secret=True)
        else:
            yield absent_file_check("state.file", path)

    def _new_row(self, key: str, value: Json, ttl: float) -> dict[str, Any]:
        return {
            "namespace": self._namespace,
            "key": check_key(key),
            "value": dump(value),
            "expires": self._clock() + check_ttl(ttl),
        }

    def _store_terms(self, connection: Connection, key: str, labels: frozenset[str]) -> None:
        # The caller's statement has locked the entry's row, so that terms which another process stored are seen here.
        connection.execute(ask.FORGET_TERMS, {"of": self._namespace, "at": key})
        if labels:
            rows = [{"namespace": self._namespace, "term": term, "key": key} for term in sorted(labels)]
            connection.execute(ask.ADD_TERMS, rows)

    def _remove(self, key: str) -> str | None:
        check_key(key)
        with self._change() as connection:
            taken = self._select(connection, ask.TAKE, key)
        return taken[0].value if taken and taken[0].expires > self._clock() else None

    def _found(self, statement: Any, term: str, **values: str) -> list[str]:
        with self._connection() as connection:
            return [row.key for row in self._select(connection, statement, term, now=self._clock(), **values)]

    def _select(self, connection: Connection, statement: Any, at: str, **values: Any) -> Sequence[Any]:
        rows = connection.execute(statement, {"of": self._namespace, "at": at, **values}).all()
        _compare(connection, rows, {at})
        return rows

    def _server_checks(self) -> Iterator[Check]:
        try:
            with self._connection() as connection:
                connection.execute(_SERVER).one()
                began = time.perf_counter()
                number, version, clock, synchronous, read_only, allowed = connection.execute(_SERVER).one()
                taken = time.perf_counter() - began
        except StateUnavailable as error:
            advice = "start it, and check that this machine may reach it with that user and password"
            yield Check("state.server", "failure", error.finding, advice)
            return
        except ConfigurationError as error:
            yield Check("state.server", "failure", str(error), "do this first: logins fail until then")
            return
        ahead = float(clock) - (time.time() - taken / 2)
        finding = f"PostgreSQL {version} at {self._database.name}, {1000 * taken:.1f} ms"
        if int(number) < _OLDEST_POSTGRESQL:
            yield Check("state.server", "failure", finding, "upgrade to version 13 or later")
        else:
            yield Check("state.server", "ok", finding)
        yield clock_check("state.clock", "PostgreSQL", ahead, allowed=_CLOCKS_MAY_DIFFER)
        yield _rights_check(read_only, allowed)
        yield _commit_check(synchronous)

    @contextmanager
    def _change(self, *, together: bool = False) -> Iterator[Connection]:
        """Lend a connection for a change; afterwards delete some expired entries.

        :param together: run the statements in one transaction.
        """
        began = time.monotonic()
        with self._connection(changes=True, together=together) as connection:
            yield connection
        status, now = self._status.get(), self._clock()
        if abs(now - status.purged) >= PURGE_INTERVAL:
            status.purged = now
            self._purge_automatically(status, self._timeout - (time.monotonic() - began))

    @contextmanager
    def _connection(self, *, changes: bool = False, together: bool = False) -> Iterator[Connection]:
        """Lend a connection for a call, and report an outage.

        :raises StateUnavailable: for every error of the database.
        :raises ConfigurationError: if the tables do not exist or have another version.
        """
        status = self._status.get()
        try:
            with TimeLimit(self._timeout):
                if not status.ready:
                    self._prepare()
                    status.ready = True
                database = self._database
                with database.transaction() if together else database.statements(changes=changes) as connection:
                    yield connection
        except (SQLAlchemyError, OSError) as error:
            if not isinstance(error, Busy):
                status.ready = False
            if _is_undefined_table(error):
                raise self._not_made() from None
            finding = self._finding(error)
            if not isinstance(error, Busy):
                status.outage.failed(finding)
            raise StateUnavailable(finding) from None
        if status.outage.down:
            status.outage.answered()

    def _purge_automatically(self, status: _Status, left: float) -> None:
        """Delete a batch of expired entries; a failure does not fail the change that came before.

        :param left: the call's remaining seconds.
        """
        if not self._database.path and left < self._timeout / 2:
            # The server is slow and a request is waiting: leave the purge to a later change.
            return
        try:
            with TimeLimit(left), self._database.statements() as connection:
                if self._database.path:
                    gone = self._purge_unless_busy(connection, status)
                else:
                    gone = connection.execute(self._ask.purge, {"now": self._clock()}).rowcount
        except (SQLAlchemyError, OSError) as error:
            if _is_busy(error):
                status.purges_missed += 1
            else:
                status.unpurged.failed(self._finding(error))
            return
        status.purges_missed = 0
        status.unpurged.answered()
        if gone == PURGE_BATCH:
            status.purged = 0.0

    def _purge_unless_busy(self, connection: Connection, status: _Status) -> int:
        """Purge SQLite without waiting for other writers; after missed purges, wait a few milliseconds."""
        longest = int(self._timeout * 1000)
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {min(10 * status.purges_missed, MOST_PURGE_WAIT, longest)}")
        try:
            gone = connection.execute(self._ask.purge, {"now": self._clock()}).rowcount
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {longest}")
        except BaseException:
            # Its next user would get the short timeout.
            connection.invalidate()
            raise
        return gone

    def _check_version_at_start(self) -> None:
        """Refuse tables of another version; a database that cannot be reached does not prevent the start."""
        if self._database.path is None or self._database.path.exists():
            # Nor do missing tables: the command that creates them starts the same way.
            try:
                with suppress(StateUnavailable, _NotMade), self._connection():
                    pass
            finally:
                self.close()

    def _prepare(self) -> None:
        """Check the version of the tables; create those of SQLite."""
        if self._database.path and not self._has_tables():
            self._create()
        with self._database.statements() as connection:
            version = connection.execute(select(func.max(schema.c.version))).scalar()
        if version is None and not self._database.path:
            raise self._not_made()
        if version != SCHEMA_VERSION:
            way = (
                "use another file (to keep accounts that are in this one, name it in accounts_url)"
                if self._database.path
                else f"drop them and run `{INIT_DB}`"
            )
            raise ConfigurationError(
                f"state_url: the tables in {self._database.name} have version {version}, this release requires "
                f"{SCHEMA_VERSION}; {way}; all users are logged out"
            )

    def _has_tables(self) -> bool:
        path = self._database.path
        if path is None or not path.exists():
            return False
        with self._database.statements() as connection:
            return inspect(connection).has_table(schema.name)

    def _create(self) -> None:
        self._database.make_tables(metadata, _record_version)

    def _not_made(self) -> _NotMade:
        return _NotMade(f"state_url: {self._database.name} has no state tables: run `{INIT_DB}`")

    def _finding(self, error: SQLAlchemyError | OSError) -> str:
        happened = "is busy" if isinstance(error, Busy) else "did not answer"
        return f"the state in {self._database.name} {happened}: {self._database.finding(error)}"


def _record_version(connection: Connection) -> None:
    if connection.execute(select(func.max(schema.c.version))).scalar() is None:
        connection.execute(insert(schema).values(version=SCHEMA_VERSION))


def _compare(connection: Connection, rows: Sequence[Any], asked: set[str]) -> None:
    """Check that each row begins with a requested key or term.

    A result without rows carries no key. It cannot be the unread result of an earlier call: libpq sends no statement
    while a result is unread, psycopg reads each result to its end or closes the connection, and SQLite has no wire.

    :raises SQLAlchemyError: if not; the connection is closed.
    """
    for row in rows:
        if row[0] not in asked:
            out_of_step(connection)


def _rights_check(read_only: str, allowed: bool) -> Check:
    name = "state.rights"
    if read_only != "off":
        finding = "it is read-only: a standby, or default_transaction_read_only for this user"
        return Check(name, "failure", finding, "name the primary in state_url, or let this user write")
    if not allowed:
        finding = f"this user lacks one of {', '.join(_RIGHTS)} on {' or '.join(_TABLES)}"
        return Check(name, "failure", finding, f"GRANT {', '.join(_RIGHTS)} ON {', '.join(_TABLES)} TO this user")
    return Check(name, "ok", "this user may read and change the tables")


def _commit_check(synchronous: str) -> Check:
    name = "state.synchronous_commit"
    if synchronous != "off":
        return Check(name, "ok", f"confirmed changes are on disk (synchronous_commit {synchronous})")
    return Check(
        name,
        "warning",
        "synchronous_commit is off: a crash may restore an ended login session, or let a one-time key be used twice",
        "ALTER ROLE ... SET synchronous_commit = on for the application's user",
    )


def _is_undefined_table(error: SQLAlchemyError | OSError) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "42P01"


def _is_busy(error: SQLAlchemyError | OSError) -> bool:
    """Return whether others are using the connections, or SQLite's file is locked (SQLITE_BUSY, SQLITE_LOCKED)."""
    return isinstance(error, Busy) or (
        isinstance(error, DBAPIError)
        and isinstance(error.orig, sqlite3.OperationalError)
        and "locked" in str(error.orig)
    )
