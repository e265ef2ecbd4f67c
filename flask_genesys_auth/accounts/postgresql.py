"""Connections of psycopg to PostgreSQL that do not wait longer than they may, whatever the server does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

import psycopg

from ..errors import ConfigurationError
from ..libpq import connect, conninfo, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn
    from sqlalchemy.engine import URL

Answer = TypeVar("Answer")


class PatientConnection(psycopg.Connection[Any]):
    """A connection each wait of which has an end; one that had to be given up is closed.

    :ivar deadline: of ``time.monotonic()``, for all that comes; without one each statement has as long as the first.
    """

    def __init__(self, connection: PGconn, patience: float, deadline: float) -> None:
        super().__init__(connection)
        self.deadline: float | None = deadline
        self._patience = patience

    def wait(self, gen: PQGen[Answer], *_: object, **__: object) -> Answer:
        """Go on with what psycopg does whenever the server can be read or written.

        :raises Late: if it takes too long.
        """
        deadline = self.deadline or time.monotonic() + self._patience
        try:
            wanted = next(gen)
            while True:
                wanted = gen.send(cast("Any", ready(self.pgconn.socket, wanted, deadline)))
        except StopIteration as end:
            return cast("Answer", end.value)
        except psycopg.DatabaseError as error:
            if error.sqlstate is None:
                # Not the server's word: nobody knows what the connection is at.
                self.pgconn.finish()
            raise
        except BaseException:
            self.pgconn.finish()
            raise


def creator(url: URL, timeout: float) -> Callable[[], PatientConnection]:
    """Return what opens connections for SQLAlchemy's engine.

    :param timeout: seconds for a connection to stand and be set up, and for each statement later.
    :raises ConfigurationError: if libpq does not understand the address.
    """
    _, named = cast("Any", url.get_dialect()()).create_connect_args(url)
    try:
        text = conninfo(named)
    except psycopg.ProgrammingError:
        raise ConfigurationError("accounts_url: has an option that libpq does not know") from None

    def create() -> PatientConnection:
        deadline = time.monotonic() + timeout
        return PatientConnection(connect(text, deadline), timeout, deadline)

    return create
