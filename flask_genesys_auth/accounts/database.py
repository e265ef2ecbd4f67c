"""The account tables and the way to them: connections, transactions, and what their trouble is called here."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    MetaData,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from ..errors import AccountsUnavailable, ConfigurationError
from ..forks import watch_forks

INIT_DB = "flask genesys-auth init-db"
WRITABLE = "the file and its folder must be writable by the user who runs this"
IDLE_CONNECTIONS = 32

metadata = MetaData()

accounts = Table(
    "genesys_auth_accounts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("contact_center", String(100), nullable=False),
    Column("user_key", String(255), nullable=False),
    Column("user_name", String(255), nullable=False),
    Column("first_name", String(255), nullable=False),
    Column("last_name", String(255), nullable=False),
    Column("roles", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("version", String(32), nullable=False),
    Column("password_hash", String(512)),
    UniqueConstraint("contact_center", "user_key", name="genesys_auth_accounts_name"),
)

identities = Table(
    "genesys_auth_identities",
    metadata,
    Column("contact_center", String(100), primary_key=True),
    Column("provider", String(100), primary_key=True),
    Column("value", String(512), primary_key=True),
    Column("account_id", String(32), ForeignKey(accounts.c.id), nullable=False),
    Index("genesys_auth_identities_account", "account_id"),
)


class Database:
    """Lends connections to the account tables; safe to share between threads and to carry over a fork.

    :param url: a SQLAlchemy address; of SQLite only files (memory would be another database for every connection).
    :param timeout: seconds to wait for a connection, for another writer, and (PostgreSQL) for each statement. With the
        driver psycopg they hold against a server that hangs; with psycopg2 that one may take two seconds and more.
    :raises ConfigurationError: if the address cannot be used, or its driver is not installed.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        address = _address(url)
        self._sqlite = address.get_backend_name() == "sqlite"
        self._path = Path(str(address.database)) if self._sqlite else None
        self._password = address.password or ""
        self.name = _shown(address)
        self._timeout = timeout
        self._patient = _is_patient(address)
        try:
            self._engine = create_engine(
                address, poolclass=NullPool, hide_parameters=True, **_connecting(address, timeout)
            )
        except (ImportError, SQLAlchemyError) as error:
            raise ConfigurationError(f"accounts_url: {address.drivername} cannot be used: {error}") from None
        if self._sqlite:
            event.listen(self._engine, "connect", _enforce_foreign_keys)
        elif address.get_backend_name() == "postgresql":
            event.listen(self._engine, "connect", _statement_timeout(timeout))
        self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        # Idle connections wait in a deque of our own: a checkout from SQLAlchemy's pool costs as much as the read.
        self._idle: deque[Connection] = deque()
        self._in_use: set[Connection] = set()
        self._inherited: list[Connection] = []
        self._texts: dict[Select[Any], tuple[str, Sequence[str]]] = {}
        self._psycopg = address.get_backend_name() == "postgresql" and self._engine.dialect.paramstyle == "pyformat"
        watch_forks(self)

    @property
    def path(self) -> Path | None:
        """SQLite's file, or ``None``: it is another database."""
        return self._path

    def first(self, statement: Select[Any], parameters: Mapping[str, str]) -> Sequence[Any] | None:
        """Return the first row of a read, its values as the driver gives them.

        :param statement: one of a fixed number: it is kept.
        :param parameters: text that no database could hold (surrogates, NUL) finds nothing.
        :raises AccountsUnavailable: for whatever the database says.
        :raises ConfigurationError: if the tables have not been made.
        """
        if not storable("".join(parameters.values())):
            return None
        until = time.monotonic() + self._timeout
        while True:
            idle = self._idle
            try:
                connection, used = idle.pop(), True
                if self._patient:
                    self._give(connection, until)
            except IndexError:
                connection, used = self._connect(), False
            self._in_use.add(connection)
            try:
                row = self._row(connection, statement, parameters)
            except SQLAlchemyError as error:
                self._discard(connection)
                if used and isinstance(error, DBAPIError) and error.connection_invalidated:
                    # The connections that waited are as dead as this one; the server may be back.
                    self.close()
                    if time.monotonic() < until:
                        continue
                raise self._trouble(error) from None
            except BaseException:
                self._discard(connection)
                raise
            self._in_use.discard(connection)
            if idle is self._idle and len(idle) < IDLE_CONNECTIONS:
                idle.append(connection)
            else:
                self._discard(connection)
            return row

    def _row(
        self, connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]
    ) -> Sequence[Any] | None:
        # One row is read at every request; what SQLAlchemy does around it would take twice as long again.
        if self._psycopg:
            return self._row_of_psycopg(connection, statement, parameters)
        if not self._sqlite:
            return connection.execute(statement, parameters).first()
        text, names = self._texts.get(statement) or self._compiled(statement)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(text, [parameters[name] for name in names])
            row: Sequence[Any] | None = cursor.fetchone()
        except sqlite3.Error as error:
            raise DBAPIError(text, None, error, hide_parameters=True) from error
        finally:
            cursor.close()
        return row

    def _row_of_psycopg(
        self, connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]
    ) -> Sequence[Any] | None:
        text, _ = self._texts.get(statement) or self._compiled(statement)
        dialect, cursor = self._engine.dialect, connection.connection.cursor()
        try:
            cursor.execute(text, parameters)
            row: Sequence[Any] | None = cursor.fetchone()
        except dialect.loaded_dbapi.Error as error:
            lost = dialect.is_disconnect(error, connection.connection, cursor)
            if lost:
                # Or it is rolled back when it is closed, which fails, and is logged by SQLAlchemy.
                connection.invalidate(error)
            raise DBAPIError.instance(
                text,
                None,
                error,
                dialect.loaded_dbapi.Error,
                hide_parameters=True,
                connection_invalidated=lost,
                dialect=dialect,
            ) from error
        finally:
            cursor.close()
        return row

    def _compiled(self, statement: Select[Any]) -> tuple[str, Sequence[str]]:
        compiled = statement.compile(dialect=self._engine.dialect)
        made = self._texts[statement] = (str(compiled), compiled.positiontup or ())
        return made

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Hold one transaction; it is committed at the end, and undone by any exception.

        :raises AccountsUnavailable: for whatever the database says, but for broken constraints (``IntegrityError``).
        :raises ConfigurationError: if the tables have not been made.
        """
        connection = self._connect()
        self._give(connection, None)
        try:
            if self._sqlite:
                # From before the first look on: SQLite's own beginning would be as late as the first change.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.exec_driver_sql("COMMIT")
            else:
                with connection.execution_options(isolation_level=self._engine.dialect.default_isolation_level).begin():
                    yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise self._trouble(error) from None
        finally:
            self._discard(connection)

    def create_tables(self) -> None:
        """Make the tables, and SQLite's file with its parents, where they are missing.

        :raises AccountsUnavailable: if the database cannot be reached or written.
        """
        try:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # Password hashes are nobody else's business; SQLite gives its other files the same mode.
                self._path.touch(mode=0o600, exist_ok=True)
            with self._reader.connect() as connection:
                self._give(connection, None)
                if self._sqlite:
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                metadata.create_all(connection)
        except OSError as error:
            raise AccountsUnavailable(f"{self.name} cannot be written: {error.strerror or error}; {WRITABLE}") from None
        except SQLAlchemyError as error:
            raise AccountsUnavailable(self._finding(error)) from None

    def check_tables(self) -> None:
        """Look whether the tables are there.

        :raises ConfigurationError: if not; names the command that makes them.
        :raises AccountsUnavailable: if the database does not answer.
        """
        connection = self._connect()
        try:
            found = inspect(connection)
            missing = [table.name for table in metadata.sorted_tables if not found.has_table(table.name)]
        except SQLAlchemyError as error:
            raise AccountsUnavailable(self._finding(error)) from None
        finally:
            self._discard(connection)
        if missing:
            raise self._not_made()

    def close(self) -> None:
        """Let go of connections; they are opened anew when they are needed again."""
        idle, self._idle = self._idle, deque()
        while idle:
            with suppress(IndexError):
                self._discard(idle.pop())

    def before_fork(self) -> None:
        """Close what is idle: a child must not use its parent's connections, not even to close them."""
        self.close()

    def after_fork(self) -> None:
        """Keep the connections of threads that are not in this process from being closed by it."""
        self._inherited.extend(self._in_use)
        self._in_use.clear()
        self._idle = deque()

    def _connect(self) -> Connection:
        if self._path is not None and not self._path.exists():
            raise self._not_there(self._path)
        try:
            return self._reader.connect()
        except SQLAlchemyError as error:
            raise AccountsUnavailable(self._finding(error)) from None

    def _give(self, connection: Connection, deadline: float | None) -> None:
        """Say until when a connection may take; without a deadline each statement has the whole time-out."""
        if self._patient:
            cast("Any", connection.connection.driver_connection).deadline = deadline

    def _discard(self, connection: Connection) -> None:
        self._in_use.discard(connection)
        # Closing rolls back; a connection that cannot even do that is let go as it is.
        with suppress(SQLAlchemyError):
            connection.close()

    def _trouble(self, error: SQLAlchemyError) -> AccountsUnavailable | ConfigurationError:
        if not self._sqlite and not isinstance(error, ProgrammingError):
            # It is not for want of a table, and to look for one would take as long again.
            return AccountsUnavailable(self._finding(error))
        try:
            self.check_tables()
        except (ConfigurationError, AccountsUnavailable) as found:
            return found
        return AccountsUnavailable(self._finding(error))

    def _not_there(self, path: Path) -> ConfigurationError | AccountsUnavailable:
        """Return why SQLite's file is not there: it has not been made, or could not be."""
        # The nearest of its folders that there is; the command makes the others.
        nearest = next((folder for folder in path.absolute().parents if os.path.lexists(folder)), path.absolute())
        if nearest.is_dir() and _writable(nearest):
            return self._not_made()
        finding = "cannot be written" if nearest.is_dir() else "is no folder"
        return AccountsUnavailable(f"{self.name} is not there and cannot be made: {nearest} {finding}; {WRITABLE}")

    def _not_made(self) -> ConfigurationError:
        return ConfigurationError(f"{self.name} has no account tables: make them with `{INIT_DB}`")

    def _finding(self, error: SQLAlchemyError) -> str:
        said = type(error).__name__
        if isinstance(error, DBAPIError) and error.orig is not None:
            said = str(error.orig).partition("\n")[0][:200] or type(error.orig).__name__
        if self._sqlite and ("readonly" in said or "unable to open" in said):
            # Also a reader of SQLite's write-ahead log writes: its index, beside the file.
            said += f"; {WRITABLE}"
        if self._password:
            said = said.replace(self._password, "***")
        return f"the accounts in {self.name} did not answer: {said}"


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def storable(text: str) -> bool:
    """Tell whether a database can keep or compare this text: no lone surrogate, no NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError:
        raise ConfigurationError("accounts_url: is not a database's address") from None
    database = address.database or ""
    if address.get_backend_name() == "sqlite" and (database in {"", ":memory:"} or database.startswith("file:")):
        raise ConfigurationError("accounts_url: must name a SQLite file by its path")
    return address


def _shown(address: URL) -> str:
    """Return the address without whatever may be secret: neither user, password nor query."""
    if address.get_backend_name() == "sqlite":
        return str(address.database)
    bare = URL.create(address.drivername, host=address.host, port=address.port, database=address.database)
    return bare.render_as_string()


def _connecting(address: URL, timeout: float) -> dict[str, Any]:
    """Return how an engine is to open connections."""
    if address.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": timeout, "check_same_thread": False}}
    if _is_patient(address):
        from .postgresql import creator

        return {"creator": creator(address, timeout)}
    if address.get_backend_name() == "postgresql" and address.get_driver_name() == "psycopg2":
        # libpq counts whole seconds, and two at least.
        limits = {"connect_timeout": max(2, math.ceil(timeout)), "tcp_user_timeout": max(2000, int(timeout * 1000))}
        return {"connect_args": limits}
    return {}


def _is_patient(address: URL) -> bool:
    return address.get_backend_name() == "postgresql" and address.get_driver_name() == "psycopg"


def _enforce_foreign_keys(connection: Any, _: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")


def _statement_timeout(timeout: float) -> Any:
    def set_up(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {max(1, int(timeout * 1000))}")
        connection.commit()

    return set_up
