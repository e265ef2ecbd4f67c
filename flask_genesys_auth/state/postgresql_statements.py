"""What is asked of PostgreSQL: each statement compiled once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, bindparam, func, insert, literal, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.schema import CreateIndex, CreateTable

from . import postgresql_health, tables
from .postgresql_address import DIALECT
from .tables import PURGE_BATCH, SCHEMA_VERSION, entries, metadata, schema, terms
from .values import BATCH

if TYPE_CHECKING:
    from sqlalchemy.sql.elements import ClauseElement

    from ..libpq import Command

# True of a row that this very transaction has written: what follows an ``add`` must do nothing where it stored nothing.
_OURS = text("genesys_auth_state.xmin = pg_current_xact_id()::xid")
# Of two who make the tables at once, the second waits. The number is an arbitrary one of ours.
_ALONE = select(func.pg_advisory_xact_lock(0x67656E65737973))
_SETTINGS = select(
    func.set_config("statement_timeout", bindparam("timeout"), False),
    func.set_config("default_transaction_isolation", "read committed", False),
    # All that is asked here has an index, and planning would take longer than asking.
    func.set_config("plan_cache_mode", "force_generic_plan", False),
    func.set_config("enable_seqscan", "off", False),
    func.set_config("enable_hashjoin", "off", False),
    func.set_config("enable_mergejoin", "off", False),
)


class Statement:
    """A statement compiled once; its name on a connection is that of its place here."""

    def __init__(self, name: str, statement: ClauseElement) -> None:
        compiled = statement.compile(dialect=DIALECT)
        self._name = name.encode()
        self._text = str(compiled).encode()
        self._names: Sequence[str] = getattr(compiled, "positiontup", None) or ()
        self._fixed = compiled.params or {}

    def __call__(self, **values: Any) -> Command:
        """Return it with these values, as a connection takes it."""
        values = {**self._fixed, **values}
        return self._name, self._text, [_sent(values[name]) for name in self._names]


READ = Statement("read", tables.READ)
FIND = Statement("find", tables.FIND)
# Compared by the whole primary key, lest the other index be taken for the better one, which is of all terms.
FIND_BATCH = Statement(
    "find_batch",
    tables.FIND_BATCH.where(
        tuple_(terms.c.namespace, terms.c.term, terms.c.key)
        > tuple_(bindparam("of"), bindparam("at"), bindparam("after"))
    ),
)
REPLACE = Statement("replace", tables.REPLACE)
TAKE = Statement("take", tables.TAKE)
PUT = Statement("put", tables.put(upsert(entries)))
ADD = Statement("add", tables.add(upsert(entries)))
# These come after a statement that holds the entry's row, so that they see what whoever held it before has left.
FORGET = Statement("forget", tables.FORGET.where(select(entries.c.key).where(*tables.THIS, _OURS).exists()))
LABEL = Statement(
    "label",
    insert(terms).from_select(
        ["namespace", "term", "key"],
        select(entries.c.namespace, bindparam("term", type_=terms.c.term.type), entries.c.key).where(
            *tables.THIS, _OURS
        ),
    ),
)
# Rows by their place, found once: what another process purges at this moment is left to it.
PURGE = Statement(
    "purge",
    text(
        "DELETE FROM genesys_auth_state WHERE ctid = ANY (ARRAY ("
        "SELECT ctid FROM genesys_auth_state WHERE expires <= :now ORDER BY expires LIMIT :batch "
        "FOR UPDATE SKIP LOCKED))"
    ).bindparams(batch=PURGE_BATCH),
)
# Found once, and held in the order of their keys, so that of two who do this at once one waits for the other.
DELETE_FOUND = Statement(
    "delete_found",
    text(
        "WITH found AS MATERIALIZED ("
        "SELECT entry.key FROM genesys_auth_state_index AS term "
        "JOIN genesys_auth_state AS entry ON entry.namespace = term.namespace AND entry.key = term.key "
        "WHERE term.namespace = :of AND term.term = :at AND entry.expires > :now ORDER BY term.key LIMIT :batch "
        "FOR UPDATE OF entry) "
        "DELETE FROM genesys_auth_state AS gone USING found WHERE gone.namespace = :of AND gone.key = found.key"
    ).bindparams(batch=BATCH),
)
CLEAR = Statement("clear", tables.CLEAR)
BEGIN = Statement("begin", _SETTINGS)
LOOK = Statement("look", postgresql_health.LOOK)
VERSION = Statement("version", select(func.max(schema.c.version)))
TABLES = [Statement("alone", _ALONE)]
for _table in metadata.sorted_tables:
    TABLES.append(Statement(_table.name, CreateTable(_table, if_not_exists=True)))
    TABLES += [Statement(str(_index.name), CreateIndex(_index, if_not_exists=True)) for _index in _table.indexes]
TABLES.append(
    Statement(
        "marked",
        insert(schema).from_select(
            ["version"], select(literal(SCHEMA_VERSION, Integer)).where(~select(schema.c.version).exists())
        ),
    )
)


def _sent(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else repr(value).encode()
