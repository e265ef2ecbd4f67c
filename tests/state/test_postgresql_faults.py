"""SqlState on PostgreSQL that is slow, hung, stopped, restarted or full; and after a fork."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import Pool

from flask_genesys_auth.errors import ConfigurationError, StateUnavailable
from flask_genesys_auth.state.database import CONNECTIONS
from flask_genesys_auth.state.sql import PURGE_INTERVAL, SqlState, state_database
from tests.forking import FORKS, holds_in_child
from tests.servers import PostgresqlServer, free_port

from .another_answer import check_another_answer, listening
from .failing_purge import check_a_purge_that_fails
from .postgresql_backend import OURS, PATIENCE, TERMINATE, WAITING, PostgresqlBackend, address, run_sql, wait_until


@pytest.fixture
def backend(postgresql_backend: PostgresqlBackend) -> PostgresqlBackend:
    return postgresql_backend


def test_timeout_on_a_lock_has_no_effect(
    backend: PostgresqlBackend,
) -> None:
    backend.open("one").put("key", 1, 60)
    store = SqlState(backend.url, "one", 0.3, clock=backend.clock)
    with psycopg.connect(address(backend.url)) as other:
        other.execute("LOCK TABLE genesys_auth_state")
        calls: list[Callable[[], object]] = [
            lambda: store.get("key"),
            lambda: store.put("key", 2, 60),
            lambda: store.add("other", 2, 60),
            lambda: store.replace("key", 2, 60),
            lambda: store.take("key"),
            lambda: store.delete("key"),
            lambda: store.find("key"),
            store.purge,
        ]
        for call in calls:
            with pytest.raises(StateUnavailable, match="did not answer") as refused:
                call()
            assert refused.value.retry_after >= 1
        wait_until(lambda: backend.sql(WAITING) == [])
    store.close()
    patient = backend.open("one")
    assert patient.take("key") == 1
    assert patient.get("other") is None


def test_a_connection_closed_while_idle_fails_no_call(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    for _ in range(3):
        assert backend.sql(TERMINATE)
        wait_until(lambda: backend.sql(TERMINATE) == [])
        assert store.get("key") == 1


def test_connections_are_bounded_and_closed(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    with ThreadPoolExecutor(40) as pool:
        assert all(pool.map(lambda number: store.add(f"key-{number}", 1, 60), range(400)))
    assert 1 <= len(backend.sql(OURS)) <= CONNECTIONS
    store.close()
    wait_until(lambda: backend.sql(OURS) == [])
    assert store.get("key-7") == 1


def test_a_full_pool_is_neither_outage_nor_renewed(
    backend: PostgresqlBackend, caplog: pytest.LogCaptureFixture
) -> None:
    database = state_database(backend.url, PATIENCE, durable=False)
    patient = SqlState(backend.url, "one", PATIENCE, clock=backend.clock, database=database)
    hasty = SqlState(backend.url, "one", 1.0, clock=backend.clock, database=database)
    patient.put("key", 1, 60)
    connected = threading.Barrier(CONNECTIONS + 1)
    leave = threading.Event()

    def hold(*_: object) -> None:
        connected.wait(PATIENCE)
        leave.wait(PATIENCE)

    with ThreadPoolExecutor(CONNECTIONS) as pool, listening(Engine, "after_cursor_execute", hold):
        held = [pool.submit(patient.get, "key") for _ in range(CONNECTIONS)]
        connected.wait(PATIENCE)
        connections = set(backend.sql(OURS))
        for _ in range(2):
            with pytest.raises(StateUnavailable, match=r"is busy: all 8 connections of this process are in use$"):
                hasty.get("key")
        leave.set()
        assert [one.result() for one in held] == [1] * CONNECTIONS
    assert patient.get("key") == 1
    assert set(backend.sql(OURS)) == connections
    assert not caplog.records
    database.close()


def answers(store: SqlState) -> bool:
    try:
        store.get("key")
    except StateUnavailable:
        return False
    return True


def test_a_server_without_free_connections_is_unavailable(
    own_postgresql: PostgresqlServer,
) -> None:
    store = SqlState(own_postgresql.url, "one", PATIENCE)
    store.create_tables()
    store.put("key", 1, 60)
    store.close()
    with ExitStack() as others:
        with suppress(psycopg.OperationalError):
            while True:
                others.enter_context(psycopg.connect(address(own_postgresql.url)))
        with pytest.raises(StateUnavailable, match="too many clients"):
            store.get("key")
    wait_until(lambda: answers(store))
    assert store.get("key") == 1
    store.close()


def test_closing_the_store_closes_a_connection_in_use(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    with listening(Engine, "before_cursor_execute", lambda *_: store.close()):
        assert store.get("key") == 1
    wait_until(lambda: backend.sql(OURS) == [])


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_does_not_disturb_its_parents_call(backend: PostgresqlBackend, fork: str) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    held: list[bool] = []

    def look(*_: object) -> None:
        if not held:
            held.append(True)
            held.append(holds_in_child(lambda: store.get("key") == 1 and store.add("child", 2, 60), fork=fork))

    with listening(Engine, "before_cursor_execute", look):
        assert store.get("key") == 1
    assert held == [True, True]
    assert store.get("child") == 2


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_opens_its_own_connections(backend: PostgresqlBackend, fork: str) -> None:
    store = backend.open("one")
    store.put("parent", "of the parent", 60)
    before = backend.sql(OURS)

    def child() -> bool:
        held = store.get("parent") == "of the parent" and store.add("child", "of the child", 60)
        gc.collect()
        return held and store.take("child") == "of the child" and len(backend.sql(OURS)) == len(before) + 1

    assert holds_in_child(child, fork=fork)
    assert store.get("parent") == "of the parent"
    wait_until(lambda: backend.sql(OURS) == before)


def test_a_broken_idle_connection_is_not_used(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    with listening(Pool, "checkin", lambda connection, _: connection.pgconn.finish()):
        assert store.get("key") == 1
    assert store.get("key") == 1


@pytest.mark.parametrize("reply", [b"SELECT 'mine' AS key, '\"value of another\"' AS value", b"SELECT 1 WHERE false"])
@pytest.mark.parametrize("operation", ["get", "take", "replace", "delete", "add"])
def test_an_unread_reply_never_reaches_the_next_call(backend: PostgresqlBackend, operation: str, reply: bytes) -> None:
    right: dict[str, tuple[Callable[[SqlState], object], object]] = {
        "get": (lambda store: store.get("mine"), "my value"),
        "take": (lambda store: store.take("mine"), "my value"),
        "replace": (lambda store: store.replace("mine", "other", 60), True),
        "delete": (lambda store: store.delete("mine"), True),
        "add": (lambda store: store.add("new", 1, 60), True),
    }
    call, expected = right[operation]
    store = backend.open("one")
    store.put("mine", "my value", 60)
    left: list[Any] = []

    def leave_unread(connection: Any, _: object) -> None:
        connection.pgconn.send_query(reply)
        left.append(connection)

    with listening(Pool, "checkin", leave_unread):
        assert store.get("mine") == "my value"
    assert len(left) == 1
    with suppress(StateUnavailable):
        assert call(store) == expected
        store.put("mine", "my value", 60)
        store.delete("new")
    assert call(store) == expected
    assert left[0].closed


@pytest.mark.parametrize("operation", ["get", "get_many", "find", "take", "replace", "add"])
def test_an_answer_to_another_question_is_unavailable(backend: PostgresqlBackend, operation: str) -> None:
    check_another_answer(backend.open("one"), operation)


def test_an_error_raised_by_a_trigger_is_unavailable(empty_database: PostgresqlBackend) -> None:
    store = empty_database.open("one")
    store.create_tables()
    empty_database.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'not today' USING ERRCODE = 'ZZ999', DETAIL = 'private'; END $$;"
        "CREATE TRIGGER no BEFORE INSERT ON genesys_auth_state FOR EACH ROW EXECUTE FUNCTION no()"
    )
    with pytest.raises(StateUnavailable, match=r"not today$"):
        store.put("key", 1, 60)
    assert store.get("key") is None


def test_an_interrupted_call_closes_its_connection(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)

    def interrupt() -> None:
        wait_until(lambda: backend.sql(WAITING) != [])
        os.kill(os.getpid(), signal.SIGINT)

    with psycopg.connect(address(backend.url)) as other:
        other.execute("LOCK TABLE genesys_auth_state")
        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            store.get("key")
        interrupting.join()
    wait_until(lambda: backend.sql(OURS) == [])
    assert store.get("key") == 1


def test_a_hung_server_times_out_and_recovers(own_postgresql: PostgresqlServer) -> None:
    patient = SqlState(own_postgresql.url, "one", PATIENCE)
    patient.create_tables()
    patient.put("key", 1, 60)
    store = SqlState(own_postgresql.url, "one", 2.0)
    barrier = threading.Barrier(2)
    with listening(Pool, "checkout", lambda *_: barrier.wait()), ThreadPoolExecutor(2) as pool:
        # Two connections that wait: the first call that fails lets go of the other one.
        assert list(pool.map(store.get, ["key"] * 2)) == [1, 1]
    with own_postgresql.hanging():
        began = time.monotonic()
        with pytest.raises(StateUnavailable, match="no answer within 2 s"):
            store.take("key")
        with pytest.raises(StateUnavailable, match="no answer within 2 s"):
            SqlState(own_postgresql.url, "one", 2.0).get("key")
        assert time.monotonic() - began < 20
    # The call that timed out may have succeeded: the key is gone or is taken now, never twice.
    taken = [patient.take("key"), patient.take("key")]
    assert taken in ([None, None], [1, None])
    assert patient.add("key", 2, 60)
    store.close()
    patient.close()


def test_sending_a_large_value_times_out(
    own_postgresql: PostgresqlServer,
) -> None:
    patient = SqlState(own_postgresql.url, "one", PATIENCE)
    patient.create_tables()
    patient.put("key", "x" * 30_000_000, 60)
    assert patient.get("key") == "x" * 30_000_000
    store = SqlState(own_postgresql.url, "one", 3.0)
    assert store.get("nothing") is None

    def hang(*_: object) -> None:
        if not hanging:
            hanging.append(resume.enter_context(own_postgresql.hanging()))

    hanging: list[None] = []
    with (
        ExitStack() as resume,
        listening(Engine, "before_cursor_execute", hang),
        pytest.raises(StateUnavailable, match="no answer within 3 s"),
    ):
        store.put("key", "y" * 30_000_000, 60)
    assert patient.get("key") == "x" * 30_000_000
    store.close()
    patient.close()


def test_a_server_that_only_accepts_connections_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        store = SqlState(f"postgresql+psycopg://ann:s3cr3t@127.0.0.1:{port}/db", "one", 1.0)
        began = time.monotonic()
        calls: list[Callable[[], object]] = [lambda: store.get("key"), store.create_tables]
        for call in calls:
            # libpq waits at least 2 s for a connection. A slow machine may take 1 s before it asks for one.
            with pytest.raises(StateUnavailable, match=r"no answer within [12] s"):
                call()
        assert time.monotonic() - began < 20


def test_restarted_server_is_used_again(own_postgresql: PostgresqlServer) -> None:
    store = SqlState(own_postgresql.url, "one", PATIENCE)
    store.create_tables()
    store.put("key", 1, 60, index=["term"])
    own_postgresql.stop()
    for _ in range(2):
        with pytest.raises(StateUnavailable, match="refused"):
            store.get("key")
    own_postgresql.start()
    assert store.get("key") == 1
    # A restart between two calls causes no error.
    own_postgresql.stop()
    own_postgresql.start()
    assert store.take("key") == 1
    store.close()


def test_a_server_stopped_during_a_statement_is_unavailable(own_postgresql: PostgresqlServer) -> None:
    store = SqlState(own_postgresql.url, "one", PATIENCE)
    store.create_tables()
    with closing(psycopg.connect(address(own_postgresql.url))) as other, ThreadPoolExecutor(1) as pool:
        other.execute("LOCK TABLE genesys_auth_state")
        asked = pool.submit(store.get, "key")
        wait_until(lambda: run_sql(own_postgresql.url, WAITING) != [])
        own_postgresql.stop()
        with pytest.raises(StateUnavailable, match="did not answer"):
            asked.result()
    own_postgresql.start()
    assert store.add("key", 1, 60)
    store.close()


def test_a_store_may_be_made_before_its_server(own_postgresql: PostgresqlServer) -> None:
    own_postgresql.stop()
    store = SqlState(own_postgresql.url, "one", PATIENCE)
    own_postgresql.start()
    store.create_tables()
    assert store.add("key", 1, 60)
    store.close()


def test_neither_repr_nor_error_shows_a_secret() -> None:
    url = f"postgresql+psycopg://ann:s3cr3t-word@127.0.0.1:{free_port()}/db?sslpassword=s3cr3t-key&application_name=x-y"
    store = SqlState(url, "one", 5.0)
    with pytest.raises(StateUnavailable) as refused:
        store.get("key")
    for shown in (repr(store), str(refused.value)):
        assert not [secret for secret in ("s3cr3t", "ann", "x-y") if secret in shown]
        assert "127.0.0.1" in shown
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "finding"),
    [
        (
            "postgresql+psycopg2://ann:s3cr3t@host/db",
            r"postgresql\+psycopg2 is not supported; use one",
        ),
        ("no address with s3cr3t", "is not a valid database URL"),
        ("postgresql+psycopg://ann:s3cr3t@host:port/db", "is not a valid database URL"),
        ("postgresql+psycopg://ann:s3cr3t@host/db?nosuch=s3cr3t", "has an option that libpq does not know"),
    ],
)
def test_invalid_postgresql_urls_are_refused(url: str, finding: str) -> None:
    with pytest.raises(ConfigurationError, match=f"state_url: {finding}") as refused:
        SqlState(url, "one", 1.0)
    assert "s3cr3t" not in str(refused.value)


def test_a_missing_database_or_host_is_unavailable(postgresql: str) -> None:
    for url in (postgresql + "_not_there", "postgresql+psycopg://postgres@host.invalid/db"):
        with pytest.raises(StateUnavailable, match="did not answer"):
            SqlState(url, "one", PATIENCE).get("key")


def test_the_host_that_answers_is_used(backend: PostgresqlBackend) -> None:
    here = make_url(backend.url)
    both = f"postgresql+psycopg://postgres@/{here.database}?host=127.0.0.1:{free_port()}&host=127.0.0.1:{here.port}"
    store = SqlState(both, "one", PATIENCE)
    assert store.add("key", 1, 60)
    store.close()


@pytest.mark.parametrize("wanted", ["read-write", "read-only"])
def test_libpq_chooses_between_two_hosts(backend: PostgresqlBackend, wanted: str) -> None:
    here = make_url(backend.url)
    hosts = f"host=127.0.0.1:{free_port()}&host=127.0.0.1:{here.port}&target_session_attrs={wanted}"
    store = SqlState(f"postgresql+psycopg://postgres@/{here.database}?{hosts}", "one", PATIENCE)
    if wanted == "read-write":
        assert store.add("key", 1, 60)
    else:
        with pytest.raises(StateUnavailable, match="session is not read-only"):
            store.get("key")
    store.close()


def test_a_failed_automatic_purge_fails_no_change(
    empty_database: PostgresqlBackend, caplog: pytest.LogCaptureFixture
) -> None:
    store = empty_database.open("one")
    store.create_tables()
    store.put("old", 1, 10)
    empty_database.advance(11)
    empty_database.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;"
        "CREATE TRIGGER no BEFORE DELETE ON genesys_auth_state FOR EACH ROW WHEN (OLD.key = 'old')"
        " EXECUTE FUNCTION no()"
    )
    check_a_purge_that_fails(
        store, lambda: empty_database.sql("DROP TRIGGER no ON genesys_auth_state"), empty_database.advance, caplog
    )
    assert empty_database.rows("genesys_auth_state") == 3


def test_no_purge_follows_a_slow_change(empty_database: PostgresqlBackend, caplog: pytest.LogCaptureFixture) -> None:
    timeout = 4.0
    patient = empty_database.open("one")
    patient.create_tables()
    patient.put("old", 1, 10)
    empty_database.advance(11)
    empty_database.sql(
        f"CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({timeout * 0.55}); "
        "RETURN NEW; END $$;"
        "CREATE TRIGGER wait BEFORE INSERT ON genesys_auth_state FOR EACH ROW WHEN (NEW.key = 'slow')"
        " EXECUTE FUNCTION wait()"
    )
    store = SqlState(empty_database.url, "one", timeout, clock=empty_database.clock)
    store.put("slow", 1, 60)
    assert empty_database.rows("genesys_auth_state") == 2
    empty_database.advance(PURGE_INTERVAL)
    patient.put("quick", 1, 60)
    assert empty_database.rows("genesys_auth_state") == 2
    assert not caplog.records
    store.close()
