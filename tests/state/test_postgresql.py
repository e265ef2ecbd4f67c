"""PostgresqlState against the contract on a real server, in several processes, and in bad company."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flask_genesys_auth.state.postgresql import PostgresqlState

from . import racers as racers_module
from .contract import Clock, StateContract
from .racers import race_threads

PATIENCE = 30.0


def address(url: str) -> str:
    """Return libpq's form of an address of SQLAlchemy."""
    return url.replace("+psycopg", "")


class PostgresqlBackend:
    """Stores of one server, whose data are this test's alone."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = Clock()
        self._opened: list[PostgresqlState] = []
        self.open("one").create_tables()
        self.sql("TRUNCATE genesys_auth_state CASCADE")

    def open(self, namespace: str) -> PostgresqlState:
        self._opened.append(PostgresqlState(self.url, namespace, PATIENCE, clock=self.clock))
        return self._opened[-1]

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def race(self, operation: str, *, racers: int, inherit: bool = False) -> list[Any]:
        order = {
            "store": "flask_genesys_auth.state.postgresql:PostgresqlState",
            "arguments": [self.url, "one", PATIENCE],
            "operation": operation,
            "racers": racers,
            "inherit": inherit,
        }
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", racers_module.__name__, json.dumps(order)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=Path(__file__).parents[2],
        )
        assert (done.returncode, done.stderr) == (0, "")
        return list(json.loads(done.stdout))

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(address(self.url), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def rows(self, table: str) -> int:
        return int(self.sql(f"SELECT count(*) FROM {table}")[0][0])

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture
def backend(postgresql: str) -> Iterator[PostgresqlBackend]:
    made = PostgresqlBackend(postgresql)
    yield made
    made.close()


class TestPostgresqlState(StateContract):
    """The fixture above is the backend."""


def test_threads_share_one_store_and_one_wins(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    results = race_threads(store, "add", 50)
    assert [won for _, won in results].count(True) == 1
    assert len(results) == 50
    results = race_threads(store, "take", 50)
    assert [value for _, value in results].count(None) == 49


@pytest.mark.parametrize("operation", ["add", "take"])
def test_forked_workers_use_the_store_they_inherit(backend: PostgresqlBackend, operation: str) -> None:
    if operation == "take":
        backend.open("one").put("contested", "prize", 600)
    results = backend.race(operation, racers=20, inherit=True)
    assert [bool(won) for _, won in results].count(True) == 1
    assert len(results) == 20
