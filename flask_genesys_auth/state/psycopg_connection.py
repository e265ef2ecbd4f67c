"""A psycopg connection whose every wait ends, whatever the server does."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.errors import ConnectionTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.abc import PQGen

Answer = TypeVar("Answer")

LEAST_CONNECT_TIMEOUT = 2
"""Seconds: libpq accepts no shorter ``connect_timeout``. It counts for each host of an address."""


class BoundedConnection(psycopg.Connection[Any]):
    """Closes itself when an answer has not come in time: nothing can be read out of step afterwards.

    ``statement_timeout`` alone is not enough: the server keeps it, and a server that hangs does not.

    :ivar timeout: seconds for a statement, where the call has no deadline of its own.
    :ivar seconds_left: returns the seconds until the deadline of the call; the argument where it has none.
    """

    timeout = math.inf
    seconds_left: Callable[[float], float] = staticmethod(float)

    def wait(self, gen: PQGen[Answer], interval: float = 0.1, timeout: float | None = None) -> Answer:
        """Wait for what psycopg is doing until the deadline of the call.

        :raises psycopg.OperationalError: if it takes longer.
        """
        longest = self.seconds_left(self.timeout) if timeout is None else timeout
        until = time.monotonic() + longest
        try:
            return super().wait(gen, interval, None if math.isinf(longest) else longest)
        except psycopg.DatabaseError as error:
            if error.sqlstate is not None:
                # The server's own answer, read to its end.
                raise
            self.pgconn.finish()
            if time.monotonic() >= until:
                raise _too_late(self.timeout) from None
            raise
        except BaseException:
            self.pgconn.finish()
            raise


def connector(
    timeout: float, *, seconds_left: Callable[[float], float], extend: Callable[[float], None]
) -> Callable[..., BoundedConnection]:
    """Return a handler for SQLAlchemy's event ``do_connect``.

    :param timeout: seconds for each statement of a connection, and for the connection itself: whole ones, 2 at least.
    :param seconds_left: returns the seconds until the deadline of the call; the argument where it has none.
    :param extend: moves that deadline by a wait that does not count.
    """
    longest = max(LEAST_CONNECT_TIMEOUT, math.ceil(timeout))

    def connect(_: object, __: object, arguments: list[Any], options: dict[str, Any]) -> BoundedConnection:
        began = time.monotonic()
        if seconds_left(timeout) == 0:
            # The call has spent its time on a connection that did not answer.
            raise _too_late(timeout)
        try:
            # Statements are not prepared on the server: a plan for an empty table is wrong for a full one.
            made = BoundedConnection.connect(
                *arguments, **{**options, "connect_timeout": longest}, prepare_threshold=None
            )
        except ConnectionTimeout:
            raise _too_late(longest) from None
        finally:
            extend(time.monotonic() - began)
        made.timeout, made.seconds_left = timeout, seconds_left
        return made

    return connect


def _too_late(seconds: float) -> psycopg.OperationalError:
    return psycopg.OperationalError(f"no answer in time: nothing came within {seconds:g} s")
