"""Two processes on each shared store: changes apply in both, and two applications stay apart."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.state.sql import SqlState

from . import node as node_module
from .postgresql_backend import run_sql

DELAY = 0.5
PASSWORD = "correct horse"


class Process:
    """One node; calls are told to it and its answers come back."""

    def __init__(self, folder: Path, apps: dict[str, Any]) -> None:
        self._running = subprocess.Popen(
            [sys.executable, "-m", node_module.__name__, str(folder), json.dumps(apps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def wait(self) -> None:
        assert self._read() == "ready"

    def __call__(self, do: str, app: str = "exact", **order: Any) -> Any:
        assert self._running.stdin is not None
        self._running.stdin.write(json.dumps({"do": do, "app": app, **order}) + "\n")
        self._running.stdin.flush()
        return json.loads(self._read())

    def stop(self) -> None:
        self._running.communicate(timeout=60)

    def _read(self) -> str:
        assert self._running.stdout is not None
        line = self._running.stdout.readline()
        assert line, "the node has ended"
        return line.strip()


@contextmanager
def database(url: str) -> Iterator[str]:
    name = f"d{uuid.uuid4().hex}"
    run_sql(url, f"CREATE DATABASE {name}")
    yield url.rpartition("/")[0] + f"/{name}"
    run_sql(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "redis"])
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where state and accounts are, empty, with tables."""
    folder = tmp_path_factory.mktemp("nodes")
    accounts = f"sqlite:///{folder / 'accounts'}"
    if request.param == "redis":
        yield _made(request.getfixturevalue("redis_server").url, accounts)
    elif request.param == "sqlite":
        yield _made(f"sqlite:///{folder / 'state'}", accounts)
    else:
        with database(request.getfixturevalue("postgresql")) as url:
            with closing(SqlState(url, "one", 30)) as state:
                state.create_tables()
            yield _made(url, url)


def _made(state_url: str, accounts_url: str) -> dict[str, str]:
    store = SqlAccounts(accounts_url, timeout=30)
    store.create_tables()
    store.close()
    return {"state_url": state_url, "accounts_url": accounts_url}


@pytest.fixture(scope="module")
def nodes(stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Process]]:
    """Two processes with the same applications, on the same stores and with the same secret key."""
    own = {**stores, "state_namespace": "one"}
    apps = {
        "exact": own,
        "delayed": {**own, "session": {"revocation_delay": DELAY}},
        "long": {**own, "session": {"revocation_delay": 60}},
        "closed": {**own, "contact_centers": {"acme": {"web_services": {"enabled": False}}}},
        "another": {**stores, "state_namespace": "two"},
    }
    one, two = (Process(tmp_path_factory.mktemp(name), apps) for name in ("a", "b"))
    try:
        for process in (one, two):
            process.wait()
        yield one, two
    finally:
        for process in (one, two):
            process.stop()


@pytest.fixture
def user(nodes: tuple[Process, Process]) -> str:
    name = f"user-{uuid.uuid4().hex}"
    nodes[0]("change", user=name, method="set_password", values=[PASSWORD])
    nodes[0]("change", user=name, method="set_roles", values=[["ROLE_AGENT"]])
    return name


@pytest.mark.parametrize("by", ["account_id", "contact_center", "session"])
def test_revocation_on_one_node_ends_sessions_on_both(nodes: tuple[Process, Process], user: str, by: str) -> None:
    one, two = nodes
    cookie, other = one("log_in", user=user), one("log_in", user=f"{user}-other")
    assert [node("ask", cookie=cookie) for node in nodes] == [200, 200]
    account_id = one("account", user=user)
    (handle,) = two("sessions", account_id=account_id)
    named = {"account_id": account_id, "contact_center": "acme", "session": handle}[by]
    assert one("revoke", **{by: named}) >= 1
    assert [node("ask", cookie=cookie) for node in (two, one)] == [401, 401]
    assert two("sessions", account_id=account_id) == []
    assert two("ask", cookie=other) == (401 if by == "contact_center" else 200)


@pytest.mark.parametrize(("method", "values"), [("set_enabled", [False]), ("delete", [])])
def test_a_disabled_account_is_refused_on_all_nodes(
    nodes: tuple[Process, Process], user: str, method: str, values: list[Any]
) -> None:
    one, two = nodes
    cookie = two("log_in", user=user)
    assert two("ask", cookie=cookie) == two("ask", user=user, password=PASSWORD) == 200
    one("change", user=user, method=method, values=values)
    assert two("ask", cookie=cookie) == two("ask", user=user, password=PASSWORD) == 401


def test_changed_roles_apply_on_other_nodes_at_once(nodes: tuple[Process, Process], user: str) -> None:
    one, two = nodes
    cookie = two("log_in", user=user)
    by_session, by_password = {"cookie": cookie}, {"user": user, "password": PASSWORD}
    for roles, status in ((["ROLE_AGENT"], 200), (["ROLE_OTHER"], 403), (["ROLE_AGENT"], 200)):
        one("change", user=user, method="set_roles", values=[roles])
        assert [two("ask", path="/agents", **by) for by in (by_session, by_password)] == [status, status]


def test_password_change_ends_remembered_credentials_on_every_node(nodes: tuple[Process, Process], user: str) -> None:
    one, two = nodes
    assert [node("ask", user=user, password=PASSWORD) for node in nodes * 2] == [200] * 4
    one("change", user=user, method="set_password", values=["another horse"])
    assert [node("ask", user=user, password=PASSWORD) for node in (two, one)] == [401, 401]
    assert [node("ask", user=user, password="another horse") for node in (two, one)] == [200, 200]


def test_cached_credentials_are_valid_for_one_configuration(nodes: tuple[Process, Process], user: str) -> None:
    one, _ = nodes
    assert [one("ask", app=app, user=user, password=PASSWORD) for app in ("exact", "closed")] == [200, 401]


@pytest.mark.parametrize("end", ["revoke", "set_enabled"])
def test_other_nodes_refuse_after_the_delay(nodes: tuple[Process, Process], user: str, end: str) -> None:
    one, two = nodes
    cookie = one("log_in", user=user)
    assert [two("ask", app=app, cookie=cookie) for app in ("long", "delayed", "exact")] == [200] * 3
    if end == "revoke":
        one("revoke", app="delayed", account_id=one("account", user=user))
    else:
        one("change", app="delayed", user=user, method="set_enabled", values=[False])
    assert one("ask", app="delayed", cookie=cookie) == 401  # at once where it was done
    time.sleep(DELAY)
    # The one with the long delay shows that it was remembered at all.
    assert [two("ask", app=app, cookie=cookie) for app in ("long", "delayed", "exact")] == [200, 401, 401]


def test_applications_on_one_store_have_separate_sessions(nodes: tuple[Process, Process], user: str) -> None:
    one, two = nodes
    mine = one("log_in", user=user)
    assert [node("ask", app="another", cookie=mine) for node in nodes] == [401, 401]
    theirs = one("log_in", app="another", user=user)
    assert [node("ask", cookie=theirs) for node in nodes] == [401, 401]
    account_id = one("account", user=user)
    (handle,) = one("sessions", account_id=account_id)
    (other,) = one("sessions", app="another", account_id=account_id)
    assert handle != other
    assert one("sessions", app="another") == [other]
    assert one("revoke", app="another", session=handle) == 0
    one("purge", app="another")
    assert two("ask", cookie=mine) == 200
    assert one("revoke", app="another", contact_center="acme") == 1
    assert two("ask", app="another", cookie=theirs) == 401
    assert two("ask", cookie=mine) == 200
    assert one("revoke", account_id=account_id) == 1
    assert two("ask", cookie=mine) == 401
