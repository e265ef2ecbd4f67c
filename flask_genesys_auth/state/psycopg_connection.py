"""A psycopg connection on which each wait has a timeout."""

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
"""The shortest ``connect_timeout`` of libpq in seconds; it applies to each host of a URL."""


class BoundedConnection(psycopg.Connection[Any]):
    """Closes itself when an answer times out, so that a late answer is never read as the next one.

    ``statement_timeout`` is not enough: the server enforces it, and a hung server does not.

    :ivar timeout: seconds for a statement of a call without a deadline.
    :ivar seconds_left: returns the seconds until the deadline of the call, or its argument if there is none.
    """

    timeout = math.inf
    seconds_left: Callable[[float], float] = staticmethod(float)

    def wait(self, gen: PQGen[Answer], interval: float = 0.1, timeout: float | None = None) -> Answer:
        """Run a step of psycopg until the deadline of the call.

        :raises psycopg.OperationalError: if it takes longer.
        """
        longest = self.seconds_left(self.timeout) if timeout is None else timeout
        until = time.monotonic() + longest
        try:
            return super().wait(gen, interval, None if math.isinf(longest) else longest)
        except psycopg.DatabaseError as error:
            if error.sqlstate is not None:
                # The server's answer; it has been read completely.
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

    :param timeout: seconds for each statement, and, rounded up and at least 2, to open a connection.
    :param seconds_left: returns the seconds until the deadline of the call, or its argument if there is none.
    :param extend: moves the deadline by the time that opening a connection took.
    """
    longest = max(LEAST_CONNECT_TIMEOUT, math.ceil(timeout))

    def connect(_: object, __: object, arguments: list[Any], options: dict[str, Any]) -> BoundedConnection:
        began = time.monotonic()
        if seconds_left(timeout) == 0:
            # A pooled connection has not answered, and the call has no time left.
            raise _too_late(timeout)
        try:
            # No prepared statements: a plan made for an empty table is wrong for a full one.
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
    return psycopg.OperationalError(f"timed out: no answer within {seconds:g} s")
