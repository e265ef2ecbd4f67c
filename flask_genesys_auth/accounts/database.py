"""The account tables: how they are read, changed and checked, and how database errors are translated."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

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
    bindparam,
    false,
    inspect,
    select,
)
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from ..checks import SLOW, Check, file_checks
from ..errors import AccountsUnavailable, ConfigurationError
from ..state.database import WRITABLE, Database, FileReplaced, TimeLimit, out_of_step
from .models import Account

INIT_DB = "flask genesys-auth init-db"

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


ACCOUNT = (
    accounts.c.id,
    accounts.c.contact_center,
    accounts.c.user_name,
    accounts.c.first_name,
    accounts.c.last_name,
    accounts.c.roles,
    accounts.c.enabled,
    accounts.c.version,
)


def to_account(row: Sequence[Any]) -> Account:
    """Return the account of a row that begins with the columns of ``ACCOUNT``."""
    return Account(row[0], row[1], row[2], row[3], row[4], _roles(row[5]), bool(row[6]), row[7])


@functools.lru_cache(maxsize=1024)
def _roles(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))


def echoing(statement: Select[Any], *names: str) -> Select[Any]:
    """Return the statement with its parameters as additional columns, so that a row shows which query it answers.

    The columns in the condition do not show it: some databases compare text loosely (MySQL: without accents).
    """
    return statement.add_columns(*(bindparam(name, type_=Text()).label(_echo(name)) for name in names))


def _echo(name: str) -> str:
    return f"echo_{name}"


class AccountDatabase:
    """Reads and changes the account tables.

    :param database: provides the connections.
    :param timeout: seconds for a read, and for each statement of a change.
    """

    def __init__(self, database: Database, timeout: float) -> None:
        self._database = database
        self._timeout = timeout
        self.name = database.name
        self.path = database.path

    def first(self, statement: Select[Any], parameters: Mapping[str, str]) -> Any:
        """Return the first row of a query, or ``None``.

        :param statement: if it has parameters, a result of :func:`echoing`.
        :param parameters: text that no database can store (surrogates, NUL) finds nothing.
        :raises AccountsUnavailable: for every database error, or if the row answers another query.
        :raises ConfigurationError: if the tables do not exist.
        """
        if not storable("".join(parameters.values())):
            return None
        with self._translated(), TimeLimit(self._timeout), self._database.statements() as connection:
            row = connection.execute(statement, parameters).first()
            if row is not None and any(getattr(row, _echo(name)) != value for name, value in parameters.items()):
                out_of_step(connection)
            return row

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Hold one transaction: commit it at the end, or roll it back after any exception.

        :raises AccountsUnavailable: for every database error except violated constraints (``IntegrityError``).
        :raises ConfigurationError: if the tables do not exist.
        """
        with self._translated(), self._database.transaction() as connection:
            yield connection

    def create_tables(self) -> None:
        """Create missing tables, and SQLite's file with its parents.

        :raises AccountsUnavailable: if the database cannot be reached or written.
        """
        try:
            self._database.make_tables(metadata)
        except OSError as error:
            raise AccountsUnavailable(f"{self.name} cannot be written: {error.strerror or error}; {WRITABLE}") from None
        except SQLAlchemyError as error:
            raise self._unavailable(error) from None

    def check_tables(self) -> None:
        """Check that the tables exist.

        :raises ConfigurationError: if not; names the command that creates them.
        :raises AccountsUnavailable: if the database does not answer.
        """
        if self.path is not None and not self.path.exists():
            raise self._absent(self.path)
        try:
            with self._database.statements() as connection:
                found = inspect(connection)
                missing = [table.name for table in metadata.sorted_tables if not found.has_table(table.name)]
        except SQLAlchemyError as error:
            raise self._unavailable(error) from None
        if missing:
            raise self._not_made()

    def close(self) -> None:
        """Close the connections of this process; the next use opens new ones."""
        self._database.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise self._trouble(error) from None

    def _trouble(self, error: SQLAlchemyError) -> AccountsUnavailable | ConfigurationError:
        """Translate an error; if tables may be missing, check whether they are."""
        replaced = isinstance(error, FileReplaced)
        if isinstance(error, ProgrammingError) or (self.path is not None and not replaced):
            try:
                self.check_tables()
            except (ConfigurationError, AccountsUnavailable) as found:
                return found
        return self._unavailable(error)

    def _absent(self, path: Path) -> ConfigurationError | AccountsUnavailable:
        """Return why SQLite's file does not exist: it has not been created, or cannot be."""
        # The nearest existing folder; the command creates the others.
        nearest = next((folder for folder in path.absolute().parents if os.path.lexists(folder)), path.absolute())
        if nearest.is_dir() and _writable(nearest):
            return self._not_made()
        finding = "cannot be written" if nearest.is_dir() else "is not a folder"
        return AccountsUnavailable(f"{self.name} does not exist and cannot be created: {nearest} {finding}; {WRITABLE}")

    def _not_made(self) -> ConfigurationError:
        return ConfigurationError(f"{self.name} has no account tables: create them with `{INIT_DB}`")

    def _unavailable(self, error: SQLAlchemyError) -> AccountsUnavailable:
        return AccountsUnavailable(f"the accounts in {self.name} did not answer: {self._database.finding(error)}")


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def storable(text: str) -> bool:
    """Return whether a database can store and compare this text: without lone surrogates and NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


_ALL_COLUMNS = tuple(select(table).where(false()) for table in metadata.sorted_tables)


def database_checks(database: AccountDatabase, *, slow: float = SLOW) -> Iterator[Check]:
    """Yield the health checks of the database: its speed, its tables, permission to read them, and its file.

    :param slow: seconds from which an answer is too slow.
    """
    name = "accounts.tables"
    try:
        database.check_tables()
        began = perf_counter()
        database.check_tables()
        seconds = perf_counter() - began
        for every_column_and_no_row in _ALL_COLUMNS:
            database.first(every_column_and_no_row, {})
    except AccountsUnavailable as error:
        yield Check(name, "failure", error.finding, "start the database, and let this user read and write it")
    except ConfigurationError as error:
        yield Check(name, "failure", str(error), f"run `{INIT_DB}`: without tables, no account exists")
    else:
        finding = f"the tables in {database.name} exist; checking them took {1000 * seconds:.1f} ms"
        if seconds > slow:
            yield Check(name, "warning", finding, "find out why the database is slow: each request reads an account")
        else:
            yield Check(name, "ok", finding)
    if database.path is not None and database.path.exists():
        yield from file_checks("accounts.file", database.path, secret=True)
