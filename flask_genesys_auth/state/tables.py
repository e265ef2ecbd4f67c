"""The tables of the state in SQL databases."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKeyConstraint, Index, Integer, MetaData, String, Table, Text

SCHEMA_VERSION = 2
INIT_DB = "flask genesys-auth init-db"

metadata = MetaData()

# PostgreSQL compares byte by byte (collation "C"): an update of the system's collations cannot damage an index.
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
