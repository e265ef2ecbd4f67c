"""The state in SQL: a SQLite file for one machine, PostgreSQL for several nodes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..checks import SLOW, Check, absent_file_check, file_checks
from ..errors import ConfigurationError, StateUnavailable
from ..events import Event, Outage
from ..processes import PerProcess
from . import statements as ask
from .database import Busy, Database, TimeLimit, out_of_step
from .health import round_trip_check
from .postgresql_health import LOOK, server_checks
from .statements import PURGE_BATCH
from .tables import INIT_DB, SCHEMA_VERSION, metadata, schema
from .values import BATCH, batches, batches_by_key, check_key, check_terms, check_ttl, dump, load

if TYPE_CHECKING:
    from ..chain.protocols import Json

PURGE_INTERVAL = 1.0
"""Seconds between two deletions in passing of one process, unless there was more than a batch to delete."""
MOST_PURGE_WAIT = 200
"""Milliseconds that a purge in passing waits for other writers of SQLite at most, where it has often found them."""
_DRIVERS = ("postgresql+psycopg", "sqlite", "sqlite+pysqlite")


def state_database(url: str, timeout: float, *, durable: bool) -> Database:
    """Return the database of a ``state_url``; parameters as of :class:`Database`."""
    return Database(url, timeout, setting="state_url", drivers=_DRIVERS, durable=durable)


class _NotMade(ConfigurationError):
    """The tables are not there, or their version is not recorded."""


class _Use:
    """What one process knows of the database.

    :ivar ready: whether the tables have been looked at since the last error.
    :ivar purged: when expired entries were last deleted in passing.
    :ivar purges_missed: how often in succession other writers prevented that.
    """

    def __init__(self, name: str) -> None:
        self.outage = Outage(name)
        self.unpurged = Outage(name, Event.STATE_NOT_PURGED, None)
        self.ready = False
        self.purged = 0.0
        self.purges_missed = 0


class SqlState:
    """Implements :class:`~flask_genesys_auth.chain.protocols.StateStore` in SQLite, or in PostgreSQL 13 or later.

    Every change is one transaction, so of many processes one wins. SQLite's file is in WAL mode: a reader never waits
    for a writer. Its tables make themselves; those of PostgreSQL are made by a command. A call that has failed is not
    tried again, for it may have counted.

    :param url: of SQLAlchemy: ``sqlite:///`` with a path, or ``postgresql+psycopg://`` with libpq's options.
    :param namespace: whose keys these are: stores of other namespaces in the same tables never see them.
    :param timeout: seconds to wait for another writer of SQLite; for PostgreSQL seconds for a call, a new connection
        excepted.
    :param clock: unix time, which all processes and nodes share.
    :param database: the connections, where they are shared (default: the store's own).
    :raises ConfigurationError: if the address cannot be used, or the tables are of another version.
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
        # In a SQLite file of its own a power cut may undo the last changes; it never damages the file.
        self._database = database or state_database(url, timeout, durable=False)
        self._ask = ask.SQLITE if self._database.path else ask.POSTGRESQL
        self._namespace = check_key(namespace)
        self._timeout = timeout
        self._clock = clock
        self._use = PerProcess(lambda: _Use(f"the state in {self._database.name}"))
        self._check_version_at_start()

    def __repr__(self) -> str:
        return f"SqlState({self._database.name!r}, {self._namespace!r})"

    def add(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> bool:
        """Store a value unless the key is taken (atomic); tell whether it was stored."""
        row, labels = self._row(key, value, ttl), check_terms(index)
        with self._changing(together=True) as connection:
            stored = connection.execute(self._ask.add, {**row, "now": self._clock()}).all()
            if stored:
                _compare(connection, stored, {key})
                self._label(connection, key, labels)
        return bool(stored)

    def put(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> None:
        """Store a value whatever was there; ``index`` replaces the key's former index terms."""
        row, labels = self._row(key, value, ttl), check_terms(index)
        with self._changing(together=True) as connection:
            connection.execute(self._ask.put, row)
            self._label(connection, key, labels)

    def replace(self, key: str, value: Json, ttl: float) -> bool:
        """Store a value only where the key lives (atomic), its index terms kept; tell whether it did."""
        row = self._row(key, value, ttl)
        values = {"text": row["value"], "end": row["expires"], "now": self._clock()}
        with self._changing() as connection:
            return bool(self._rows(connection, ask.REPLACE, key, **values))

    def get(self, key: str) -> Json:
        """Return the value, or ``None`` where there is none or it has expired."""
        check_key(key)
        with self._connection() as connection:
            found = self._rows(connection, ask.READ, key, now=self._clock())
        return load(found[0].value) if found else None

    def get_many(self, keys: Sequence[str]) -> list[Json]:
        """Return the value of each key, as :meth:`get` would, in few round trips."""
        found: dict[str, str] = {}
        for batch in batches(list(dict.fromkeys(map(check_key, keys)))):
            wanted = {"of": self._namespace, "keys": batch, "now": self._clock()}
            with self._connection() as connection:
                rows = connection.execute(ask.READ_MANY, wanted).all()
                _compare(connection, rows, set(batch))
            found.update((row.key, row.value) for row in rows)
        return [load(found[key]) if key in found else None for key in keys]

    def take(self, key: str) -> Json:
        """Return the value and delete it (atomic: of many callers one gets it), or ``None``."""
        taken = self._remove(key)
        return None if taken is None else load(taken)

    def delete(self, key: str) -> bool:
        """Delete the key; tell whether it was there."""
        return self._remove(key) is not None

    def find(self, term: str) -> list[str]:
        """Return the living keys that carry this index term."""
        return self._found(ask.FIND, check_key(term))

    def find_each(self, term: str) -> Iterator[list[str]]:
        """Yield the living keys that carry this index term in batches, each looked for by itself."""
        check_key(term)
        return batches_by_key(lambda after: self._found(self._ask.find_batch, term, after=after))

    def delete_found(self, term: str) -> int:
        """Delete living keys that carry this index term, a batch of them (atomic); return how many.

        On SQLite a full batch is followed by as long a pause: it has no queue, and others want to write, too.
        """
        check_key(term)
        began = time.monotonic()
        with self._changing() as connection:
            gone = connection.execute(
                self._ask.delete_found, {"of": self._namespace, "at": term, "now": self._clock()}
            ).rowcount
        if gone == BATCH and self._database.path:
            time.sleep(time.monotonic() - began)
        return gone

    def purge(self) -> int:
        """Delete what has expired, of whatever namespace; return how many."""
        gone = 0
        while True:
            with self._connection(changes=True) as connection:
                batch = connection.execute(self._ask.purge, {"now": self._clock()}).rowcount
            gone += batch
            if batch < PURGE_BATCH:
                return gone

    def clear(self) -> None:
        """Delete everything of this namespace, for tests."""
        with self._changing() as connection:
            connection.execute(ask.CLEAR, {"of": self._namespace})

    def create_tables(self) -> None:
        """Make the tables where they are missing, SQLite's file included, and record their version.

        :raises StateUnavailable: if the database cannot be reached or written.
        """
        try:
            self._create()
        except (SQLAlchemyError, OSError) as error:
            raise StateUnavailable(self._finding(error)) from None

    def close(self) -> None:
        """Close the connections of this process; the store opens them anew when it is used again."""
        self._database.close()

    def checks(self, *, slow: float = SLOW) -> Iterator[Check]:
        """Yield whether the database and its tables are as they must be; a file that is missing is not made.

        :param slow: seconds from which a change is too slow.
        """
        path = self._database.path
        if path is None:
            yield from (found := list(server_checks(self._database.name, self._look)))
            if len(found) > 1:  # the server answers
                yield round_trip_check(self, slow=slow)
        elif path.exists():
            yield round_trip_check(self, slow=slow)
            yield from file_checks("state.file", path, secret=True)
        else:
            yield absent_file_check("state.file", path)

    def _row(self, key: str, value: Json, ttl: float) -> dict[str, Any]:
        return {
            "namespace": self._namespace,
            "key": check_key(key),
            "value": dump(value),
            "expires": self._clock() + check_ttl(ttl),
        }

    def _label(self, connection: Connection, key: str, labels: frozenset[str]) -> None:
        # After the statement that holds the entry's row: what another process labelled before is seen here.
        connection.execute(ask.FORGET_TERMS, {"of": self._namespace, "at": key})
        if labels:
            rows = [{"namespace": self._namespace, "term": term, "key": key} for term in sorted(labels)]
            connection.execute(ask.ADD_TERMS, rows)

    def _remove(self, key: str) -> str | None:
        check_key(key)
        with self._changing() as connection:
            taken = self._rows(connection, ask.TAKE, key)
        return taken[0].value if taken and taken[0].expires > self._clock() else None

    def _found(self, statement: Any, term: str, **values: str) -> list[str]:
        with self._connection() as connection:
            return [row.key for row in self._rows(connection, statement, term, now=self._clock(), **values)]

    def _rows(self, connection: Connection, statement: Any, at: str, **values: Any) -> Sequence[Any]:
        rows = connection.execute(statement, {"of": self._namespace, "at": at, **values}).all()
        _compare(connection, rows, {at})
        return rows

    def _look(self) -> Sequence[Any]:
        with self._connection() as connection:
            return connection.execute(LOOK).one()

    @contextmanager
    def _changing(self, *, together: bool = False) -> Iterator[Connection]:
        """Lend a connection for a change, then delete some of what has expired.

        :param together: whether the change is of several statements, which count together.
        """
        began = time.monotonic()
        with self._connection(changes=True, together=together) as connection:
            yield connection
        use, now = self._use.get(), self._clock()
        if abs(now - use.purged) >= PURGE_INTERVAL:
            use.purged = now
            self._purge_in_passing(use, self._timeout - (time.monotonic() - began))

    @contextmanager
    def _connection(self, *, changes: bool = False, together: bool = False) -> Iterator[Connection]:
        """Lend a connection for a call, and report an outage.

        :raises StateUnavailable: for whatever the database says.
        :raises ConfigurationError: if the tables are not there, or not of this version.
        """
        use = self._use.get()
        try:
            with TimeLimit(self._timeout):
                if not use.ready:
                    self._prepare()
                    use.ready = True
                database = self._database
                with database.transaction() if together else database.statements(changes=changes) as connection:
                    yield connection
        except (SQLAlchemyError, OSError) as error:
            use.ready = use.ready and isinstance(error, Busy)
            if _is_undefined_table(error):
                raise self._not_made() from None
            finding = self._finding(error)
            if not isinstance(error, Busy):
                use.outage.failed(finding)
            raise StateUnavailable(finding) from None
        if use.outage.down:
            use.outage.answered()

    def _purge_in_passing(self, use: _Use, left: float) -> None:
        """Delete a batch of what has expired; the change has counted, whether this succeeds or not.

        :param left: seconds that the call has not spent.
        """
        if not self._database.path and left < self._timeout / 2:
            # The server is slow, and a request waits: the next change may do this.
            return
        try:
            with TimeLimit(left), self._database.statements() as connection:
                if self._database.path:
                    gone = self._purge_unless_busy(connection, use)
                else:
                    gone = connection.execute(self._ask.purge, {"now": self._clock()}).rowcount
        except (SQLAlchemyError, OSError) as error:
            if _is_busy(error):
                use.purges_missed += 1
            else:
                use.unpurged.failed(self._finding(error))
            return
        use.purges_missed = 0
        use.unpurged.answered()
        if gone == PURGE_BATCH:
            use.purged = 0.0

    def _purge_unless_busy(self, connection: Connection, use: _Use) -> int:
        """Purge SQLite without waiting for another writer; only where there always is one, for a moment."""
        longest = int(self._timeout * 1000)
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {min(10 * use.purges_missed, MOST_PURGE_WAIT, longest)}")
        try:
            gone = connection.execute(self._ask.purge, {"now": self._clock()}).rowcount
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {longest}")
        except BaseException:
            # It would go on with the short time-out.
            connection.invalidate()
            raise
        return gone

    def _check_version_at_start(self) -> None:
        """Refuse tables of another version at once; whether the database can be used is seen at its first use."""
        if self._database.path is None or self._database.path.exists():
            # Missing tables do not prevent a start: the command that makes them starts like this, too.
            try:
                with suppress(StateUnavailable, _NotMade), self._connection():
                    pass
            finally:
                self.close()

    def _prepare(self) -> None:
        """See to the tables; make those of SQLite."""
        if self._database.path and not self._has_tables():
            self._create()
        with self._database.statements() as connection:
            version = connection.execute(select(func.max(schema.c.version))).scalar()
        if version is None and not self._database.path:
            raise self._not_made()
        if version != SCHEMA_VERSION:
            way = (
                "name another file (accounts in this one stay: name it in accounts_url)"
                if self._database.path
                else f"drop them and run `{INIT_DB}`"
            )
            raise ConfigurationError(
                f"state_url: the tables in {self._database.name} are of version {version}, this release needs "
                f"{SCHEMA_VERSION}; {way}: people log in anew"
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
        return _NotMade(f"state_url: {self._database.name} has no state tables: make them with `{INIT_DB}`")

    def _finding(self, error: SQLAlchemyError | OSError) -> str:
        happened = "is busy" if isinstance(error, Busy) else "did not answer"
        return f"the state in {self._database.name} {happened}: {self._database.finding(error)}"


def _record_version(connection: Connection) -> None:
    if connection.execute(select(func.max(schema.c.version))).scalar() is None:
        connection.execute(insert(schema).values(version=SCHEMA_VERSION))


def _compare(connection: Connection, rows: Sequence[Any], asked: set[str]) -> None:
    """See that each row begins with a key or a term that was asked for.

    :raises SQLAlchemyError: if not; the connection is closed.
    """
    if any(row[0] not in asked for row in rows):
        out_of_step(connection)


def _is_undefined_table(error: SQLAlchemyError | OSError) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "42P01"


def _is_busy(error: SQLAlchemyError | OSError) -> bool:
    """Tell whether another writer of SQLite was at work (SQLITE_BUSY, SQLITE_LOCKED)."""
    return (
        isinstance(error, DBAPIError)
        and isinstance(error.orig, sqlite3.OperationalError)
        and "locked" in str(error.orig)
    )
