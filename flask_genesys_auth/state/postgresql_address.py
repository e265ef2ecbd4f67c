"""The address of a PostgreSQL database: SQLAlchemy's form read, libpq's form made of it."""

from __future__ import annotations

from typing import Any, cast

import psycopg
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import ArgumentError

from ..errors import ConfigurationError
from ..libpq import conninfo

DRIVER = "postgresql+psycopg"
DIALECT: Dialect = cast("Any", PGDialect_psycopg)(paramstyle="numeric_dollar")


def read_address(url: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the address without what may be secret, libpq's form of it, and what of it is secret.

    :raises ConfigurationError: if it is none of PostgreSQL, or libpq does not understand it.
    """
    try:
        address = make_url(url)
        if address.drivername != DRIVER:
            raise ConfigurationError(f'state_url: must be of the form "{DRIVER}://user:password@host:5432/database"')
        _, named = DIALECT.create_connect_args(address)
        text = conninfo(named)
    except (ArgumentError, ValueError):
        raise ConfigurationError("state_url: is not a database's address") from None
    except psycopg.ProgrammingError:
        raise ConfigurationError("state_url: has an option that libpq does not know") from None
    shown = URL.create(address.drivername, host=address.host, port=address.port, database=address.database)
    secrets = tuple(str(named[name]) for name in ("password", "sslpassword") if named.get(name))
    return shown.render_as_string(), text, secrets
