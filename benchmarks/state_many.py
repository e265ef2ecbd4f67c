"""Measure how long it takes to list and to revoke very many login sessions of one contact center.

Run ``python -m benchmarks.state_many``. It starts the servers and begins the sessions as logins do.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from flask_genesys_auth.config.settings import SessionSettings
from flask_genesys_auth.sessions import LoginSessions
from flask_genesys_auth.state.redis import RedisState
from flask_genesys_auth.state.sql import SqlState
from tests.servers import PostgresqlServer, RedisServer

TIMEOUT = 1.0
"""The default of ``state_timeout``."""


@contextmanager
def _postgresql(folder: Path) -> Iterator[Any]:
    with ExitStack() as stack:
        server = PostgresqlServer(folder)
        stack.callback(server.stop)
        state = stack.enter_context(closing(SqlState(server.url, "portal", TIMEOUT)))
        state.create_tables()
        yield state


@contextmanager
def _redis(folder: Path) -> Iterator[Any]:
    server = RedisServer(folder)
    try:
        with closing(RedisState(server.url, "portal", TIMEOUT)) as state:
            yield state
    finally:
        server.stop()


@contextmanager
def _sqlite(folder: Path) -> Iterator[Any]:
    with closing(SqlState(f"sqlite:///{folder / 'state.sqlite3'}", "portal", TIMEOUT)) as state:
        yield state


STORES: dict[str, Callable[[Path], Any]] = {"Redis": _redis, "PostgreSQL": _postgresql, "SQLite": _sqlite}


def measure(name: str, many: int) -> dict[str, float]:
    """Return the seconds that each call takes."""
    with tempfile.TemporaryDirectory(prefix="state-many-") as folder, STORES[name](Path(folder)) as state:
        sessions = LoginSessions(state, SessionSettings())
        times = {"begin": _timed(lambda: _begin(sessions, many))}
        times["count"] = _timed(lambda: _expect(many, sessions.count(contact_center="acme")))
        times["list"] = _timed(lambda: _expect(many, len(sessions.all_of(contact_center="acme"))))
        times["list the first 100"] = _timed(
            lambda: _expect(min(many, 100), len(sessions.all_of(contact_center="acme", limit=100)))
        )
        times["revoke"] = _timed(lambda: _expect(many, sessions.revoke(contact_center="acme")))
        _expect(0, sessions.count(contact_center="acme"))
        return times


def _begin(sessions: LoginSessions, many: int) -> None:
    for number in range(many):
        sessions.start(contact_center="acme", account_id=str(number), step="saml")


def _expect(wanted: int, found: int) -> None:
    if wanted != found:
        raise SystemExit(f"{found} login sessions instead of {wanted}")


def _timed(call: Callable[[], None]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Listing and ending very many login sessions.")
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--store", choices=STORES, action="append", help="only this one; may be repeated")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args(arguments)
    found = {name: measure(name, chosen.many) for name in chosen.store or STORES}
    if chosen.json:
        print(json.dumps({"many": chosen.many, "seconds": found}, indent=2))
        return 0
    for name, times in found.items():
        print(f"{name:12}" + "  ".join(f"{call} {seconds:.2f} s" for call, seconds in times.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
