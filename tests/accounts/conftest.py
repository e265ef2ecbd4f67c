"""The account store in SQLite and in PostgreSQL, and cheap password hashes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import extract_parameters, low_level
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from flask_genesys_auth.accounts.database import metadata
from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.config.settings import PasswordSettings
from tests.servers import own_postgresql, postgresql

__all__ = ["own_postgresql", "postgresql"]

CHEAP = PasswordSettings(memory_kib=64, iterations=1, lanes=1)


@pytest.fixture
def hasher() -> PasswordHasher:
    return PasswordHasher(CHEAP)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The parameters of each call to argon2."""
    seen: list[Any] = []
    verify = low_level.verify_secret

    def counted(hash: bytes, secret: bytes, type: low_level.Type) -> bool:  # noqa: A002  # argon2's own names
        seen.append(extract_parameters(hash.decode()))
        return verify(hash, secret, type)

    monkeypatch.setattr("argon2._password_hasher.verify_secret", counted)
    return seen


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'data' / 'accounts.sqlite3'}"


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[SqlAccounts]:
    store = SqlAccounts(sqlite_url)
    store.create_tables()
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[SqlAccounts]:
    """The store in SQLite and in PostgreSQL; its timeout allows for a busy machine."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgresql")
    store = SqlAccounts(url, timeout=30)
    store.create_tables()
    yield store
    store.close()
    if request.param == "sqlite":
        return
    engine = create_engine(url, poolclass=NullPool)
    metadata.drop_all(engine)
