"""RedisState behind Sentinel: a fail-over under load, and the checks of ``doctor``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from flask_genesys_auth.checks import Check
from flask_genesys_auth.errors import ConfigurationError, StateUnavailable
from flask_genesys_auth.limits.shared import SharedLedger
from flask_genesys_auth.limits.throttle import Limit
from flask_genesys_auth.state.redis import RedisState
from tests.forking import holds_in_child
from tests.servers import RedisServer, SentinelServers, free_port

PATIENCE = 30.0


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[SentinelServers]:
    """Servers for a test that does the master harm."""
    servers = SentinelServers(tmp_path, sentinels=3, down_after=1.0)
    yield servers
    servers.stop()


class Load:
    """Threads that write and read, each its own keys, until they are stopped.

    A value names its key. What a fail-over has lost is not there; anything else is wrong.
    """

    def __init__(self, store: RedisState, threads: int) -> None:
        self._store = store
        self._stop = threading.Event()
        self.wrong: list[object] = []
        self.calls = self.unavailable = 0
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        round_ = 0
        while not self._stop.is_set():
            round_ += 1
            self._write_and_read(f"session-{number}", f"once-{number}-{round_}", f"account-{number}")

    def _write_and_read(self, key: str, once: str, term: str) -> None:
        self._try(lambda: self._store.put(key, key, 600, index=[term]), {None})
        self._try(lambda: self._store.get(key), {key, None})
        self._try(lambda: tuple(self._store.find(term)), {(key,), ()})
        self._try(lambda: self._store.add(once, once, 600), {True})
        self._try(lambda: self._store.take(once), {once, None})

    def _try(self, call: Callable[[], object], allowed: set[object]) -> None:
        self.calls += 1
        try:
            found = call()
        except StateUnavailable:
            self.unavailable += 1
            return
        if found not in allowed:
            self.wrong.append(found)


def test_a_fail_over_returns_no_wrong_answer(
    failing: SentinelServers, record_property: Callable[[str, object], None]
) -> None:
    # The first Sentinel of the address does not exist: the others are asked.
    url = failing.url.replace("://", f"://127.0.0.1:{free_port()},")
    with closing(RedisState(url, "one", 2.0)) as store, Load(store, threads=8) as load:
        store.put("before", "before", 600)
        while load.calls < 1000:
            time.sleep(0.01)
        assert load.unavailable == 0
        with redis.Redis.from_url(failing.master.url) as master:
            master.wait(1, 30_000)
        failing.master.stop()
        killed = time.monotonic()
        recovered = _seconds_until_written(store, killed)
        record_property("seconds_until_recovered", recovered)
        sys.stdout.write(f"recovered {recovered:.1f} s after the master was killed\n")
        calls = load.calls
        while load.calls < calls + 1000:
            time.sleep(0.01)
        assert store.get("before") == "before"
    assert load.wrong == []
    assert load.unavailable > 0
    with redis.Redis.from_url(failing.replica.url) as replica:
        assert replica.info("replication")["role"] == "master"


def _seconds_until_written(store: RedisState, since: float) -> float:
    deadline = since + 300
    while time.monotonic() < deadline:
        with suppress(StateUnavailable):
            store.put("after", "after", 600)
            assert store.get("after") == "after"
            return time.monotonic() - since
        time.sleep(0.05)
    raise AssertionError("it did not recover")


def test_a_demoted_primary_accepts_no_writes(failing: SentinelServers) -> None:
    with closing(RedisState(failing.url, "one", 2.0)) as store:
        store.put("key", "value", 600)
        with redis.Redis.from_url(failing.master.url) as master:
            master.wait(1, 30_000)
        address = urlsplit(failing.url.partition(",")[0])
        with redis.Redis(host=str(address.hostname), port=address.port or 0) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", failing.SERVICE)
        # The connection to the former master is closed; a later call finds the new one.
        _wait_for_role(failing.master, "slave")
        _seconds_until_written(store, time.monotonic())
        with redis.Redis.from_url(failing.replica.url) as replica:
            assert replica.info("replication")["role"] == "master"


def _wait_for_role(server: RedisServer, role: str) -> None:
    deadline = time.monotonic() + 300
    with redis.Redis.from_url(server.url) as connection:
        while time.monotonic() < deadline:
            with suppress(redis.ConnectionError):
                if connection.info("replication")["role"] == role:
                    return
            time.sleep(0.05)
    raise AssertionError(f"it did not become a {role}")


@pytest.mark.parametrize("fork", ["python", "libc"])
def test_a_forked_child_finds_the_master_by_itself(sentinel_servers: SentinelServers, fork: str) -> None:
    redis.Redis.from_url(sentinel_servers.master.url).flushall()
    limit = Limit("account", 4, 3600.0)
    with (
        closing(RedisState(sentinel_servers.url, "one", PATIENCE)) as store,
        closing(SharedLedger(sentinel_servers.url, "one", PATIENCE)) as ledger,
    ):
        store.put("key", 1, 60)
        assert ledger.look([(limit, b"ann")]) == [0.0]
        assert holds_in_child(lambda: store.get("key") == 1 and ledger.look([(limit, b"ann")]) == [0.0], fork=fork)
        assert store.get("key") == 1
        assert ledger.look([(limit, b"ann")]) == [0.0]
        assert not ledger.degraded


def test_a_service_unknown_to_sentinel_is_unavailable(sentinel_servers: SentinelServers) -> None:
    url = sentinel_servers.url.replace("//", "//ann:s3cret@").replace("/portal/", "/other/")
    with closing(RedisState(url, "one", PATIENCE)) as store:
        with pytest.raises(StateUnavailable, match="No master found for 'other'") as caught:
            store.get("key")
        assert "s3cret" not in str(caught.value) + repr(store)
    with pytest.raises(ConfigurationError, match=r"state_url: must be of the form") as refused:
        RedisState(url.replace("/other/0", ""), "one", PATIENCE)
    assert "s3cret" not in str(refused.value)


def failover(store: RedisState | SharedLedger) -> list[tuple[str, str]]:
    found: list[Check] = [check for check in store.checks() if check.name.endswith(".failover")]
    assert all(bool(check.advice) == (check.status != "ok") for check in found)
    assert all("min-replicas-to-write" in check.finding + check.advice for check in found)
    return [(check.name, check.status) for check in found]


def test_doctor_says_what_a_fail_over_can_lose(sentinel_servers: SentinelServers) -> None:
    with (
        redis.Redis.from_url(sentinel_servers.master.url) as master,
        closing(RedisState(sentinel_servers.url, "one", PATIENCE)) as by_sentinel,
        closing(RedisState(sentinel_servers.master.url, "one", PATIENCE)) as by_port,
        closing(SharedLedger(sentinel_servers.url, "one", PATIENCE)) as ledger,
    ):
        for store in (by_sentinel, by_port):
            assert failover(store) == [("state.failover", "warning")]
        assert failover(ledger) == [("throttle.failover", "warning")]
        master.config_set("min-replicas-to-write", 1)
        assert failover(by_sentinel) == [("state.failover", "ok")]
        master.config_set("min-replicas-to-write", 0)


def test_doctor_is_silent_without_a_replica(sentinel_servers: SentinelServers) -> None:
    with closing(RedisState(sentinel_servers.replica.url, "one", PATIENCE)) as store:
        assert failover(store) == []
