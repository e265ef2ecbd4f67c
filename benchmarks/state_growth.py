"""Measure whether look-ups take longer among more login sessions in PostgreSQL.

Run ``python -m benchmarks.state_growth``. It starts PostgreSQL and fills two databases. Calls to both take turns in
short rounds, on sessions drawn at random; the results are ratios of medians.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, time

import psycopg

from flask_genesys_auth.chain.outcomes import LoginSession
from flask_genesys_auth.config.settings import SessionSettings
from flask_genesys_auth.sessions import LoginSessions, index_terms, storage_key
from flask_genesys_auth.state.sql import SqlState
from flask_genesys_auth.state.values import dump
from tests.servers import PostgresqlServer

NAMESPACE = "portal"
LIFE = 28800.0
TARGET = 1.3
PATIENCE = 30.0
TABLES = ("genesys_auth_state", "genesys_auth_state_index")


@dataclass(frozen=True)
class Contender:
    """The login sessions of one database."""

    sessions: LoginSessions
    count: int

    def any_id(self) -> str:
        """Draw a session."""
        return _id(random.randrange(self.count))  # noqa: S311 - a draw of the benchmark's

    def any_account(self) -> str:
        """Draw an account."""
        return str(random.randrange(self.count))  # noqa: S311 - as above


def _id(number: int) -> str:
    return f"session-{number}"


def resume(of: Contender) -> None:
    """Resume a session, as each request does."""
    if not isinstance(of.sessions.resume(of.any_id(), touch=False), LoginSession):
        raise SystemExit("a session that was put there is not found")


def list_account(of: Contender) -> None:
    """List the sessions of one account, as an administrator does."""
    if len(of.sessions.all_of(account_id=of.any_account())) != 1:
        raise SystemExit("the session of an account is not listed")


def begin_and_end(of: Contender) -> None:
    """Log in and out."""
    session_id = of.sessions.start(contact_center="acme", account_id="somebody", step="saml")
    if of.sessions.end(session_id) is None:
        raise SystemExit("a session that began is not there")


def revoke_account(of: Contender) -> None:
    """Log in, and let an administrator end all that this account has."""
    of.sessions.start(contact_center="acme", account_id="somebody else", step="saml")
    if of.sessions.revoke(account_id="somebody else") != 1:
        raise SystemExit("a session that began is not revoked")


CALLS: dict[str, Callable[[Contender], None]] = {
    "resume a session": resume,
    "list an account's": list_account,
    "log in, log out": begin_and_end,
    "log in, revoke": revoke_account,
}


def fill(url: str, count: int) -> None:
    """Put so many sessions there, of as many accounts, by COPY."""
    now = time()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        # The keys are known here and need not be looked up for each term.
        connection.execute("SET session_replication_role = replica")
        with connection.cursor() as cursor, cursor.copy(f"COPY {TABLES[0]} FROM STDIN".encode()) as rows:
            for number in range(count):
                session = _session(number, now)
                rows.write_row((NAMESPACE, storage_key(_id(number)), dump(asdict(session)), session.expires))
        with connection.cursor() as cursor, cursor.copy(f"COPY {TABLES[1]} FROM STDIN".encode()) as rows:
            for number in range(count):
                for term in index_terms(_session(number, now)):
                    rows.write_row((NAMESPACE, term, storage_key(_id(number))))
        for table in TABLES:
            connection.execute(f"VACUUM ANALYZE {table}".encode())
        # As after a while of use, as far as its memory goes.
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
        connection.execute(
            "SELECT pg_prewarm(oid) FROM pg_class WHERE relname LIKE 'genesys_auth_state%' AND relkind IN ('r', 'i')"
        )


def _session(number: int, now: float) -> LoginSession:
    return LoginSession(
        contact_center=f"center-{number % 100}",
        account_id=str(number),
        step="saml",
        created=now,
        last_seen=now,
        expires=now + LIFE,
    )


@contextmanager
def contenders(few: int, many: int, *, memory: str) -> Iterator[list[Contender]]:
    """Start a server with two databases, one of them with few sessions and the other with many.

    :param memory: PostgreSQL's ``shared_buffers``.
    """
    with tempfile.TemporaryDirectory(prefix="state-growth-") as folder:
        server = PostgresqlServer(Path(folder), memory=memory)
        try:
            with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
                connection.execute("CREATE DATABASE many")
            urls = {server.url: few, server.url.rpartition("/")[0] + "/many": many}
            made = []
            for url, count in urls.items():
                state = SqlState(url, NAMESPACE, PATIENCE)
                state.create_tables()
                fill(url, count)
                made.append((state, count))
            with closing(made[0][0]), closing(made[1][0]):
                yield [Contender(LoginSessions(state, SessionSettings()), count) for state, count in made]
        finally:
            server.stop()


def measure(entrants: list[Contender], *, rounds: int, calls: int) -> dict[str, list[float]]:
    """Return for each call the median of all rounds with each of the entrants, in microseconds."""
    return {name: _medians(entrants, call, rounds, calls) for name, call in CALLS.items()}


def _medians(entrants: list[Contender], call: Callable[[Contender], None], rounds: int, calls: int) -> list[float]:
    samples: list[list[float]] = [[] for _ in entrants]
    for _ in range(rounds):
        for entrant, times in zip(entrants, samples, strict=True):
            began = perf_counter()
            for _ in range(calls):
                call(entrant)
            times.append((perf_counter() - began) / calls * 1e6)
    return [statistics.median(times) for times in samples]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where the target is missed."""
    parser = argparse.ArgumentParser(description="Whether look-ups grow with the number of login sessions.")
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--memory", default="128MB", help="PostgreSQL's shared_buffers; default: as it comes")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--calls", type=int, default=20, help="calls of each kind per round")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args(arguments)
    with contenders(chosen.few, chosen.many, memory=chosen.memory) as entrants:
        found = measure(entrants, rounds=chosen.rounds, calls=chosen.calls)
    ratios = {name: many / few for name, (few, many) in found.items()}
    if chosen.json:
        rows = [{"call": name, "few": f, "many": m, "ratio": round(m / f, 3)} for name, (f, m) in found.items()]
        print(json.dumps({"few": chosen.few, "many": chosen.many, "target": TARGET, "calls": rows}, indent=2))
    else:
        for name, (few, many) in found.items():
            verdict = "met" if ratios[name] <= TARGET else "MISSED"
            print(f"{name:20} {few:8.1f} us {many:8.1f} us {ratios[name]:5.2f} x  target <= {TARGET}  {verdict}")
    return 0 if all(ratio <= TARGET for ratio in ratios.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
