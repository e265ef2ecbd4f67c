"""The state in PostgreSQL: for several nodes. Every change is one transaction, and one round trip."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.errors import UndefinedTable

from ..errors import ConfigurationError, StateUnavailable
from ..events import Event, Outage
from ..forks import watch_forks
from ..libpq import Command, Late, Pipeline
from . import postgresql_statements as ask
from .health import round_trip_check
from .postgresql_address import read_address
from .postgresql_health import server_checks
from .tables import INIT_DB, PURGE_BATCH, PURGE_INTERVAL, SCHEMA_VERSION
from .values import batches, batches_by_key, check_key, check_terms, check_ttl, dump, load

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from ..chain.ports import Json
    from ..checks import Check

CONNECTIONS = 8
"""Of one process at most; who finds none free waits for one as long as for an answer."""

READ_BATCH = 100
"""How many keys are read in one round trip, at most."""

TABLES_PATIENCE = 30.0
"""Seconds that making the tables may take, at least: people wait for that, requests do not."""


class _NotMade(ConfigurationError):
    """The tables are not there, or nobody has said of which version they are."""


class PostgresqlState:
    """Implements :class:`~flask_genesys_auth.chain.ports.StateStore` in PostgreSQL 13 or later.

    A failed call is not tried again: nobody could tell whether the first one counted. A connection that the server has
    closed while it was idle is seen before anything is sent on it, and costs nobody anything.

    :param url: ``postgresql+psycopg://``, as SQLAlchemy reads it; what follows the question mark is libpq's.
    :param namespace: whose keys these are: stores of other namespaces in the same tables never see them.
    :param timeout: seconds for a call, whatever it takes: a free connection, a new one, the answer.
    :param clock: unix time, which all nodes share.
    :raises ConfigurationError: if the address cannot be used, or the tables are of another version.
    """

    def __init__(self, url: str, namespace: str, timeout: float, *, clock: Callable[[], float] = time.time) -> None:
        self._name, self._conninfo, self._secrets = read_address(url)
        self._namespace = check_key(namespace)
        self._timeout = timeout
        self._clock = clock
        self._next_purge = 0.0
        self._idle: deque[Pipeline] = deque()
        self._places = BoundedSemaphore(CONNECTIONS)
        self._in_use: set[Pipeline] = set()
        self._inherited: list[Pipeline] = []
        self._outage = Outage(f"the state in {self._name}")
        self._unpurged = Outage(f"the state in {self._name}", Event.STATE_NOT_PURGED, None)
        watch_forks(self)
        # Tables that are not there are no reason not to start: the command that makes them starts like this, too.
        with suppress(StateUnavailable, _NotMade):
            self._run()
        self.close()

    def __repr__(self) -> str:
        return f"PostgresqlState({self._name!r}, {self._namespace!r})"

    def add(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> bool:
        """Store a value unless the key is taken (atomic); tell whether it was stored."""
        row = self._row(key, value, ttl)
        stored, *_ = self._change(ask.ADD(**row, now=self._clock()), *self._labels(key, index))
        return stored.ntuples == 1

    def put(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> None:
        """Store a value whatever was there; ``index`` replaces the key's former index terms."""
        self._change(ask.PUT(**self._row(key, value, ttl)), *self._labels(key, index))

    def replace(self, key: str, value: Json, ttl: float) -> bool:
        """Store a value only where the key lives (atomic), its index terms kept; tell whether it did."""
        row = self._row(key, value, ttl)
        (changed,) = self._change(
            ask.REPLACE(of=self._namespace, at=key, text=row["value"], end=row["expires"], now=self._clock())
        )
        return changed.command_tuples == 1

    def get(self, key: str) -> Json:
        """Return the value, or ``None`` where there is none or it has expired."""
        (found,) = self._run(ask.READ(of=self._namespace, at=check_key(key), now=self._clock()))
        return load(_text(found, 0, 0)) if found.ntuples else None

    def get_many(self, keys: Sequence[str]) -> list[Json]:
        """Return the value of each key, as :meth:`get` would, in few round trips."""
        now = self._clock()
        reads = [ask.READ(of=self._namespace, at=check_key(key), now=now) for key in keys]
        found: list[PGresult] = []
        for batch in batches(reads, READ_BATCH):
            found += self._run(*batch)
        return [load(_text(one, 0, 0)) if one.ntuples else None for one in found]

    def take(self, key: str) -> Json:
        """Return the value and delete it (atomic: of many callers one gets it), or ``None``."""
        taken = self._remove(key)
        return None if taken is None else load(taken)

    def delete(self, key: str) -> bool:
        """Delete the key; tell whether it was there."""
        return self._remove(key) is not None

    def find(self, term: str) -> list[str]:
        """Return the living keys that carry this index term."""
        return self._keys(ask.FIND(of=self._namespace, at=check_key(term), now=self._clock()))

    def find_each(self, term: str) -> Iterator[list[str]]:
        """Yield the living keys that carry this index term in batches, each looked for by itself."""
        named = {"of": self._namespace, "at": check_key(term)}
        return batches_by_key(lambda after: self._keys(ask.FIND_BATCH(**named, after=after, now=self._clock())))

    def delete_found(self, term: str) -> int:
        """Delete living keys that carry this index term, a batch of them (atomic); return how many."""
        (gone,) = self._change(ask.DELETE_FOUND(of=self._namespace, at=check_key(term), now=self._clock()))
        return gone.command_tuples or 0

    def purge(self) -> int:
        """Delete what has expired, of whatever namespace; return how many."""
        gone = 0
        while True:
            (done,) = self._run(ask.PURGE(now=self._clock()))
            batch = done.command_tuples or 0
            gone += batch
            if batch < PURGE_BATCH:
                return gone

    def clear(self) -> None:
        """Delete everything of this namespace, for tests."""
        self._change(ask.CLEAR(of=self._namespace))

    def create_tables(self) -> None:
        """Make the tables where they are missing, and say of which version they are.

        :raises StateUnavailable: if the database cannot be reached, or does not let this user make tables.
        """
        deadline = time.monotonic() + max(self._timeout, TABLES_PATIENCE)
        try:
            connection = Pipeline(self._conninfo, deadline)
            try:
                connection.run(deadline, *(statement() for statement in ask.TABLES))
            finally:
                connection.close()
        except (psycopg.Error, OSError) as error:
            raise self._trouble(error) from None

    def close(self) -> None:
        """Let go of connections; the store opens them anew when it is used again."""
        idle, self._idle = self._idle, deque()
        _close_all(idle)

    def checks(self) -> Iterator[Check]:
        """Yield whether the server and the tables are as they must be."""
        yield from (found := list(server_checks(self._name, self._look)))
        if len(found) > 1:  # it answers
            yield round_trip_check(self)

    def before_fork(self) -> None:
        """Close what is idle: a child must not hold the parent's connections open."""
        self.close()

    def after_fork(self) -> None:
        """Keep what was in use, or came back, at that very moment from ever being used or closed in this process."""
        self._inherited += [*self._in_use, *self._idle]
        self._in_use = set()
        self._idle = deque()
        self._places = BoundedSemaphore(CONNECTIONS)

    def _keys(self, command: Command) -> list[str]:
        (found,) = self._run(command)
        return [_text(found, row, 0) for row in range(found.ntuples)]

    def _look(self) -> list[str]:
        (found,) = self._run(ask.LOOK())
        return [_text(found, 0, column) for column in range(found.nfields)]

    def _row(self, key: str, value: Json, ttl: float) -> dict[str, Any]:
        return {
            "namespace": self._namespace,
            "key": check_key(key),
            "value": dump(value),
            "expires": self._clock() + check_ttl(ttl),
        }

    def _labels(self, key: str, index: Iterable[str]) -> list[Command]:
        this = {"of": self._namespace, "at": key}
        return [ask.FORGET(**this), *(ask.LABEL(**this, term=term) for term in sorted(check_terms(index)))]

    def _remove(self, key: str) -> str | None:
        (taken,) = self._change(ask.TAKE(of=self._namespace, at=check_key(key)))
        if taken.ntuples == 0 or float(_text(taken, 0, 1)) <= self._clock():
            return None
        return _text(taken, 0, 0)

    def _change(self, *commands: Command) -> list[PGresult]:
        deadline = self._deadline()
        results = self._run(*commands, deadline=deadline)
        if time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + PURGE_INTERVAL
            self._purge_in_passing(deadline)
        return results

    def _purge_in_passing(self, deadline: float) -> None:
        """Delete a batch of what has expired; the change has counted, whatever becomes of this."""
        if deadline - time.monotonic() < self._timeout / 2:
            # The server is slow, and somebody waits: it can be done later.
            return
        try:
            (gone,) = self._try(deadline, ask.PURGE(now=self._clock()))
        except (StateUnavailable, ConfigurationError) as error:
            self._unpurged.failed(str(error))
            return
        self._unpurged.answered()
        if gone.command_tuples == PURGE_BATCH:
            self._next_purge = 0.0

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    def _run(self, *commands: Command, deadline: float | None = None) -> list[PGresult]:
        """Run statements, and tell of an outage.

        :raises StateUnavailable: for whatever the database, or the way to it, says.
        :raises ConfigurationError: if the tables are not there, or not of this version.
        """
        try:
            results = self._try(deadline or self._deadline(), *commands)
        except StateUnavailable as error:
            self._outage.failed(error.finding)
            raise
        self._outage.answered()
        return results

    def _try(self, deadline: float, *commands: Command) -> list[PGresult]:
        """Run statements on a connection of our own; one that has met an error is not used again."""
        places, idle, connection = self._places, self._idle, None
        if not places.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise StateUnavailable(f"the state in {self._name}: all {CONNECTIONS} connections are waiting for it")
        try:
            connection = _awake(idle) or self._connect(deadline)
            self._in_use.add(connection)
            results = connection.run(deadline, *commands)
            self._in_use.discard(connection)
        except BaseException as error:
            if connection is not None:
                self._in_use.discard(connection)
                connection.close()
            if isinstance(error, (psycopg.Error, OSError)):
                raise self._trouble(error) from None
            raise
        else:
            idle.append(connection)
            if idle is not self._idle:
                _close_all(idle)
            return results
        finally:
            places.release()

    def _connect(self, deadline: float) -> Pipeline:
        connection = Pipeline(self._conninfo, deadline)
        try:
            timeout = str(max(1, int(self._timeout * 1000)))
            _, found = connection.run(deadline, ask.BEGIN(timeout=timeout), ask.VERSION())
            self._check_version(found.get_value(0, 0))
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_version(self, version: bytes | None) -> None:
        if version is None:
            raise self._not_made()
        if int(version) != SCHEMA_VERSION:
            raise ConfigurationError(
                f"state_url: the tables in {self._name} are of version {int(version)}, this release needs "
                f"{SCHEMA_VERSION}; drop them and run `{INIT_DB}`: people log in anew"
            )

    def _not_made(self) -> _NotMade:
        return _NotMade(f"state_url: {self._name} has no state tables: make them with `{INIT_DB}`")

    def _trouble(self, error: psycopg.Error | OSError) -> StateUnavailable | ConfigurationError:
        if isinstance(error, UndefinedTable):
            return self._not_made()
        if getattr(error, "sqlstate", None) is None:
            # It is not one statement that has failed: what waits is as dead as this one.
            self.close()
        said = str(error).partition("\n")[0][:200] or type(error).__name__
        if isinstance(error, Late):
            said = f"nothing came within {self._timeout:g} s"
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return StateUnavailable(f"the state in {self._name} did not answer: {said}")


def _awake(idle: deque[Pipeline]) -> Pipeline | None:
    """Return a connection that the server has not closed meanwhile, if there is one."""
    while True:
        try:
            connection = idle.pop()
        except IndexError:
            return None
        if not connection.is_stale():
            return connection
        connection.close()


def _close_all(idle: deque[Pipeline]) -> None:
    # Others may be doing the same.
    with suppress(IndexError):
        while True:
            idle.pop().close()


def _text(result: PGresult, row: int, column: int) -> str:
    return (result.get_value(row, column) or b"").decode()
