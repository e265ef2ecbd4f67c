"""The tables of the state, and what is asked of them in every database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sqlalchemy import (
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    delete,
    select,
    update,
)

from .values import BATCH

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 1
INIT_DB = "flask genesys-auth init-db"
PURGE_BATCH = 100
"""How many expired rows are deleted in one go, at most."""
PURGE_INTERVAL = 1.0
"""Seconds between two deletions in passing of one process, unless there was more than a batch to delete."""
MOST_PURGE_WAIT = 200
"""Milliseconds that a purge in passing waits for other writers at most, where it has often found them at work."""

metadata = MetaData()

# In PostgreSQL by the collation "C": byte by byte, and no update of the system's collations can harm an index.
_NAME = String(255).with_variant(String(255, collation="C"), "postgresql")

schema = Table("genesys_auth_state_schema", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

entries = Table(
    "genesys_auth_state",
    metadata,
    Column("namespace", _NAME, primary_key=True),
    Column("key", _NAME, primary_key=True),
    Column("value", Text, nullable=False),
    Column("expires", Float, nullable=False),
    Index("genesys_auth_state_expires", "expires"),
    sqlite_with_rowid=False,
)

terms = Table(
    "genesys_auth_state_index",
    metadata,
    Column("namespace", _NAME, primary_key=True),
    Column("term", _NAME, primary_key=True),
    Column("key", _NAME, primary_key=True),
    ForeignKeyConstraint(
        ["namespace", "key"], ["genesys_auth_state.namespace", "genesys_auth_state.key"], ondelete="CASCADE"
    ),
    Index("genesys_auth_state_index_key", "namespace", "key"),
    sqlite_with_rowid=False,
)

THIS = (entries.c.namespace == bindparam("of"), entries.c.key == bindparam("at"))
LIVING = entries.c.expires > bindparam("now")
READ = select(entries.c.value).where(*THIS, LIVING)
FIND = (
    select(terms.c.key)
    .join(entries, (entries.c.namespace == terms.c.namespace) & (entries.c.key == terms.c.key))
    .where(terms.c.namespace == bindparam("of"), terms.c.term == bindparam("at"), LIVING)
    .order_by(terms.c.key)
)
FIND_BATCH = FIND.limit(BATCH)
REPLACE = update(entries).where(*THIS, LIVING).values(value=bindparam("text"), expires=bindparam("end"))
TAKE = delete(entries).where(*THIS).returning(entries.c.value, entries.c.expires)
CLEAR = delete(entries).where(entries.c.namespace == bindparam("of"))
FORGET = delete(terms).where(terms.c.namespace == bindparam("of"), terms.c.key == bindparam("at"))


def put(upsert: Any) -> Any:
    """Return the statement that stores an entry whatever was there.

    :param upsert: ``insert(entries)`` of a dialect that knows ``ON CONFLICT``.
    """
    return upsert.on_conflict_do_update(index_elements=["namespace", "key"], set_=_overwrite(upsert))


def add(upsert: Any) -> Any:
    """Return the statement that stores an entry where nothing lives, and returns its key if it did.

    :param upsert: as of :func:`put`.
    """
    return upsert.on_conflict_do_update(
        index_elements=["namespace", "key"], set_=_overwrite(upsert), where=entries.c.expires <= bindparam("now")
    ).returning(entries.c.key)


def _overwrite(upsert: Any) -> Mapping[str, Any]:
    return {"value": upsert.excluded.value, "expires": upsert.excluded.expires}


@runtime_checkable
class KeepsTables(Protocol):
    """A state whose tables can be made before it is used."""

    def create_tables(self) -> None:
        """Make the tables where they are missing.

        :raises StateUnavailable: if the database cannot be reached or written.
        """
        ...
