"""The checks of ``doctor`` for the state and the throttle's server: each fault beside a healthy server."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from flask_genesys_auth.checks import Check
from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.limits import LocalLedger
from flask_genesys_auth.limits.shared import SharedLedger
from flask_genesys_auth.state.health import round_trip_check
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.state.redis import RedisState
from flask_genesys_auth.state.redis_health import server_checks
from flask_genesys_auth.state.sql import SqlState
from tests.servers import RedisServer, free_port, own_postgresql, own_redis_server, postgresql, redis_server

from .postgresql_backend import run_sql

__all__ = ["own_postgresql", "own_redis_server", "postgresql", "redis_server"]

PATIENCE = 30.0
"""Seconds for a busy machine: a store that is that slow is not what these tests are about."""


def statuses(checks: Any) -> dict[str, str]:
    found: list[Check] = list(checks)
    assert all(bool(check.advice) == (check.status != "ok") for check in found)
    return {check.name: check.status for check in found}


def only(checks: Any, name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found  # type: ignore[no-any-return]  # of whatever was given


def test_memory_is_warned_of() -> None:
    assert statuses(MemoryState("portal").checks()) == {"state.memory": "warning"}


def test_the_check_of_sqlite_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    store = SqlState(f"sqlite:///{path}", "portal", PATIENCE)
    assert statuses(store.checks(slow=PATIENCE)) == {"state.file": "ok"}
    assert not path.exists()
    store.create_tables()
    assert statuses(store.checks(slow=PATIENCE)) == {"state.round_trip": "ok", "state.file": "ok"}
    path.chmod(0o644)
    assert statuses(store.checks(slow=PATIENCE)) == {"state.round_trip": "ok", "state.file": "failure"}
    store.close()


def test_an_unusable_sqlite_file_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    store = SqlState(f"sqlite:///{path}", "portal", PATIENCE)
    path.write_text("this is no database, but a text of some length" * 100)
    path.chmod(0o600)
    assert statuses(store.checks(slow=PATIENCE)) == {"state.round_trip": "failure", "state.file": "ok"}


def test_sqlite_file_of_another_version_is_a_failure(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.sqlite3'}"
    store, other = SqlState(url, "portal", PATIENCE), SqlState(url, "portal", PATIENCE)
    store.create_tables()
    with closing(sqlite3.connect(tmp_path / "state.sqlite3")) as connection:
        connection.execute("UPDATE genesys_auth_state_schema SET version = 99")
        connection.commit()
    check = round_trip_check(other)
    assert (check.status, "version 99" in check.finding) == ("failure", True)
    store.close()


class _Forgetful(MemoryState):
    def take(self, key: str) -> None:
        return None


class _Slow(MemoryState):
    def take(self, key: str) -> Any:
        time.sleep(0.3)
        return super().take(key)


class _Down(MemoryState):
    def get(self, key: str) -> Any:
        raise StateUnavailable("the state in crm did not answer")


def test_a_forgetful_slow_or_unavailable_store_is_reported() -> None:
    assert round_trip_check(MemoryState("portal"), slow=PATIENCE).status == "ok"
    assert round_trip_check(_Forgetful("portal")).status == "failure"
    assert round_trip_check(_Slow("portal")).status == "warning"
    down = round_trip_check(_Down("portal"))
    assert (down.status, down.finding) == ("failure", "the state in crm did not answer")


@pytest.fixture
def stored(own_redis_server: RedisServer) -> Iterator[RedisState]:
    store = RedisState(own_redis_server.url, "portal", PATIENCE)
    yield store
    store.close()


def test_redis_says_what_it_forgets_and_when(own_redis_server: RedisServer, stored: RedisState) -> None:
    with redis.Redis.from_url(own_redis_server.url) as control:
        control.config_set("appendonly", "yes")
        assert set(statuses(stored.checks(slow=PATIENCE)).values()) == {"ok"}
        assert re.match(r"(Redis|Valkey) \d+\.\d+", only(stored.checks(slow=PATIENCE), "state.server").finding)
        control.config_set("appendonly", "no")
        assert only(stored.checks(slow=PATIENCE), "state.persistence").status == "warning"
        control.config_set("save", "60 1000")
        assert only(stored.checks(slow=PATIENCE), "state.persistence").status == "ok"
        control.config_set("maxmemory-policy", "allkeys-lru")
        assert only(stored.checks(slow=PATIENCE), "state.maxmemory_policy").status == "warning"
        control.config_set("maxmemory", "100mb")
        assert only(stored.checks(slow=PATIENCE), "state.maxmemory_policy").status == "failure"


def test_redis_may_hide_its_configuration(own_redis_server: RedisServer) -> None:
    with redis.Redis.from_url(own_redis_server.url) as control:
        control.acl_setuser(
            "portal", enabled=True, passwords=["+wordofmine"], keys="*", categories=["+@all"], commands=["-config"]
        )
    store = RedisState(own_redis_server.url.replace("//", "//portal:wordofmine@"), "portal", PATIENCE)
    check = only(store.checks(slow=PATIENCE), "state.persistence")
    assert (check.status, "this user may not read" in check.finding) == ("ok", True)
    store.close()
    wrong = RedisState(own_redis_server.url.replace("//", "//portal:notmyword@"), "portal", PATIENCE)
    found = list(wrong.checks(slow=PATIENCE))
    assert [(check.name, check.status) for check in found] == [("state.server", "failure")]
    assert "notmyword" not in str(found)


def test_a_replica_takes_no_changes(own_redis_server: RedisServer, stored: RedisState) -> None:
    with redis.Redis.from_url(own_redis_server.url) as control:
        assert only(stored.checks(slow=PATIENCE), "state.role").status == "ok"
        control.replicaof("127.0.0.1", free_port())
        found = statuses(stored.checks(slow=PATIENCE))
        assert found["state.role"] == "failure"
        assert found["state.round_trip"] == "failure"


def test_a_redis_that_is_away_is_one_failure(own_redis_server: RedisServer, stored: RedisState) -> None:
    own_redis_server.stop()
    assert statuses(stored.checks(slow=PATIENCE)) == {"state.server": "failure"}


class _Told:
    """Stands for a server that cannot be had here: what it says is what it is told to say."""

    name = "redis://told:6379"
    fails_over = False

    def __init__(self, version: str, ahead: float) -> None:
        self._info = {"redis_version": version, "role": "master", "maxmemory_policy": "noeviction"}
        self._ahead = ahead

    def ping(self) -> None:
        """Answer."""

    def time(self) -> tuple[int, int]:
        return int(time.time() + self._ahead), 500_000

    def info(self) -> dict[str, str]:
        return self._info

    def call(self, command: Any) -> Any:
        return command(self)


@pytest.mark.parametrize(
    ("version", "ahead", "expected"),
    [
        ("7.2.4", 0.0, {"server": "ok", "clock": "ok"}),
        ("6.0.16", 0.0, {"server": "failure", "clock": "ok"}),
        ("7.2.4", -3600.0, {"server": "ok", "clock": "failure"}),
        ("7.2.4", 12.0, {"server": "ok", "clock": "warning"}),
    ],
)
def test_old_redis_and_wrong_clock_are_reported(version: str, ahead: float, expected: dict[str, str]) -> None:
    found = statuses(server_checks(_Told(version, ahead), "state", slow=PATIENCE))  # type: ignore[arg-type]  # its stand-in
    assert {name: found[f"state.{name}"] for name in expected} == expected


def test_the_throttle_says_where_it_counts(own_redis_server: RedisServer) -> None:
    assert statuses(LocalLedger().checks()) == {"throttle.storage": "ok"}
    shared = SharedLedger(own_redis_server.url, "portal", PATIENCE)
    assert set(statuses(shared.checks(slow=PATIENCE)).values()) == {"ok"}
    assert all(check.name.startswith("throttle.") for check in shared.checks(slow=PATIENCE))
    own_redis_server.stop()
    assert statuses(shared.checks(slow=PATIENCE)) == {"throttle.server": "failure"}
    shared.close()


class TestPostgresql:
    """One database for all, whose settings each test puts back."""

    @pytest.fixture
    def url(self, postgresql: str) -> Iterator[str]:
        store = SqlState(postgresql, "portal", PATIENCE)
        store.create_tables()
        store.close()
        run_sql(postgresql, "DROP ROLE IF EXISTS clerk")
        run_sql(postgresql, "CREATE ROLE clerk LOGIN")
        yield postgresql.replace("postgres@", "clerk@")
        run_sql(postgresql, "DROP OWNED BY clerk")
        run_sql(postgresql, "DROP ROLE clerk")

    def grant(self, postgresql: str, rights: str = "SELECT, INSERT, UPDATE, DELETE") -> None:
        run_sql(postgresql, f"GRANT {rights} ON genesys_auth_state, genesys_auth_state_index TO clerk")
        run_sql(postgresql, "GRANT SELECT ON genesys_auth_state_schema TO clerk")

    def look(self, url: str) -> dict[str, str]:
        store = SqlState(url, "portal", PATIENCE)
        try:
            return statuses(store.checks(slow=PATIENCE))
        finally:
            store.close()

    def test_all_is_well(self, postgresql: str, url: str) -> None:
        self.grant(postgresql)
        names = ("server", "clock", "rights", "synchronous_commit", "round_trip")
        assert self.look(url) == {f"state.{name}": "ok" for name in names}

    def test_a_right_that_is_missing_is_told(self, postgresql: str, url: str) -> None:
        self.grant(postgresql, "SELECT, INSERT, UPDATE")
        found = self.look(url)
        assert (found["state.rights"], found["state.round_trip"]) == ("failure", "failure")

    @pytest.mark.parametrize(
        ("setting", "name", "status"),
        [
            ("synchronous_commit = off", "synchronous_commit", "warning"),
            ("default_transaction_read_only = on", "rights", "failure"),
        ],
    )
    def test_settings_of_the_user_are_told(
        self, postgresql: str, url: str, setting: str, name: str, status: str
    ) -> None:
        self.grant(postgresql)
        run_sql(postgresql, f"ALTER ROLE clerk SET {setting}")
        assert self.look(url)[f"state.{name}"] == status

    def test_missing_tables_or_server_are_one_failure(self, postgresql: str) -> None:
        found = self.look(postgresql.rpartition("/")[0] + "/template1")
        assert found == {"state.server": "failure"}
        away = f"postgresql+psycopg://ann@127.0.0.1:{free_port()}/postgres"
        assert self.look(away) == {"state.server": "failure"}
