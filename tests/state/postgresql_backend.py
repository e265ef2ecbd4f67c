"""Stores in PostgreSQL, for tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flask_genesys_auth.state.sql import SqlState

from . import racers as racers_module
from .contract import Clock

PATIENCE = 30.0
OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'flask-genesys-auth'"
WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
TERMINATE = OURS.replace("SELECT pid", "SELECT pg_terminate_backend(pid)")


def address(url: str) -> str:
    """Return libpq's form of an address of SQLAlchemy."""
    return url.replace("+psycopg", "")


def run_sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(address(url), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class PostgresqlBackend:
    """Stores of one server, whose data are this test's alone."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = Clock()
        self._opened: list[SqlState] = []

    def open(self, namespace: str) -> SqlState:
        self._opened.append(SqlState(self.url, namespace, PATIENCE, clock=self.clock))
        return self._opened[-1]

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def race(self, operation: str, *, racers: int, inherit: bool = False) -> list[Any]:
        order = {
            "store": "flask_genesys_auth.state.sql:SqlState",
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
        return run_sql(self.url, statement)

    def rows(self, table: str) -> int:
        return int(self.sql(f"SELECT count(*) FROM {table}")[0][0])

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture
def postgresql_backend(postgresql: str) -> Iterator[PostgresqlBackend]:
    """The database that all tests share, with tables, and nothing in them."""
    made = PostgresqlBackend(postgresql)
    store = made.open("one")
    store.create_tables()
    store.close()
    made.sql("TRUNCATE genesys_auth_state CASCADE")
    yield made
    made.close()


@pytest.fixture
def empty_database(postgresql: str) -> Iterator[PostgresqlBackend]:
    """A database of this test's own, without any table."""
    name = f"d{uuid.uuid4().hex}"
    run_sql(postgresql, f"CREATE DATABASE {name}")
    made = PostgresqlBackend(postgresql.rpartition("/")[0] + f"/{name}")
    yield made
    made.close()
    run_sql(postgresql, f"DROP DATABASE {name} WITH (FORCE)")
