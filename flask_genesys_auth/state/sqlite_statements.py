"""What is asked of SQLite: each statement compiled once."""

from __future__ import annotations

import sqlite3
from typing import Any, cast

from sqlalchemy import bindparam, delete, insert, select, tuple_
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

from . import tables
from .tables import PURGE_BATCH, entries, terms

_DIALECT = sqlite_dialect(paramstyle="qmark")


class Statement:
    """A statement compiled once, run on SQLite's own cursor: what SQLAlchemy does around one takes longer than it."""

    def __init__(self, statement: ClauseElement) -> None:
        compiled = cast("SQLCompiler", statement.compile(dialect=_DIALECT))
        self._text = str(compiled)
        self._names = tuple(compiled.positiontup or ())
        self._fixed = compiled.params

    def run(self, cursor: sqlite3.Cursor, **values: Any) -> sqlite3.Cursor:
        """Run it with these values."""
        values = {**self._fixed, **values}
        return cursor.execute(self._text, [values[name] for name in self._names])


READ, FIND, FIND_BATCH, REPLACE, TAKE, PUT, ADD, CLEAR, FORGET, LABEL, DELETE_FOUND, PURGE = map(
    Statement,
    (
        tables.READ,
        tables.FIND,
        tables.FIND_BATCH.where(terms.c.key > bindparam("after")),
        tables.REPLACE,
        tables.TAKE,
        tables.put(upsert(entries)),
        tables.add(upsert(entries)),
        tables.CLEAR,
        tables.FORGET,
        insert(terms),
        delete(entries).where(
            entries.c.namespace == bindparam("of"), entries.c.key.in_(tables.FIND_BATCH.correlate(None))
        ),
        delete(entries).where(
            tuple_(entries.c.namespace, entries.c.key).in_(
                select(entries.c.namespace, entries.c.key)
                .where(entries.c.expires <= bindparam("now"))
                .limit(PURGE_BATCH)
            )
        ),
    ),
)
