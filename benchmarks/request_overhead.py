"""Measure the cost of our extension per request beside its peers, in one run.

Run ``python -m benchmarks.request_overhead``; in-process WSGI, one thread, CPU time. The applications take turns in
short rounds, so that a busy moment of the machine affects all of them; the results are ratios of medians.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from benchmarks import load_apps
from benchmarks.load_apps import PASSWORD, USER
from benchmarks.load_processes import remembering
from flask_genesys_auth import GenesysAuth, current_user, unprotected
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.testing import AuthClient, LoopbackServer, SalesforceEmulator
from flask_genesys_auth.web.runtime import runtime
from tests.servers import RedisServer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


@dataclass(frozen=True)
class Contender:
    """One application, its request and the expected answer."""

    name: str
    app: Flask
    environ: Callable[[], WSGIEnvironment]
    expected: bytes


@dataclass(frozen=True)
class Target:
    """A target: the highest ratio of our cost and the peer's."""

    ours: str
    peer: str
    at_most: float


DATABASE_PEER = "Flask-Login, Flask-SQLAlchemy"
REDIS_PEER = "Flask-Login, Flask-SQLAlchemy, Flask-Session on Redis"

TARGETS = (
    Target("ours, session (SQLite)", DATABASE_PEER, 0.6),
    Target("ours, session (Redis and SQLite)", REDIS_PEER, 0.6),
    Target("ours, session (Redis and SQLite)", "Flask-Security, Flask-Session on Redis", 0.6),
    # The peers below read their one user from a dictionary: for information.
    Target("ours, unprotected view", "plain Flask", 1.15),
    Target("ours, session (SQLite)", "Flask-Login, user in a dictionary", 1.9),
    Target("ours, Basic found good before", "Flask-HTTPAuth, cached check", 2.4),
    Target("ours, Salesforce found good before", "Flask-HTTPAuth, cached check", 2.4),
)


def ask(contender: Contender) -> bytes:
    """Send the request once and return the body; anything but the expected answer ends the benchmark."""
    status: list[str] = []

    def start_response(line: str, *_: Any) -> Callable[[bytes], object]:
        status.append(line)
        return lambda _: None

    answer = contender.app(contender.environ(), start_response)
    body = b"".join(answer)
    getattr(answer, "close", lambda: None)()
    if body != contender.expected or not status[0].startswith("200"):
        raise SystemExit(f"{contender.name}: {status[0]} {body[:200]!r} instead of {contender.expected!r}")
    return body


def environment(path: str = "/", **headers: str) -> Callable[[], WSGIEnvironment]:
    """Return a function that copies a request's WSGI environment."""
    builder = EnvironBuilder(path=path, headers=Headers(headers))
    prepared = {**builder.get_environ(), "REMOTE_ADDR": "127.0.0.1"}
    builder.close()

    def copy() -> WSGIEnvironment:
        fresh = dict(prepared)
        fresh["wsgi.input"] = io.BytesIO()
        return fresh

    return copy


def new_app(name: str, folder: Path) -> Flask:
    """Return a bare application."""
    app = Flask(name, instance_path=str(folder / name))
    app.secret_key = "the benchmark's own"  # noqa: S105
    return app


def plain(folder: Path) -> Contender:
    """Flask alone."""
    app = new_app("plain", folder)
    app.add_url_rule("/", view_func=lambda: "hello")
    return Contender("plain Flask", app, environment(), b"hello")


def logged_in(app: Flask) -> Callable[[], WSGIEnvironment]:
    """Log in to an application of :mod:`benchmarks.load_apps`; return a function that makes its requests."""
    client = app.test_client()
    answer = client.post("/log-in", data={"name": USER, "password": PASSWORD})
    if answer.status_code != 200:
        raise SystemExit(f"{app.name}: the log-in answered {answer.status}")
    cookie = client.get_cookie("session")
    assert cookie is not None
    return environment(Cookie=f"session={cookie.value}")


def peers(folder: Path, redis: str) -> Iterator[Contender]:
    """Set up the peers; each peer with a database has its own SQLite file.

    :param redis: the URL of a Redis server; if empty, peers that need one are left out.
    """
    app = load_apps.with_flask_login()
    yield Contender("Flask-Login, user in a dictionary", app, logged_in(app), USER.encode())
    app = load_apps.with_flask_sqlalchemy(f"sqlite:///{folder / 'sqlalchemy.sqlite3'}")
    yield Contender(DATABASE_PEER, app, logged_in(app), USER.encode())
    if redis:
        app = load_apps.with_flask_session(f"sqlite:///{folder / 'session.sqlite3'}", redis)
        yield Contender(REDIS_PEER, app, logged_in(app), USER.encode())
        app = load_apps.with_flask_security(f"sqlite:///{folder / 'security.sqlite3'}", redis)
        yield Contender("Flask-Security, Flask-Session on Redis", app, logged_in(app), USER.encode())


def basic_header() -> str:
    """Return the header of the benchmark's user."""
    return EnvironBuilder(auth=(USER, PASSWORD)).headers["Authorization"]


def with_httpauth() -> Contender:
    """Flask-HTTPAuth, as the load benchmark has it."""
    app = load_apps.with_httpauth()
    return Contender("Flask-HTTPAuth, cached check", app, environment(Authorization=basic_header()), USER.encode())


def our_app(name: str, folder: Path, salesforce: SalesforceEmulator, **changes: str) -> Flask:
    """Return an application with our extension and one account.

    :param changes: keys of ``[GENESYS_AUTH]``; without any SQLite keeps state and accounts, all as by default.
    """
    app = new_app(name, folder)
    app.test_client_class = AuthClient
    app.config["GENESYS_AUTH"] = {**remembering(salesforce), **changes}
    GenesysAuth(app)
    app.add_url_rule("/open", view_func=unprotected(lambda: "hello"))
    app.add_url_rule("/", "home", lambda: current_user.user_name)
    store = runtime(app).accounts
    assert isinstance(store, SqlAccounts)
    store.create_tables()
    store.set_password(store.add("acme", USER).id, runtime(app).hasher.hash(PASSWORD))
    return app


def our_session(app: Flask) -> Callable[[], WSGIEnvironment]:
    """Return a function that makes requests with the cookie of a login session."""
    cookie = app.test_client(user=USER).get_cookie("session")
    assert cookie is not None
    return environment(Cookie=f"session={cookie.value}")


def ours(folder: Path, salesforce: SalesforceEmulator, redis: str) -> Iterator[Contender]:
    """Our extension, with SQLite and with Redis; arguments as of :func:`peers`."""
    app = our_app("ours", folder, salesforce)
    yield Contender("ours, unprotected view", app, environment("/open"), b"hello")
    yield Contender("ours, session (SQLite)", app, our_session(app), USER.encode())
    basic = environment(Authorization=basic_header())
    yield Contender("ours, Basic found good before", app, basic, USER.encode())
    headers = salesforce.add_user(USER)
    yield Contender("ours, Salesforce found good before", app, environment(**headers), USER.encode())
    if redis:
        app = our_app("ours-redis", folder, salesforce, state_url=redis)
        yield Contender("ours, session (Redis and SQLite)", app, our_session(app), USER.encode())


@contextmanager
def contenders() -> Iterator[list[Contender]]:
    """Set all of them up."""
    emulator = SalesforceEmulator()
    with tempfile.TemporaryDirectory() as name, LoopbackServer(emulator) as server, redis_server() as redis:
        emulator.url = server.url
        folder = Path(name)
        yield [plain(folder), *peers(folder, redis), with_httpauth(), *ours(folder, emulator, redis)]


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis, and yield its address; an empty text where it is not installed."""
    with tempfile.TemporaryDirectory() as name:
        try:
            server = RedisServer(Path(name))
        except pytest.skip.Exception as missing:
            print(missing, file=sys.stderr)
            yield ""
            return
        try:
            yield server.url
        finally:
            server.stop()


def measure(entrants: list[Contender], *, rounds: int, requests: int) -> dict[str, float]:
    """Return each one's median of all rounds, in microseconds per request."""
    samples: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    for entrant in entrants:
        for _ in range(requests):
            ask(entrant)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for entrant in entrants:
                began = process_time()
                for _ in range(requests):
                    ask(entrant)
                samples[entrant.name].append((process_time() - began) / requests * 1e6)
            gc.collect()
    finally:
        gc.enable()
    return {name: statistics.median(times) for name, times in samples.items()}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="Measure our cost per request beside the peers'.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--requests", type=int, default=200, help="requests per application and round")
    parser.add_argument("--json", action="store_true", help="print JSON, and the table to standard error")
    chosen = parser.parse_args(arguments)
    with contenders() as entrants:
        medians = measure(entrants, rounds=chosen.rounds, requests=chosen.requests)
    ratios = [
        (target, medians[target.ours] / medians[target.peer])
        for target in TARGETS
        if target.ours in medians and target.peer in medians
    ]
    table = sys.stderr if chosen.json else sys.stdout
    for name, median in medians.items():
        print(f"{name:53} {median:8.1f} us", file=table)
    for target, ratio in ratios:
        verdict = "met" if ratio <= target.at_most else "MISSED"
        line = f"{target.ours:34} {ratio:5.2f} x {target.peer:53} target <= {target.at_most:4.2f}  {verdict}"
        print(line, file=table)
    if chosen.json:
        rows = [{"ours": t.ours, "peer": t.peer, "ratio": round(r, 3), "target": t.at_most} for t, r in ratios]
        print(json.dumps({"microseconds": medians, "ratios": rows}, indent=2))
    return 0 if all(ratio <= target.at_most for target, ratio in ratios) else 1


if __name__ == "__main__":
    sys.exit(main())
