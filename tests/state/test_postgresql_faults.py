"""PostgresqlState in bad company: a server that is slow, hangs, dies, restarts or is another one; forks."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NoReturn

import psycopg
import pytest
from sqlalchemy.engine import make_url

from flask_genesys_auth.errors import ConfigurationError, StateUnavailable
from flask_genesys_auth.libpq import Pipeline
from flask_genesys_auth.state import postgresql as postgresql_module
from flask_genesys_auth.state import postgresql_statements
from flask_genesys_auth.state.postgresql import CONNECTIONS, PostgresqlState
from tests.servers import PostgresqlServer, free_port

from .failing_purge import check_a_purge_that_fails
from .postgresql_backend import OURS, PATIENCE, TERMINATE, WAITING, PostgresqlBackend, address, run_sql, wait_until
from .test_forks import in_child


@pytest.fixture
def backend(postgresql_backend: PostgresqlBackend) -> PostgresqlBackend:
    return postgresql_backend


def test_whoever_holds_the_table_makes_it_unavailable_in_time_and_what_failed_does_not_happen_later(
    backend: PostgresqlBackend,
) -> None:
    backend.open("one").put("key", 1, 60)
    store = PostgresqlState(backend.url, "one", 0.3, clock=backend.clock)
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
    store._timeout = PATIENCE
    assert store.take("key") == 1
    assert store.get("other") is None
    store.close()


def test_a_connection_that_was_closed_while_idle_costs_nobody_anything(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    for _ in range(3):
        assert backend.sql(TERMINATE)
        wait_until(lambda: backend.sql(TERMINATE) == [])
        assert store.get("key") == 1


def test_one_process_has_a_bounded_number_of_connections_and_close_gives_them_back(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    with ThreadPoolExecutor(40) as pool:
        assert all(pool.map(lambda number: store.add(f"key-{number}", 1, 60), range(400)))
    assert 1 <= len(backend.sql(OURS)) <= CONNECTIONS
    store.close()
    wait_until(lambda: backend.sql(OURS) == [])
    assert store.get("key-7") == 1


def test_who_finds_no_connection_free_is_told_in_time(backend: PostgresqlBackend) -> None:
    store = PostgresqlState(backend.url, "one", 0.05)
    for _ in range(CONNECTIONS):
        assert store._places.acquire()
    with pytest.raises(StateUnavailable, match="all 8 connections"):
        store.get("key")
    store._places.release()
    store._timeout = PATIENCE
    assert store.get("key") is None
    store.close()


def test_a_connection_that_is_out_while_the_store_closes_is_closed_when_it_returns(
    backend: PostgresqlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    run = Pipeline.run

    def closing(self: Pipeline, *arguments: Any) -> Any:
        store.close()
        return run(self, *arguments)

    monkeypatch.setattr(Pipeline, "run", closing)
    assert store.get("key") == 1
    assert not store._idle
    wait_until(lambda: backend.sql(OURS) == [])


def test_a_child_neither_uses_nor_closes_what_was_in_use_at_the_fork(
    backend: PostgresqlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    run = Pipeline.run
    held = []

    def forking(self: Pipeline, *arguments: Any) -> Any:
        monkeypatch.setattr(Pipeline, "run", run)
        held.append(in_child(lambda: store.get("key") == 1 and store.add("child", 2, 60) and self in store._inherited))
        return run(self, *arguments)

    monkeypatch.setattr(Pipeline, "run", forking)
    assert store.get("key") == 1
    assert held == [True]
    assert store.get("child") == 2
    assert not store._inherited


def test_a_child_begins_with_no_connection_of_its_parent(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    (lent,) = store._idle
    # What os.fork() does in the child, here where coverage sees it.
    store.after_fork()
    assert store._inherited == [lent]
    assert store.get("key") == 1
    assert lent not in store._idle
    assert not lent.is_stale()
    lent.close()


def test_a_connection_that_broke_without_a_word_is_not_used(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    (idle,) = store._idle
    idle.close()
    assert store.get("key") == 1
    (idle,) = store._idle
    with pytest.raises(psycopg.OperationalError, match="the connection was lost"):
        idle._result(time.monotonic() + PATIENCE)


def test_what_comes_back_while_much_is_being_sent_is_read_lest_both_sides_wait(backend: PostgresqlBackend) -> None:
    store = backend.open("one")
    store.put("key", "x" * 30_000_000, 60)
    read, much = ({"of": "one", "at": at, "now": backend.clock()} for at in ("key", "k" * 30_000_000))
    large, none = store._run(postgresql_statements.READ(**read), postgresql_statements.READ(**much))
    assert (large.ntuples, none.ntuples) == (1, 0)


def test_an_error_of_an_extension_s_own_is_unavailable(empty_database: PostgresqlBackend) -> None:
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


def test_an_interrupted_call_leaves_no_connection_amid_an_answer(
    backend: PostgresqlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "_result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.get("key")
    assert not store._idle
    assert not store._in_use
    assert store.get("key") == 1


def test_a_server_that_hangs_is_unavailable_in_time_and_well_again_by_itself(own_postgresql: PostgresqlServer) -> None:
    store = PostgresqlState(own_postgresql.url, "one", PATIENCE)
    store.create_tables()
    store.put("key", 1, 60)
    with ThreadPoolExecutor(2) as pool:
        # Two connections that wait: the first call that fails lets go of the other one.
        pool.map(lambda _: store.get("key"), range(10))
    store._timeout = 0.5
    with own_postgresql.hanging():
        began = time.monotonic()
        with pytest.raises(StateUnavailable, match=r"nothing came within 0\.5 s"):
            store.take("key")
        assert not store._idle
        with pytest.raises(StateUnavailable, match=r"nothing came within 0\.5 s"):
            PostgresqlState(own_postgresql.url, "one", 0.5).get("key")
        assert time.monotonic() - began < 20
    store._timeout = PATIENCE
    # What nobody waited for may have happened meanwhile: a key that counts once is gone or given now, never twice.
    taken = [store.take("key"), store.take("key")]
    assert taken in ([None, None], [1, None])
    assert store.add("key", 2, 60)
    store.close()


def test_more_than_the_way_takes_is_sent_bit_by_bit_and_no_longer_than_the_time_out(
    own_postgresql: PostgresqlServer,
) -> None:
    store = PostgresqlState(own_postgresql.url, "one", PATIENCE)
    store.create_tables()
    store.put("key", "x" * 30_000_000, 60)
    assert store.get("key") == "x" * 30_000_000
    store._timeout = 0.5
    with own_postgresql.hanging(), pytest.raises(StateUnavailable, match=r"nothing came within 0\.5 s"):
        store.put("key", "y" * 30_000_000, 60)
    store._timeout = PATIENCE
    assert store.get("key") == "x" * 30_000_000
    store.close()


def test_a_server_that_takes_connections_and_never_answers_is_unavailable_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        store = PostgresqlState(f"postgresql+psycopg://ann:s3cr3t@127.0.0.1:{port}/db", "one", 0.2)
        began = time.monotonic()
        monkeypatch.setattr(postgresql_module, "TABLES_PATIENCE", 0.2)
        calls: list[Callable[[], object]] = [lambda: store.get("key"), store.create_tables]
        for call in calls:
            with pytest.raises(StateUnavailable, match=r"nothing came within 0\.2 s"):
                call()
        assert time.monotonic() - began < 20


def test_a_server_that_is_gone_is_unavailable_and_used_again_when_it_is_back(own_postgresql: PostgresqlServer) -> None:
    store = PostgresqlState(own_postgresql.url, "one", PATIENCE)
    store.create_tables()
    store.put("key", 1, 60, index=["term"])
    own_postgresql.stop()
    for _ in range(2):
        with pytest.raises(StateUnavailable, match="refused"):
            store.get("key")
    own_postgresql.start()
    assert store.get("key") == 1
    # Restarted while nobody asked: nobody notices.
    own_postgresql.stop()
    own_postgresql.start()
    assert store.take("key") == 1
    store.close()


def test_a_server_that_dies_amid_a_statement_is_unavailable(own_postgresql: PostgresqlServer) -> None:
    store = PostgresqlState(own_postgresql.url, "one", PATIENCE)
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
    store = PostgresqlState(own_postgresql.url, "one", PATIENCE)
    own_postgresql.start()
    store.create_tables()
    assert store.add("key", 1, 60)
    store.close()


def test_neither_repr_nor_error_shows_a_secret() -> None:
    url = f"postgresql+psycopg://ann:s3cr3t-word@127.0.0.1:{free_port()}/db?sslpassword=s3cr3t-key&application_name=x-y"
    store = PostgresqlState(url, "one", 5.0)
    with pytest.raises(StateUnavailable) as refused:
        store.get("key")
    for shown in (repr(store), str(refused.value)):
        assert not [secret for secret in ("s3cr3t", "ann", "x-y") if secret in shown]
        assert "127.0.0.1" in shown
    assert refused.value.__cause__ is None
    assert "s3cr3t-word" not in str(store._trouble(psycopg.OperationalError("with s3cr3t-word in it")))


@pytest.mark.parametrize(
    ("url", "finding"),
    [
        ("postgresql+psycopg2://ann:s3cr3t@host/db", r"must be of the form \"postgresql\+psycopg://"),
        ("sqlite:///file", "must be of the form"),
        ("no address with s3cr3t", "is not a database's address"),
        ("postgresql+psycopg://ann:s3cr3t@host:port/db", "is not a database's address"),
        ("postgresql+psycopg://ann:s3cr3t@host/db?nosuch=s3cr3t", "has an option that libpq does not know"),
    ],
)
def test_what_is_no_address_of_postgresql_is_refused(url: str, finding: str) -> None:
    with pytest.raises(ConfigurationError, match=f"state_url: {finding}") as refused:
        PostgresqlState(url, "one", 1.0)
    assert "s3cr3t" not in str(refused.value)


def test_a_database_or_a_host_that_does_not_exist_is_unavailable(postgresql: str) -> None:
    for url in (postgresql + "_not_there", "postgresql+psycopg://postgres@host.invalid/db"):
        with pytest.raises(StateUnavailable, match="did not answer"):
            PostgresqlState(url, "one", PATIENCE).get("key")


def test_of_two_hosts_the_one_that_answers_is_used(backend: PostgresqlBackend) -> None:
    here = make_url(backend.url)
    both = f"postgresql+psycopg://postgres@/{here.database}?host=127.0.0.1:{free_port()}&host=127.0.0.1:{here.port}"
    store = PostgresqlState(both, "one", PATIENCE)
    assert store.add("key", 1, 60)
    store.close()


def test_a_purge_in_passing_that_fails_fails_no_change_and_is_no_outage(
    empty_database: PostgresqlBackend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
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
        store, lambda: empty_database.sql("DROP TRIGGER no ON genesys_auth_state"), caplog, monkeypatch
    )
    assert empty_database.rows("genesys_auth_state") == 3


def test_nobody_waits_for_a_purge_when_their_own_change_was_slow(
    backend: PostgresqlBackend, caplog: pytest.LogCaptureFixture
) -> None:
    store = backend.open("one")
    store.put("old", 1, 10)
    backend.advance(11)
    store._purge_in_passing(time.monotonic() + PATIENCE / 3)
    assert backend.rows("genesys_auth_state") == 1
    store._purge_in_passing(time.monotonic() + PATIENCE)
    assert backend.rows("genesys_auth_state") == 0
    assert not caplog.records
