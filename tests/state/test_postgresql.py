"""SqlState on PostgreSQL: the contract, several processes, tables, and purges."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from flask import Flask

from flask_genesys_auth import GenesysAuth, current_user
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.cli import genesys_auth
from flask_genesys_auth.errors import ConfigurationError, StateUnavailable
from flask_genesys_auth.state.sql import SqlState
from flask_genesys_auth.state.statements import PURGE_BATCH
from flask_genesys_auth.testing import AuthClient
from flask_genesys_auth.web.runtime import runtime

from .contract import StateContract
from .postgresql_backend import PATIENCE, PostgresqlBackend, address, wait_until
from .racers import race_threads


@pytest.fixture
def backend(postgresql_backend: PostgresqlBackend) -> PostgresqlBackend:
    return postgresql_backend


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


def test_missing_tables_are_an_error_with_the_command(empty_database: PostgresqlBackend) -> None:
    store = empty_database.open("one")
    calls: list[Callable[[], object]] = [lambda: store.get("key"), lambda: store.add("key", 1, 60), store.purge]
    for call in calls:
        with pytest.raises(ConfigurationError, match="run `flask genesys-auth init-db`"):
            call()
    empty_database.sql("CREATE TABLE genesys_auth_state_schema (version integer PRIMARY KEY)")
    with pytest.raises(ConfigurationError, match="init-db"):
        store.get("key")
    store.create_tables()
    store.create_tables()
    assert store.add("key", 1, 60)
    assert empty_database.rows("genesys_auth_state_schema") == 1


def test_tables_dropped_during_use_are_the_same_error(empty_database: PostgresqlBackend) -> None:
    store = empty_database.open("one")
    store.create_tables()
    store.put("key", 1, 60)
    empty_database.sql("DROP TABLE genesys_auth_state CASCADE")
    with pytest.raises(ConfigurationError, match="init-db"):
        store.get("key")
    store.create_tables()
    assert store.get("key") is None


def test_many_make_the_tables_at_once(empty_database: PostgresqlBackend) -> None:
    store = empty_database.open("one")
    barrier = threading.Barrier(8)

    def make() -> bool:
        barrier.wait()
        store.create_tables()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert [made.result() for made in [pool.submit(make) for _ in range(8)]] == [True] * 8
    assert empty_database.sql("SELECT version FROM genesys_auth_state_schema") == [(2,)]


@pytest.mark.parametrize("version", [0, 1, 99])
def test_tables_of_another_version_are_refused(empty_database: PostgresqlBackend, version: int) -> None:
    early = empty_database.open("one")
    early.create_tables()
    empty_database.sql(f"UPDATE genesys_auth_state_schema SET version = {version}")
    cure = f"version {version}, this release requires 2; drop them and run `flask genesys-auth init-db`"
    with pytest.raises(ConfigurationError, match=cure):
        early.get("key")
    with pytest.raises(ConfigurationError, match=cure):
        empty_database.open("one")
    empty_database.sql("UPDATE genesys_auth_state_schema SET version = 2")
    assert early.get("key") is None


def test_making_tables_without_the_right_to_is_unavailable(empty_database: PostgresqlBackend) -> None:
    role = f"r{uuid.uuid4().hex}"
    empty_database.sql(f"CREATE ROLE {role} LOGIN")
    empty_database.sql("REVOKE CREATE ON SCHEMA public FROM public")
    store = SqlState(empty_database.url.replace("postgres@", f"{role}@"), "one", PATIENCE)
    with pytest.raises(StateUnavailable, match="permission denied for schema public"):
        store.create_tables()
    empty_database.open("one").create_tables()
    with pytest.raises(StateUnavailable, match="permission denied for table"):
        store.get("key")
    empty_database.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    assert store.add("key", 1, 60)
    store.close()
    empty_database.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_changes_purge_expired_rows_and_their_terms(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    for number in range(PURGE_BATCH * 2 + 5):
        store.put(f"key-{number}", number, 10, index=["a", "b"])
    backend.advance(11)
    left = []
    for _ in range(4):
        store.put("writer", 1, 10, index=["c"])
        left.append((backend.rows("genesys_auth_state"), backend.rows("genesys_auth_state_index")))
    # One batch with each write while there is more, then one look per interval.
    assert left == [(106, 211), (6, 11), (1, 1), (1, 1)]


def test_purging_leaves_to_others_what_they_hold(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    store.put("held", 1, 10)
    store.put("free", 1, 10)
    backend.advance(11)
    with psycopg.connect(address(backend.url)) as other:
        other.execute("SELECT * FROM genesys_auth_state WHERE key = 'held' FOR UPDATE")
        assert store.purge() == 1
    assert store.purge() == 1


def test_parallel_puts_leave_the_terms_of_one(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    for attempt in range(10):
        barrier = threading.Barrier(8)

        def put(number: int, key: str = f"key-{attempt}", barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            store.put(key, number, 60, index=[f"term-{number}", "all"])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, range(8)))
        last = store.get(f"key-{attempt}")
        assert [number for number in range(8) if f"key-{attempt}" in store.find(f"term-{number}")] == [last]
        assert f"key-{attempt}" in store.find("all")


def test_a_database_that_isolates_more_strictly_changes_nothing(backend: PostgresqlBackend) -> None:
    store = SqlState(f"{backend.url}?options=-cdefault_transaction_isolation%3Dserializable", "one", PATIENCE)
    results = race_threads(store, "add", 50)
    assert [won for _, won in results].count(True) == 1
    store.close()


def test_a_failed_write_changes_nothing(empty_database: PostgresqlBackend) -> None:
    store = empty_database.open("one")
    store.create_tables()
    store.put("key", 1, 60, index=["term"])
    empty_database.sql("ALTER TABLE genesys_auth_state_index ADD CHECK (term <> 'private-term')")
    with pytest.raises(StateUnavailable, match="violates check constraint") as refused:
        store.put("key", "private-value", 60, index=["private-term"])
    assert "private" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert store.get("key") == 1
    assert store.find("term") == ["key"]


def test_a_failed_commit_fails_the_change(empty_database: PostgresqlBackend) -> None:
    store = empty_database.open("one")
    store.create_tables()
    empty_database.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'too late'; END $$;"
        "CREATE CONSTRAINT TRIGGER no AFTER INSERT ON genesys_auth_state DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION no()"
    )
    with pytest.raises(StateUnavailable, match="too late"):
        store.add("key", 1, 60)
    empty_database.sql("DROP TRIGGER no ON genesys_auth_state")
    assert store.get("key") is None
    assert store.add("key", 1, 60)


def test_a_value_that_is_not_json_is_ignored(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    backend.sql("UPDATE genesys_auth_state SET value = '{broken'")
    assert store.get("key") is None
    assert store.take("key") is None
    assert store.add("key", 2, 60) is True


FILL = """
INSERT INTO genesys_auth_state SELECT 'one', 'key-' || n, '{}', 4e9 FROM generate_series(1, 20000) n;
INSERT INTO genesys_auth_state_index SELECT 'one', 'term-' || n % 5000, 'key-' || n FROM generate_series(1, 20000) n
"""
READ_ROWS = """
SELECT sum(idx_scan)::int, sum(seq_scan)::int, sum(seq_tup_read + idx_tup_fetch)::int FROM pg_stat_user_tables
WHERE relname IN ('genesys_auth_state', 'genesys_auth_state_index')
"""


def test_a_call_reads_few_of_many_rows(
    empty_database: PostgresqlBackend,
) -> None:
    store = empty_database.open("one")
    store.create_tables()
    # The server counts the scans that made the indexes when the connection that made them ends.
    store.close()

    def use() -> None:
        for number in range(10):
            assert store.get("key-7") in (None, {})
            assert len(store.find("term-7")) in (0, 4)
            store.replace("key-8", {}, 60)
            store.put("put", 1, 60, index=["one", "two"])
            store.add(f"add-{number}", 1, 60, index=["one"])
            store.take("put")
            store.delete(f"add-{number}")
            store.purge()

    # The best plan for tables that are known to be empty is to read them from end to end.
    empty_database.sql("ANALYZE")
    use()
    empty_database.sql(FILL)
    use()
    empty_database.sql("SELECT pg_stat_reset()")
    use()
    # The server counts what a connection has done when it ends, at the latest.
    store.close()
    wait_until(lambda: (empty_database.sql(READ_ROWS)[0][0] or 0) >= 100)
    _, from_end_to_end, rows = empty_database.sql(READ_ROWS)[0]
    assert from_end_to_end == 0
    assert rows < 2000


def test_batches_read_a_few_rows_too(empty_database: PostgresqlBackend) -> None:
    store = empty_database.open("one")
    store.create_tables()
    # The server counts the scans that made the indexes when the connection that made them ends.
    store.close()

    def use() -> None:
        for _ in range(20):
            assert sum(map(len, store.find_each("term-7"))) in (0, 4)
            store.put("found", 1, 60, index=["found"])
            assert store.delete_found("found") == 1

    empty_database.sql("ANALYZE")
    use()
    empty_database.sql(FILL)
    empty_database.sql("SELECT pg_stat_reset()")
    use()
    store.close()
    wait_until(lambda: (empty_database.sql(READ_ROWS)[0][0] or 0) >= 100)
    _, from_end_to_end, rows = empty_database.sql(READ_ROWS)[0]
    assert from_end_to_end == 0
    # The first look at each index is planned by how high it was when this connection saw it last: that of one call.
    assert rows < 3 * 20000


def test_an_application_with_all_its_data_there(empty_database: PostgresqlBackend, tmp_path: Path) -> None:
    def node() -> Flask:
        app = Flask("node", instance_path=str(tmp_path))
        app.secret_key = "k"
        app.testing = True
        app.config["GENESYS_AUTH"] = {
            "state_url": empty_database.url,
            "accounts_url": empty_database.url,
            "state_timeout": PATIENCE,
            "contact_centers": {"acme": {"web_services": {}}},
            "passwords": {"memory_kib": 8, "iterations": 1},
        }
        app.test_client_class = AuthClient
        GenesysAuth(app)
        app.add_url_rule("/", view_func=lambda: current_user.user_name)
        return app

    one, two = node(), node()
    for app in (one, two):
        made = app.test_cli_runner().invoke(genesys_auth, args=["init-db"])
        assert (made.exit_code, made.exception) == (0, None)
    store = runtime(one).accounts
    assert isinstance(store, SqlAccounts)
    assert store.name == runtime(two).settings.accounts_url.replace("postgres@", "")
    ann = store.add("acme", "ann")
    client = one.test_client(user="ann")
    cookie = client.get_cookie("session")
    assert cookie is not None
    other = two.test_client()
    other.set_cookie("session", cookie.value)
    assert (client.get("/").text, other.get("/").text) == ("ann", "ann")
    with two.app_context():
        assert runtime(two).sessions.revoke(account_id=ann.id) == 1
    assert client.get("/").status_code == 401
    for app in (one, two):
        runtime(app).state.close()
    store.close()


@pytest.mark.parametrize(("option", "connections"), [("", 1), ("?application_name=portal", 2)])
def test_state_and_accounts_of_one_url_share_connections(
    empty_database: PostgresqlBackend, tmp_path: Path, option: str, connections: int
) -> None:
    mine = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    app = Flask("node", instance_path=str(tmp_path))
    app.secret_key = "k"
    app.config["GENESYS_AUTH"] = {
        "state_url": empty_database.url,
        "accounts_url": empty_database.url + option,
        "state_timeout": PATIENCE,
        "contact_centers": {"acme": {"web_services": {}}},
    }
    GenesysAuth(app)
    wait_until(lambda: empty_database.sql(mine) == [])  # the start leaves no connection open
    state, accounts = runtime(app).state, runtime(app).accounts
    assert isinstance(state, SqlState)
    assert isinstance(accounts, SqlAccounts)
    state.create_tables()
    accounts.create_tables()
    ann = accounts.add("acme", "ann")
    for _ in range(3):
        state.put("key", 1, 60)
        assert accounts.get(ann.id) == ann
    assert len(empty_database.sql(mine)) == connections
    state.close()
    accounts.close()
