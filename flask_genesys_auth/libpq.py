"""Talking to PostgreSQL so that every wait has an end.

libpq's ``connect_timeout`` counts whole seconds, two at least, and ``statement_timeout`` is kept by the server, which a
server that hangs does not do. So sockets are waited for here, against a deadline, around libpq's calls that never block
(PostgreSQL's documentation, "Asynchronous Command Processing" and "Pipeline Mode"). Only the look-up of a host name
takes as long as the system's resolver lets it.
"""

from __future__ import annotations

import math
import select
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors, pq
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

Command = tuple[bytes, bytes, Sequence[bytes]]
"""A statement's name on its connection, its text, and what stands for ``$1``, ``$2`` ... in it."""

PLANS_LAST = 10.0
"""Seconds after which statements are planned anew: what was best for an empty table is not for a full one."""
_PLAN_ANEW: Command = (b"plan anew", b"DISCARD PLANS", ())


class Late(psycopg.OperationalError):
    """The server did not answer in time; whether what was sent has counted, nobody knows."""


def ready(socket: int, events: int, deadline: float) -> int:
    """Wait until a socket can be read (1) or written (2), and return which.

    :param deadline: of ``time.monotonic()``.
    :raises Late: if neither comes true by then.
    """
    # Not by a selector of the standard library: to make one takes longer than the answer from a server nearby.
    patience = max(0.0, deadline - time.monotonic())
    if sys.platform == "win32":
        can_read, can_write, _ = select.select([socket] * (events & 1), [socket] * (events >> 1), [], patience)
        found = len(can_read) | len(can_write) << 1
    else:
        poller = select.poll()
        poller.register(socket, (select.POLLIN if events & 1 else 0) | (select.POLLOUT if events & 2 else 0))
        found = 0
        for _, seen in poller.poll(math.ceil(patience * 1000)):
            # An error or a farewell is for whoever waits, whatever it waits for.
            found = events & ((seen & ~select.POLLOUT and 1) | (seen & ~select.POLLIN and 2))
    if found:
        return found
    raise Late("no answer in time")


def conninfo(named: Mapping[str, Any]) -> str:
    """Return libpq's form of an address.

    :param named: its parts by libpq's names.
    :raises psycopg.ProgrammingError: if libpq does not know one of them.
    """
    return make_conninfo(**{"client_encoding": "UTF8", "fallback_application_name": "flask-genesys-auth", **named})


def connect(conninfo: str, deadline: float) -> PGconn:
    """Return a connection that does not block.

    :param deadline: of ``time.monotonic()``, for all hosts together.
    :raises Late: if it does not stand by then.
    :raises psycopg.OperationalError: if it is refused.
    """
    connection = pq.PGconn.connect_start(conninfo.encode())
    try:
        state = pq.PollingStatus.WRITING
        while connection.status != pq.ConnStatus.BAD and state != pq.PollingStatus.OK:
            # Which socket it is may change: of several addresses one after the other is tried.
            ready(connection.socket, 1 if state == pq.PollingStatus.READING else 2, deadline)
            state = pq.PollingStatus(connection.connect_poll())
            if state == pq.PollingStatus.FAILED:
                break
        if state != pq.PollingStatus.OK:
            raise psycopg.OperationalError(connection.error_message.decode("utf-8", "replace").strip())
        connection.nonblocking = 1
    except BaseException:
        connection.finish()
        raise
    return connection


class Pipeline:
    """A connection that takes several statements in one go and runs them in one transaction, one round trip in all.

    Each statement is prepared when it is used first. Whoever meets an error here closes the connection.
    """

    def __init__(self, conninfo: str, deadline: float) -> None:
        self._connection = connect(conninfo, deadline)
        self._connection.enter_pipeline_mode()
        self._prepared: set[bytes] = set()
        self._plan_anew_at = time.monotonic() + PLANS_LAST

    def is_stale(self) -> bool:
        """Tell whether there is something to read while nothing was asked: a farewell, as a rule."""
        try:
            ready(self._connection.socket, 1, 0.0)
        except Late:
            return False
        except (psycopg.Error, OSError, ValueError):
            pass
        return True

    def run(self, deadline: float, *commands: Command) -> list[PGresult]:
        """Return the result of each; either all of them count or none does.

        :param deadline: of ``time.monotonic()``.
        :raises Late: if the answer has not come by then.
        :raises psycopg.Error: as the server says, by its SQLSTATE and in its words without their details.
        """
        if time.monotonic() >= self._plan_anew_at:
            self._plan_anew_at = time.monotonic() + PLANS_LAST
            return self._run(deadline, _PLAN_ANEW, *commands)[1:]
        return self._run(deadline, *commands)

    def close(self) -> None:
        """Let go of it; the server undoes what it has not finished."""
        with suppress(psycopg.Error):
            self._connection.finish()

    def _run(self, deadline: float, *commands: Command) -> list[PGresult]:
        connection = self._connection
        new = []
        for name, text, values in commands:
            new.append(name not in self._prepared)
            if new[-1]:
                self._prepared.add(name)
                connection.send_prepare(name, text)
            # The compiled psycopg before 3.3 takes nothing but a list.
            connection.send_query_prepared(name, list(values))
        connection.pipeline_sync()
        while connection.flush():
            if ready(connection.socket, 3, deadline) & 1:
                connection.consume_input()
        results = []
        for first in new:
            if first:
                self._result(deadline)
            results.append(self._result(deadline))
        # Only now the transaction is committed, or is not.
        self._expect(deadline, pq.ExecStatus.PIPELINE_SYNC)
        return results

    def _result(self, deadline: float) -> PGresult:
        result = self._expect(deadline, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
        # What ends the results of one statement.
        self._next(deadline)
        return result

    def _expect(self, deadline: float, *expected: int) -> PGresult:
        result = self._next(deadline)
        if result is None:
            raise psycopg.OperationalError("the connection was lost")
        if result.status not in expected:
            raise _error(result)
        return result

    def _next(self, deadline: float) -> PGresult | None:
        connection = self._connection
        while connection.is_busy():
            ready(connection.socket, 1, deadline)
            connection.consume_input()
        return connection.get_result()


def _error(result: PGresult) -> psycopg.Error:
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    try:
        kind: type[psycopg.Error] = errors.lookup(state)
    except KeyError:
        kind = psycopg.DatabaseError
    return kind(said.decode("utf-8", "replace"))
