"""What the extension adds to a request, side by side with its peers, in one run.

Run with ``python -m benchmarks.request_overhead``; in-process WSGI, one thread, CPU time. The applications take turns
in short rounds, so that a noisy moment of the machine falls on all of them; what counts are ratios of medians.
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

import flask_login
from flask import Flask
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from benchmarks import load_apps
from benchmarks.load_apps import PASSWORD, USER
from benchmarks.load_stand import remembering
from flask_genesys_auth import GenesysAuth, current_user, unprotected
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.testing import AuthClient, LoopbackServer, SalesforceEmulator
from flask_genesys_auth.web.runtime import runtime

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


@dataclass(frozen=True)
class Contender:
    """One application and the request it is asked."""

    name: str
    app: Flask
    environ: Callable[[], WSGIEnvironment]
    expected: bytes


@dataclass(frozen=True)
class Target:
    """What is promised: ours costs at most so many times what its peer costs."""

    ours: str
    peer: str
    at_most: float


TARGETS = (
    Target("ours, unprotected view", "plain Flask", 1.15),
    Target("ours, session (SQLite state)", "Flask-Login, session user", 1.6),
    Target("ours, Basic found good before", "Flask-HTTPAuth, cached check", 2.0),
    Target("ours, Salesforce found good before", "Flask-HTTPAuth, cached check", 2.0),
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
    """Return what makes a fresh copy of a request's environment."""
    builder = EnvironBuilder(path=path, headers=Headers(headers))
    prepared = builder.get_environ()
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


def with_flask_login(folder: Path) -> Contender:
    """Flask-Login with a user out of a dictionary, as its documentation begins."""
    app = new_app("login", folder)
    manager = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):  # type: ignore[misc]  # Flask-Login has no type hints
        id = USER
        user_name = USER

    users = {USER: User()}
    manager.user_loader(users.get)

    @app.get("/")
    @flask_login.login_required  # type: ignore[untyped-decorator]  # Flask-Login has no type hints
    def home() -> str:
        return str(flask_login.current_user.user_name)

    client = app.test_client()
    with client.session_transaction() as browser:
        browser["_user_id"] = USER
        browser["_fresh"] = True
    cookie = client.get_cookie("session")
    assert cookie is not None
    sent = environment(Cookie=f"session={cookie.value}")
    return Contender("Flask-Login, session user", app, sent, USER.encode())


def basic_header() -> str:
    """Return the header of the benchmark's user."""
    return EnvironBuilder(auth=(USER, PASSWORD)).headers["Authorization"]


def with_httpauth() -> Contender:
    """Flask-HTTPAuth, as the load benchmark has it."""
    app = load_apps.with_httpauth()
    return Contender("Flask-HTTPAuth, cached check", app, environment(Authorization=basic_header()), USER.encode())


def ours(folder: Path, salesforce: SalesforceEmulator) -> Iterator[Contender]:
    """Our extension: SQLite state and accounts, all as by default."""
    app = new_app("ours", folder)
    app.test_client_class = AuthClient
    app.config["GENESYS_AUTH"] = remembering(salesforce)
    GenesysAuth(app)
    app.add_url_rule("/open", view_func=unprotected(lambda: "hello"))
    app.add_url_rule("/", "home", lambda: current_user.user_name)
    store = runtime(app).accounts
    assert isinstance(store, SqlAccounts)
    store.create_tables()
    store.set_password(store.add("acme", USER).id, runtime(app).hasher.hash(PASSWORD))
    client = app.test_client(user=USER)
    cookie = client.get_cookie("session")
    assert cookie is not None
    yield Contender("ours, unprotected view", app, environment("/open"), b"hello")
    session = environment(Cookie=f"session={cookie.value}")
    yield Contender("ours, session (SQLite state)", app, session, USER.encode())
    basic = environment(Authorization=basic_header())
    yield Contender("ours, Basic found good before", app, basic, USER.encode())
    headers = salesforce.add_user(USER)
    yield Contender("ours, Salesforce found good before", app, environment(**headers), USER.encode())


@contextmanager
def contenders() -> Iterator[list[Contender]]:
    """Set all of them up."""
    emulator = SalesforceEmulator()
    with tempfile.TemporaryDirectory() as name, LoopbackServer(emulator) as server:
        emulator.url = server.url
        folder = Path(name)
        yield [plain(folder), with_flask_login(folder), with_httpauth(), *ours(folder, emulator)]


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
    parser = argparse.ArgumentParser(description="What the extension adds to a request, next to its peers.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--requests", type=int, default=200, help="requests per application and round")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args(arguments)
    with contenders() as entrants:
        medians = measure(entrants, rounds=chosen.rounds, requests=chosen.requests)
    ratios = [(target, medians[target.ours] / medians[target.peer]) for target in TARGETS]
    if chosen.json:
        rows = [{"ours": t.ours, "peer": t.peer, "ratio": round(r, 3), "target": t.at_most} for t, r in ratios]
        print(json.dumps({"microseconds": medians, "ratios": rows}, indent=2))
    else:
        for name, median in medians.items():
            print(f"{name:38} {median:8.1f} us")
        for target, ratio in ratios:
            verdict = "met" if ratio <= target.at_most else "MISSED"
            print(f"{target.ours:38} {ratio:5.2f} x {target.peer:30} target <= {target.at_most:4.2f}  {verdict}")
    return 0 if all(ratio <= target.at_most for target, ratio in ratios) else 1


if __name__ == "__main__":
    sys.exit(main())
