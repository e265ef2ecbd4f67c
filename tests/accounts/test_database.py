"""Databases that are missing, without tables, locked or down, and forked processes."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sqlite3
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from flask_genesys_auth.accounts.database import metadata
from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.chain.outcomes import Identity
from flask_genesys_auth.errors import AccountsUnavailable, ConfigurationError
from tests.forking import FORKS, holds_in_child
from tests.servers import PostgresqlServer, free_port
from tests.state.another_answer import answering, listening
from tests.state.postgresql_backend import OURS, WAITING, address, run_sql, wait_until

ANN = Identity("web_services", "acme", "ann")
NOBODY = 65534


def test_missing_tables_error_names_the_command(sqlite_url: str, tmp_path: Path) -> None:
    store = SqlAccounts(sqlite_url)
    asked: list[Callable[[], object]] = [
        lambda: store.find(ANN),
        lambda: store.add("acme", "ann"),
        store.check_tables,
        store.list,
    ]
    for ask in asked:
        with pytest.raises(ConfigurationError, match="flask genesys-auth init-db"):
            ask()
    assert list(tmp_path.iterdir()) == []
    store.create_tables()
    store.create_tables()
    store.check_tables()
    assert store.find(ANN) is None
    assert stat.S_IMODE((tmp_path / "data" / "accounts.sqlite3").stat().st_mode) == 0o600
    store.close()


def test_foreign_tables_do_not_count_as_ours(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    other = sqlite3.connect(tmp_path / "data" / "accounts.sqlite3")
    other.execute("CREATE TABLE other (x)")
    other.close()
    store = SqlAccounts(sqlite_url)
    with pytest.raises(ConfigurationError, match="init-db"):
        store.find(ANN)
    with pytest.raises(ConfigurationError, match="init-db"):
        store.add("acme", "ann")
    store.create_tables()
    assert store.find(ANN) is None
    store.close()


def test_corrupt_file_is_unavailable(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "accounts.sqlite3").write_text("this is no database, and long enough to be seen as none")
    store = SqlAccounts(sqlite_url)
    asked: list[Callable[[], object]] = [
        lambda: store.find(ANN),
        store.check_tables,
        store.create_tables,
        lambda: store.add("acme", "ann"),
    ]
    for ask in asked:
        with pytest.raises(AccountsUnavailable):
            ask()
    store.close()


def test_folder_that_cannot_be_created_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = SqlAccounts(f"sqlite:///{tmp_path / 'file' / 'accounts.sqlite3'}")
    with pytest.raises(AccountsUnavailable, match="cannot be written"):
        store.create_tables()


def test_endless_writer_blocks_writers_not_readers(sqlite_url: str) -> None:
    store = SqlAccounts(sqlite_url, timeout=0.05)
    store.create_tables()
    ann = store.add("acme", "ann")
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(AccountsUnavailable, match="locked"):
        store.set_enabled(ann.id, False)
    assert store.find(ANN) == ann
    other.execute("ROLLBACK")
    other.close()
    store.set_enabled(ann.id, False)
    store.close()


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true", "no address", "nosuch://h/d",
     "mysql+nosuchdriver://u:geheim@h/d"],
)  # fmt: skip
def test_unusable_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="accounts_url") as refusal:
        SqlAccounts(url)
    assert "geheim" not in str(refusal.value)


def test_secrets_of_the_url_never_show() -> None:
    url = f"postgresql+psycopg://user:geheim@127.0.0.1:{free_port()}/db?application_name=verborgen"
    store = SqlAccounts(url, timeout=1)
    with pytest.raises(AccountsUnavailable) as failure:
        store.find(ANN)
    for shown in (str(failure.value), repr(store), store.name):
        assert "geheim" not in shown
        assert "verborgen" not in shown
        assert urlsplit(url).hostname in shown  # type: ignore[operator]  # it has one
    assert failure.value.__cause__ is None


def test_postgresql_is_used_again_after_an_outage(postgresql: str, caplog: pytest.LogCaptureFixture) -> None:
    store = SqlAccounts(postgresql, timeout=5)
    store.create_tables()
    assert store.find(ANN) is None
    engine = create_engine(postgresql, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = :u"
            ),
            {"u": "postgres"},
        )
    assert store.find(ANN) is None
    # Nor does SQLAlchemy log a connection that it could not roll back.
    assert caplog.records == []
    store.close()
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE genesys_auth_identities"))
    with pytest.raises(ConfigurationError, match="init-db"):
        store.check_tables()
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE genesys_auth_accounts"))
    with pytest.raises(ConfigurationError, match="init-db"):
        store.find(ANN)
    store.close()


def test_postgresql_cancels_slow_statements(postgresql: str) -> None:
    patient, store = SqlAccounts(postgresql, timeout=30), SqlAccounts(postgresql, timeout=0.2)
    patient.create_tables()
    ann = patient.add("acme", "ann")
    engine = create_engine(postgresql, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE genesys_auth_accounts"))
        with pytest.raises(AccountsUnavailable, match=r"timeout|timed out"):
            store.find(ANN)
    store.close()
    assert patient.find(ANN) == ann
    patient.delete(ann.id)
    patient.close()


def test_hanging_postgresql_is_unavailable_and_recovers(
    own_postgresql: PostgresqlServer,
) -> None:
    patient = SqlAccounts(own_postgresql.url, timeout=30)
    patient.create_tables()
    ann = patient.add("acme", "ann")
    hasty = SqlAccounts(own_postgresql.url, timeout=1)
    with ThreadPoolExecutor(4) as pool:
        # Several connections wait; the first failure closes the others.
        assert set(pool.map(lambda _: hasty.find(ANN), range(20))) == {ann}
    with own_postgresql.hanging():
        began = time.monotonic()
        asked: list[Callable[[], object]] = [
            lambda: hasty.find(ANN),
            lambda: hasty.find(ANN),
            lambda: hasty.set_enabled(ann.id, False),
            hasty.check_tables,
            hasty.create_tables,
        ]
        for ask in asked:
            with pytest.raises(AccountsUnavailable, match="timed out: no answer"):
                ask()
        assert time.monotonic() - began < 30
    assert patient.find(ANN) is not None
    patient.set_enabled(ann.id, False)
    hasty.close()
    patient.close()


def test_postgresql_hanging_in_a_transaction_changes_nothing(
    own_postgresql: PostgresqlServer,
) -> None:
    patient = SqlAccounts(own_postgresql.url, timeout=30)
    patient.create_tables()
    ann = patient.add("acme", "ann", identities=[("okta", "1")])
    hasty = SqlAccounts(own_postgresql.url, timeout=2)
    assert hasty.find(ANN) == ann
    seen: list[str] = []

    def hang(_: object, __: object, statement: str, *___: object) -> None:
        seen.append(statement)
        if len(seen) == 2:
            resume.enter_context(own_postgresql.hanging())

    with (
        ExitStack() as resume,
        listening(Engine, "before_cursor_execute", hang),
        pytest.raises(AccountsUnavailable, match="timed out: no answer"),
    ):
        hasty.delete(ann.id)
    assert len(seen) == 2
    assert patient.find(ANN) == ann
    assert patient.details(ann.id).identities == (("okta", "1"),)
    hasty.close()
    patient.close()


def test_silent_postgresql_is_unavailable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        store = SqlAccounts(f"postgresql+psycopg://ann@127.0.0.1:{listener.getsockname()[1]}/db", timeout=0.2)
        began = time.monotonic()
        with pytest.raises(AccountsUnavailable, match="timed out: no answer"):
            store.find(ANN)
        assert time.monotonic() - began < 20


def test_postgresql_restart_between_requests_goes_unnoticed(own_postgresql: PostgresqlServer) -> None:
    store = SqlAccounts(own_postgresql.url, timeout=30)
    store.create_tables()
    ann = store.add("acme", "ann")
    assert store.find(ANN) == ann
    own_postgresql.stop()
    with pytest.raises(AccountsUnavailable, match="refused"):
        store.find(ANN)
    own_postgresql.start()
    assert store.find(ANN) == ann
    own_postgresql.stop()
    own_postgresql.start()
    assert store.find(ANN) == ann
    store.close()


def test_interrupted_statement_closes_its_connection(postgresql: str) -> None:
    store = SqlAccounts(postgresql, timeout=30)
    store.create_tables()
    store.close()
    assert store.find(ANN) is None

    def interrupt() -> None:
        wait_until(lambda: run_sql(postgresql, WAITING) != [])
        os.kill(os.getpid(), signal.SIGINT)

    with psycopg.connect(address(postgresql)) as other:
        other.execute("LOCK TABLE genesys_auth_accounts")
        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            store.find(ANN)
        interrupting.join()
    wait_until(lambda: run_sql(postgresql, OURS) == [])
    assert store.find(ANN) is None
    store.close()


def test_unknown_libpq_option_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="accounts_url: has an option that libpq does not know") as refused:
        SqlAccounts("postgresql+psycopg://ann:geheim@db/x?nosuch=geheim")
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("fork", FORKS)
def test_forked_child_opens_its_own_connections(store: SqlAccounts, fork: str) -> None:
    ann, bob = store.add("acme", "ann"), store.add("acme", "bob")
    assert store.find(ANN) == ann

    def child() -> bool:
        held = store.get(bob.id) == bob and store.find(ANN) == ann
        gc.collect()
        store.set_roles(bob.id, ["R"])
        return held

    assert holds_in_child(child, fork=fork)
    assert store.find(ANN) == ann
    changed = store.get(bob.id)
    assert changed is not None
    assert changed.roles == {"R"}


@pytest.mark.parametrize("fork", FORKS)
def test_fork_during_a_change_keeps_the_change(sqlite_store: SqlAccounts, fork: str) -> None:
    ann = sqlite_store.add("acme", "ann")
    held: list[bool] = []

    def refused() -> bool:
        with pytest.raises(AccountsUnavailable, match=r"a thread was using .* when this process was forked"):
            sqlite_store.find(ANN)
        return True

    with listening(Engine, "commit", lambda *_: held.append(holds_in_child(refused, fork=fork)), once=True):
        sqlite_store.set_enabled(ann.id, False)
    assert held == [True]
    changed = sqlite_store.find(ANN)
    assert changed is not None
    assert not changed.enabled
    assert holds_in_child(lambda: sqlite_store.find(ANN) == changed, fork=fork)


def test_several_processes_create_tables_at_once(postgresql: str, tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / 'accounts.sqlite3'}", postgresql]
    for url in urls:
        # Each store has its own connections, as a process has.
        stores = [SqlAccounts(url, timeout=30) for _ in range(6)]
        begin = threading.Barrier(len(stores))

        def make(one: SqlAccounts, begin: threading.Barrier = begin) -> None:
            begin.wait(60)
            one.create_tables()

        with ThreadPoolExecutor(len(stores)) as threads:
            list(threads.map(make, stores))
        for one in stores:
            one.check_tables()
            one.close()
    engine = create_engine(urls[1], poolclass=NullPool)
    metadata.drop_all(engine)
    engine.dispose()


@pytest.mark.parametrize("by", ["id", "name", "identity", "password_hash"])
def test_answer_to_another_query_is_unavailable(store: SqlAccounts, hasher: PasswordHasher, by: str) -> None:
    ann = store.add("acme", "ann", identities=[("okta", "of ann")])
    bob = store.add("acme", "bob", identities=[("okta", "of bob")], password_hash=hasher.hash("bob's"))
    asked: dict[str, Callable[[], object]] = {
        "id": lambda: store.get(ann.id),
        "name": lambda: store.find(ANN),
        "identity": lambda: store.find(Identity("saml", "acme", "of ann", matched_by="identity", provider="okta")),
        "password_hash": lambda: store.password_hash("acme", "ann"),
    }
    with (
        answering({ann.id: bob.id, "ann": "bob", "of ann": "of bob"}),
        pytest.raises(AccountsUnavailable, match="answer to another statement"),
    ):
        asked[by]()
    assert asked[by]() == (None if by == "password_hash" else ann)


def test_loose_database_comparison_matches_no_other_account(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    made = SqlAccounts(sqlite_url)
    made.create_tables()
    made.close()
    # As in MySQL: text is compared without case.
    with closing(sqlite3.connect(path)) as connection:
        (schema,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'genesys_auth_identities'"
        ).fetchone()
        connection.execute("DROP TABLE genesys_auth_identities")
        connection.execute(schema.replace("value VARCHAR(512)", "value VARCHAR(512) COLLATE NOCASE"))
    store = SqlAccounts(sqlite_url)
    ann = store.add("acme", "ann", identities=[("okta", "Ann")])
    for value, expected in (("Ann", ann), ("ann", None)):
        assert store.find(Identity("saml", "acme", value, matched_by="identity", provider="okta")) == expected
    store.close()


def test_missing_file_is_unavailable_until_it_returns(sqlite_url: str, tmp_path: Path) -> None:
    path, aside = Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "aside"
    store = SqlAccounts(sqlite_url)
    store.create_tables()
    ann = store.add("acme", "ann")
    path.rename(aside)
    asked: list[Callable[[], object]] = [lambda: store.find(ANN), lambda: store.set_enabled(ann.id, False)]
    for ask in asked:
        with pytest.raises(AccountsUnavailable, match="was moved away or deleted"):
            ask()
    assert not path.exists()
    aside.rename(path)
    assert store.find(ANN) == ann
    path.rename(aside)
    path.touch()
    for ask in asked:
        with pytest.raises(AccountsUnavailable, match="was replaced"):
            ask()
    assert path.read_bytes() == b""
    store.close()


@pytest.fixture
def as_others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with account tables that this user can read but not write, even if the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = SqlAccounts(f"sqlite:///{folder / 'accounts.sqlite3'}")
        store.create_tables()
        store.close()
        (folder / "accounts.sqlite3").chmod(0o444)
        folder.chmod(0o555)
        former = os.geteuid()
        if former == 0:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(former)
            folder.chmod(0o700)


def test_read_only_database_error_names_the_needed_permission(as_others: Path) -> None:
    store = SqlAccounts(f"sqlite:///{as_others / 'accounts.sqlite3'}")
    with pytest.raises(AccountsUnavailable, match="must be writable by the user who runs this"):
        store.list()
    missing = SqlAccounts(f"sqlite:///{as_others / 'instance' / 'accounts.sqlite3'}")
    for act in (missing.list, missing.create_tables):
        with pytest.raises(AccountsUnavailable, match="must be writable by the user who runs this"):
            act()


def test_error_names_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "instance").write_text("")
    store = SqlAccounts(f"sqlite:///{tmp_path / 'instance' / 'accounts.sqlite3'}")
    for act in (store.list, store.create_tables):
        with pytest.raises(AccountsUnavailable, match=r"cannot be (created|written)"):
            act()
    (tmp_path / "instance").unlink()
    with pytest.raises(ConfigurationError, match="init-db"):
        store.list()
    store.create_tables()
    assert store.list() == []
    store.close()
