"""The SQL statements of the state: common ones, and those of SQLite and of PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, text, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from .tables import entries, terms
from .values import BATCH

PURGE_BATCH = 100
"""The most expired rows that one statement deletes."""

_THIS = (entries.c.namespace == bindparam("of"), entries.c.key == bindparam("at"))
_LIVING = entries.c.expires > bindparam("now")
_FOUND = (
    select(terms.c.term, terms.c.key)
    .join(entries, (entries.c.namespace == terms.c.namespace) & (entries.c.key == terms.c.key))
    .where(terms.c.namespace == bindparam("of"), terms.c.term == bindparam("at"), _LIVING)
    .order_by(terms.c.key)
)

# Each row begins with its key or term, which the caller compares with the requested one.
READ = select(entries.c.key, entries.c.value).where(*_THIS, _LIVING)
READ_MANY = select(entries.c.key, entries.c.value).where(
    entries.c.namespace == bindparam("of"), entries.c.key.in_(bindparam("keys", expanding=True)), _LIVING
)
FIND = _FOUND
REPLACE = (
    update(entries)
    .where(*_THIS, _LIVING)
    .values(value=bindparam("text"), expires=bindparam("end"))
    .returning(entries.c.key)
)
TAKE = delete(entries).where(*_THIS).returning(entries.c.key, entries.c.value, entries.c.expires)
CLEAR = delete(entries).where(entries.c.namespace == bindparam("of"))
FORGET_TERMS = delete(terms).where(terms.c.namespace == bindparam("of"), terms.c.key == bindparam("at"))
ADD_TERMS = insert(terms)


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements that differ between SQLite and PostgreSQL.

    :ivar put: stores or replaces an entry.
    :ivar add: stores an entry unless the key exists; returns the key if it was stored.
    :ivar find_batch: returns the next :data:`~flask_genesys_auth.state.values.BATCH` keys of a term.
    :ivar purge: deletes :data:`PURGE_BATCH` expired entries of any namespace.
    :ivar delete_found: deletes a batch of unexpired entries of a term.
    """

    put: Any
    add: Any
    find_batch: Any
    purge: Any
    delete_found: Any


def _upserts(dialect: Any) -> tuple[Any, Any]:
    stored = dialect.insert(entries)
    overwrite = {
        "index_elements": ["namespace", "key"],
        "set_": {"value": stored.excluded.value, "expires": stored.excluded.expires},
    }
    expired = entries.c.expires <= bindparam("now")
    return (
        stored.on_conflict_do_update(**overwrite),
        stored.on_conflict_do_update(**overwrite, where=expired).returning(entries.c.key),
    )


SQLITE = Statements(
    *_upserts(sqlite),
    find_batch=_FOUND.where(terms.c.key > bindparam("after")).limit(BATCH),
    purge=delete(entries).where(
        tuple_(entries.c.namespace, entries.c.key).in_(
            select(entries.c.namespace, entries.c.key).where(entries.c.expires <= bindparam("now")).limit(PURGE_BATCH)
        )
    ),
    delete_found=delete(entries).where(
        entries.c.namespace == bindparam("of"),
        entries.c.key.in_(_FOUND.with_only_columns(terms.c.key).limit(BATCH).correlate(None)),
    ),
)

POSTGRESQL = Statements(
    *_upserts(postgresql),
    # Compares the whole primary key. Otherwise the planner may choose the other index, which covers all terms.
    find_batch=_FOUND.where(
        tuple_(terms.c.namespace, terms.c.term, terms.c.key)
        > tuple_(bindparam("of"), bindparam("at"), bindparam("after"))
    ).limit(BATCH),
    # Finds the rows once, by their place, and skips those that another process is purging.
    purge=text(
        "DELETE FROM genesys_auth_state WHERE ctid = ANY (ARRAY ("
        "SELECT ctid FROM genesys_auth_state WHERE expires <= :now ORDER BY expires LIMIT :batch "
        "FOR UPDATE SKIP LOCKED))"
    ).bindparams(batch=PURGE_BATCH),
    # Finds the rows once and locks them in the order of their keys, so that two such statements do not deadlock.
    delete_found=text(
        "WITH found AS MATERIALIZED ("
        "SELECT entry.key FROM genesys_auth_state_index AS term "
        "JOIN genesys_auth_state AS entry ON entry.namespace = term.namespace AND entry.key = term.key "
        "WHERE term.namespace = :of AND term.term = :at AND entry.expires > :now ORDER BY term.key LIMIT :batch "
        "FOR UPDATE OF entry) "
        "DELETE FROM genesys_auth_state AS gone USING found WHERE gone.namespace = :of AND gone.key = found.key"
    ).bindparams(batch=BATCH),
)
