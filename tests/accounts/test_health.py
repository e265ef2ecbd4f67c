"""Health checks of accounts and passwords: each finding beside the healthy case."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from flask_genesys_auth.accounts.passwords import PasswordHasher, available_memory, memory_check, password_checks
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.config.settings import PasswordSettings
from tests.servers import free_port


def statuses(store: SqlAccounts) -> dict[str, str]:
    found = list(store.checks(slow=60.0))  # a busy machine is not a finding
    assert all(bool(check.advice) == (check.status != "ok") for check in found)
    return {check.name: check.status for check in found}


def test_accounts_in_sqlite(sqlite_store: SqlAccounts, sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    assert statuses(sqlite_store) == {"accounts.tables": "ok", "accounts.file": "ok"}
    path.chmod(0o644)
    assert statuses(sqlite_store) == {"accounts.tables": "ok", "accounts.file": "failure"}


def test_missing_tables_failure_names_the_command(tmp_path: Path) -> None:
    store = SqlAccounts(f"sqlite:///{tmp_path / 'accounts.sqlite3'}")
    (check,) = store.checks()
    assert (check.status, "init-db" in check.finding) == ("failure", True)
    assert not (tmp_path / "accounts.sqlite3").exists()


def test_accounts_in_postgresql_up_and_down(postgresql: str) -> None:
    store = SqlAccounts(postgresql, timeout=30)
    store.create_tables()
    assert statuses(store) == {"accounts.tables": "ok"}
    store.close()
    away = SqlAccounts(f"postgresql+psycopg://ann:s3cr3t-word@127.0.0.1:{free_port()}/db", timeout=30)
    (check,) = away.checks()
    assert (check.status, "s3cr3t-word" in check.finding) == ("failure", False)


def test_unreadable_tables_are_a_failure(postgresql: str) -> None:
    owner = SqlAccounts(postgresql, timeout=30)
    owner.create_tables()
    address = make_url(postgresql)
    administration = create_engine(address, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with administration.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE outsider LOGIN")
    other = SqlAccounts(address.set(username="outsider").render_as_string(hide_password=False), timeout=30)
    try:
        (check,) = other.checks()
        assert (check.status, "permission denied" in check.finding) == ("failure", True)
        with administration.connect() as connection:
            connection.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO outsider")
        assert statuses(other) == {"accounts.tables": "ok"}
    finally:
        other.close()
        owner.close()
        with administration.connect() as connection:
            connection.exec_driver_sql("DROP OWNED BY outsider")
            connection.exec_driver_sql("DROP ROLE outsider")


def test_accounts_are_counted_by_contact_center(sqlite_store: SqlAccounts) -> None:
    assert sqlite_store.count() == {}
    for center, name in (("acme", "ann"), ("acme", "bob"), ("globex", "ann")):
        sqlite_store.add(center, name)
    assert sqlite_store.count() == {"acme": 2, "globex": 1}


@pytest.mark.parametrize(
    ("memory", "iterations", "status"),
    [(19456, 2, "ok"), (7168, 5, "ok"), (47104, 1, "ok"), (19456, 1, "warning"), (7167, 5, "warning")],
)
def test_password_cost_is_compared_with_owasp(memory: int, iterations: int, status: str) -> None:
    settings = PasswordSettings(memory_kib=memory, iterations=iterations)
    cost, room = password_checks(PasswordHasher(settings), settings)
    assert (cost.status, bool(cost.advice)) == (status, status != "ok")
    assert room.status == "ok"


@pytest.mark.parametrize(
    ("mebibytes", "status", "words"),
    [(None, "ok", "use 76 MiB"), (1024, "ok", "of 1024 MiB"), (256, "warning", "of 256 MiB")],
)
def test_concurrent_hashes_are_compared_with_memory(mebibytes: int | None, status: str, words: str) -> None:
    room = memory_check(PasswordSettings(), None if mebibytes is None else mebibytes << 20)
    assert (room.status, words in room.finding) == (status, True)


def test_lower_container_limit_counts(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    machine = available_memory(limit)
    assert machine is not None
    limit.write_text("1048576\n")
    assert available_memory(limit) == 1048576
    limit.write_text("max\n")
    assert available_memory(limit) == machine
