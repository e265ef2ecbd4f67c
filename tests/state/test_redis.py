"""RedisState: the contract on real servers, several processes, and a server that is hung or stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis
from flask import Flask

from flask_genesys_auth import GenesysAuth, current_user
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.errors import ConfigurationError, StateUnavailable
from flask_genesys_auth.limits.shared import SharedLedger
from flask_genesys_auth.state.redis import RedisState
from flask_genesys_auth.state.values import BATCH
from flask_genesys_auth.testing import AuthClient
from flask_genesys_auth.web.runtime import runtime
from tests.forking import FORKS, holds_in_child
from tests.servers import RedisServer, SentinelServers

from . import racers as racers_module
from .contract import Clock, StateContract
from .slow_wire import SlowWire, slow_wire, until

PATIENCE = 30.0
STRAY_VALUE = b'9999999999.0\n"others"\nothers'


class RedisBackend:
    """Stores of one server, whose data are this test's alone.

    :param url: what the stores are given.
    :param server: the same server's address, for redis-py.
    """

    def __init__(self, url: str, server: str) -> None:
        self.url, self.server = url, server
        self.clock = Clock()
        self._opened: list[RedisState] = []
        redis.Redis.from_url(server).flushall()

    def open(self, namespace: str) -> RedisState:
        self._opened.append(RedisState(self.url, namespace, PATIENCE, clock=self.clock))
        return self._opened[-1]

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def race(self, operation: str, *, racers: int, inherit: bool = False) -> list[Any]:
        order = {
            "store": "flask_genesys_auth.state.redis:RedisState",
            "arguments": [self.url, "one", PATIENCE],
            "operation": operation,
            "racers": racers,
            "inherit": inherit,
        }
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", racers_module.__name__, json.dumps(order)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=Path(__file__).parents[2],
        )
        assert (done.returncode, done.stderr) == (0, "")
        return list(json.loads(done.stdout))

    def close(self) -> None:
        for store in self._opened:
            store.close()

    def keys(self) -> set[str]:
        return set(redis.Redis.from_url(self.server, decode_responses=True).scan_iter())


@pytest.fixture
def wire(redis_server: RedisServer) -> Iterator[SlowWire]:
    redis.Redis.from_url(redis_server.url).flushall()
    with slow_wire(redis_server.url) as made:
        yield made


@pytest.fixture
def backend(redis_server: RedisServer) -> Iterator[RedisBackend]:
    made = RedisBackend(redis_server.url, redis_server.url)
    yield made
    made.close()


class TestRedisState(StateContract):
    pass


class TestBySocket(StateContract):
    @pytest.fixture
    def backend(self, redis_server: RedisServer) -> Iterator[RedisBackend]:
        made = RedisBackend(redis_server.socket_url, redis_server.url)
        yield made
        made.close()


class TestBySentinel(StateContract):
    @pytest.fixture
    def backend(self, sentinel_servers: SentinelServers) -> Iterator[RedisBackend]:
        made = RedisBackend(sentinel_servers.url, sentinel_servers.master.url)
        yield made
        made.close()


def test_inherited_stores_race_as_well_as_new_ones(backend: RedisBackend) -> None:
    backend.open("one").put("contested", "prize", 600)
    results = backend.race("take", racers=20, inherit=True)
    assert sorted(result for _, result in results if result is not None) == ["prize"]


def test_nothing_is_left_when_all_has_gone(backend: RedisBackend) -> None:
    store = backend.open("one")
    for number in range(20):
        store.put(f"key-{number}", number, 60, index=["a", f"b-{number}"])
    assert len(backend.keys()) > 40
    for number in range(20):
        assert store.delete(f"key-{number}")
    assert backend.keys() == set()


def test_redis_deletes_what_has_expired_by_itself(backend: RedisBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 0.05, index=["term"])
    deadline = time.monotonic() + 10
    while backend.keys() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert backend.keys() == set()


def test_expired_keys_do_not_stop_a_deletion(backend: RedisBackend) -> None:
    store, server = backend.open("one"), redis.Redis.from_url(backend.url)
    for number in range(BATCH + 5):
        store.put(f"key-{number}", 1, 60, index=["term"])
        # As where a server's clock is ahead of ours.
        server.delete(f"genesys-auth-v2:3:one:k:key-{number}", f"genesys-auth-v2:3:one:t:key-{number}")
    store.put("lives", 1, 100, index=["term"])
    assert [store.delete_found("term") for _ in range(2)] == [1, 0]
    assert backend.keys() == set()


def test_data_of_another_version_are_not_read(backend: RedisBackend) -> None:
    store, server = backend.open("one"), redis.Redis.from_url(backend.url)
    store.put("key", 1, 60)
    (key,) = backend.keys()
    server.rename(key, key.replace("-v2:", "-v1:"))
    assert store.get("key") is None
    assert store.add("key", 2, 60)
    server.rename(key.replace("-v2:", "-v1:"), key)
    assert store.get("key") == 1


@pytest.mark.parametrize("fork", ["python", "libc"])
def test_a_forked_child_has_connections_of_its_own(wire: SlowWire, fork: str) -> None:
    with closing(RedisState(wire.url, "one", PATIENCE)) as store:
        store.put("key", 1, 60)
        assert wire.accepted == 1
        assert holds_in_child(lambda: store.get("key") == 1 and store.add("child", 2, 60), fork=fork)
        assert wire.accepted == 2
        assert store.get("child") == 2
        assert wire.accepted == 2


@pytest.mark.parametrize("fork", ["python", "libc"])
def test_parent_and_children_read_their_own_values(backend: RedisBackend, fork: str) -> None:
    store = backend.open("one")
    for number in range(5):
        store.put(f"key-{number}", f"key-{number}", 600)

    def reads(number: int) -> bool:
        return [store.get(f"key-{number}") for _ in range(200)] == [f"key-{number}"] * 200

    children = [FORKS[fork]() or reads_and_exits(reads, number) for number in range(1, 5)]
    assert reads(0)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert reads(0)


def reads_and_exits(reads: Callable[[int], bool], number: int) -> NoReturn:
    try:
        os._exit(0 if reads(number) else 1)
    finally:
        os._exit(2)


def test_nothing_is_opened_before_the_first_use(wire: SlowWire, tmp_path: Path) -> None:
    store = RedisState(wire.url, "one", PATIENCE)
    app = Flask("node", instance_path=str(tmp_path))
    app.secret_key = "k"
    app.config["GENESYS_AUTH"] = {"state_url": wire.url, "contact_centers": {"acme": {"web_services": {}}}}
    GenesysAuth(app)
    assert wire.accepted == 0
    assert store.get("key") is None
    assert wire.accepted == 1
    store.close()


def test_neither_repr_nor_error_shows_the_password() -> None:
    store = RedisState("redis://ann:s3cr3t-word@127.0.0.1:1/2", "one", 0.2)
    assert repr(store) == "RedisState('redis://127.0.0.1:1/2', 'one')"
    with pytest.raises(StateUnavailable) as caught:
        store.get("key")
    assert "s3cr3t-word" not in str(caught.value)
    assert "redis://127.0.0.1:1/2" in str(caught.value)


@pytest.mark.parametrize("url", ["redis://", "http://localhost", "redis://localhost:port", "redis://[::1"])
def test_invalid_redis_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="state_url"):
        RedisState(url, "one", 1.0)


def test_a_wrong_password_is_unavailable_not_a_crash(backend: RedisBackend) -> None:
    store = RedisState(backend.url.replace("redis://", "redis://:wrong@"), "one", 5.0)
    with pytest.raises(StateUnavailable):
        store.get("key")


def test_a_hung_server_times_out_and_recovers(own_redis_server: RedisServer) -> None:
    store = RedisState(own_redis_server.url, "one", 2.0)
    assert store.take("key") is None  # so that the server knows the script
    store.put("key", 1, 60)
    os.kill(own_redis_server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(StateUnavailable):
            store.take("key")
        assert time.monotonic() - began < 20
    finally:
        os.kill(own_redis_server.pid, signal.SIGCONT)
    # The script of the call that timed out has run: the key is gone and is not taken twice.
    with suppress(StateUnavailable):
        assert store.take("key") is None
    assert store.add("key", 2, 60)
    store.close()


def test_a_server_that_comes_back_is_used_again(own_redis_server: RedisServer) -> None:
    store = RedisState(own_redis_server.url, "one", 2.0)
    store.put("key", 1, 60)
    own_redis_server.stop()
    for _ in range(2):
        with pytest.raises(StateUnavailable, match="did not answer"):
            store.get("key")
    own_redis_server.start()
    assert store.get("key") is None  # it keeps nothing in these tests
    assert store.add("key", 1, 60)
    store.close()


def test_a_connection_closed_while_idle_fails_no_call(own_redis_server: RedisServer) -> None:
    store = RedisState(own_redis_server.url, "one", PATIENCE)
    store.put("key", 1, 60)
    assert store.get("key") == 1
    own_redis_server.stop()
    own_redis_server.start()
    assert store.get("key") is None
    assert store.add("key", 2, 60)
    store.close()


STRAYS = {
    "value": b"$%d\r\n%s\r\n" % (len(STRAY_VALUE), STRAY_VALUE),
    "nothing": b"$-1\r\n",
    "number": b":1\r\n",
    "names": b"*1\r\n$6\r\nothers\r\n",
    "another call": b"*2\r\n$16\r\n0123456789abcdef\r\n:1\r\n",
    "another call's value": b"*2\r\n$16\r\n0123456789abcdef\r\n*1\r\n$%d\r\n%s\r\n" % (len(STRAY_VALUE), STRAY_VALUE),
    "error": b"-ERR of another call\r\n",
}
CALLS: dict[str, Callable[[RedisState], object]] = {
    "get": lambda store: store.get("mine"),
    "get_many": lambda store: store.get_many(["mine"]),
    "add": lambda store: store.add("mine", "new", 60),
    "put": lambda store: store.put("mine", "mine", 60),
    "replace": lambda store: store.replace("mine", "mine", 60),
    "take": lambda store: store.take("none"),
    "delete": lambda store: store.delete("none"),
    "find": lambda store: store.find("term"),
    "find_each": lambda store: list(store.find_each("term")),
    "delete_found": lambda store: store.delete_found("none"),
    "purge": lambda store: store.purge(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("stray", STRAYS)
def test_a_late_answer_to_another_call_is_refused(wire: SlowWire, call: str, stray: str) -> None:
    with closing(RedisState(wire.url, "one", PATIENCE)) as store:
        store.put("mine", "mine", 60)
        CALLS[call](store)
        accepted = wire.accepted
        CALLS[call](store)
        assert wire.accepted == accepted, "the same connection, if no answer is stray"
        wire.late = STRAYS[stray]
        with pytest.raises(StateUnavailable, match=r"another call"):
            CALLS[call](store)
        assert store.get("mine") == "mine"
        assert wire.accepted > accepted, "the connection with the stray answer is closed"


def test_a_late_error_does_not_spoil_the_script(wire: SlowWire) -> None:
    with closing(RedisState(wire.url, "one", PATIENCE)) as store:
        store.put("mine", "mine", 60)
        assert store.get("mine") == "mine"
        wire.late = b"-NOSCRIPT of another call\r\n"
        for _ in range(3):
            assert store.get("mine") == "mine"


def test_a_stray_answer_does_not_replace_a_script(wire: SlowWire, redis_server: RedisServer) -> None:
    with closing(RedisState(wire.url, "one", PATIENCE)) as store:
        store.put("mine", "mine", 60)
        assert store.get("mine") == "mine"
        redis.Redis.from_url(redis_server.url).script_flush()
        wire.on_loading = b"$40\r\n%s\r\n" % (b"0" * 40)
        for _ in range(3):
            assert store.get("mine") == "mine"
        assert not wire.on_loading


def test_an_unread_answer_is_refused(wire: SlowWire) -> None:
    with closing(RedisState(wire.url, "one", PATIENCE)) as store:
        store.put("mine", "mine", 60)
        assert store.get("mine") == "mine"
        accepted = wire.accepted
        wire.stray = STRAYS["another call's value"]
        for _ in range(3):
            assert store.get("mine") == "mine"
        assert not wire.stray
        assert wire.accepted == accepted + 1


def test_a_value_of_another_key_is_refused(backend: RedisBackend) -> None:
    store, server = backend.open("one"), redis.Redis.from_url(backend.server)
    for key in ("ann", "bob"):
        store.put(key, key, 60)
    assert store.get_many(["ann", "bob"]) == ["ann", "bob"]
    server.copy("genesys-auth-v2:3:one:k:bob", "genesys-auth-v2:3:one:k:ann", replace=True)
    calls: list[Callable[[], object]] = [
        lambda: store.get("ann"),
        lambda: store.get_many(["bob", "ann"]),
        lambda: store.take("ann"),
    ]
    for call in calls:
        with pytest.raises(StateUnavailable, match="the value of another key"):
            call()
    server.set("genesys-auth-v2:3:one:k:eve", b"9999999999.0 \xff")
    with pytest.raises(StateUnavailable, match="the value of another key"):
        store.get("eve")
    assert store.get("bob") == "bob"


def test_flushed_scripts_are_loaded_again(backend: RedisBackend) -> None:
    store = backend.open("one")
    store.put("key", 1, 60)
    redis.Redis.from_url(backend.url).script_flush()
    assert store.take("key") == 1
    assert store.take("key") is None


def test_connections_are_no_more_than_concurrent_calls(wire: SlowWire) -> None:
    with closing(RedisState(wire.url, "one", PATIENCE)) as store:
        store.put("key", 1, 60)
        until(lambda: wire.clients == 1)
        for _ in range(20):
            store.put("key", 1, 60)
            assert store.get("key") == 1
        assert wire.clients == 1
        store.close()
        until(lambda: wire.clients == 0)
        assert store.get("key") == 1


def test_a_call_under_way_outlives_a_close(wire: SlowWire) -> None:
    with closing(RedisState(wire.url, "one", PATIENCE)) as store:
        store.put("key", 1, 60)
        found: list[Any] = []
        asked = wire.asked
        wire.silent = True
        caller = threading.Thread(target=lambda: found.append(store.get("key")))
        caller.start()
        until(lambda: wire.asked > asked)
        store.close()
        wire.silent = False
        caller.join()
        assert found == [1]
        until(lambda: wire.clients == 0)
        assert store.get("key") == 1


def test_a_store_may_be_made_before_its_server(own_redis_server: RedisServer) -> None:
    own_redis_server.stop()
    store = RedisState(own_redis_server.url, "one", 2.0)
    own_redis_server.start()
    assert store.add("key", 1, 60)
    store.close()


@pytest.fixture(params=["tcp", "socket", "sentinel"])
def state_url(request: pytest.FixtureRequest) -> str:
    if request.param == "sentinel":
        servers: SentinelServers = request.getfixturevalue("sentinel_servers")
        return servers.url
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url if request.param == "tcp" else server.socket_url


def test_an_application_keeps_its_login_sessions_there(state_url: str, tmp_path: Path) -> None:
    def node() -> Flask:
        app = Flask("node", instance_path=str(tmp_path))
        app.secret_key = "k"
        app.testing = True
        app.config["GENESYS_AUTH"] = {
            "state_url": state_url,
            "state_timeout": PATIENCE,
            "contact_centers": {"acme": {"web_services": {}}},
            "passwords": {"memory_kib": 8, "iterations": 1},
        }
        app.test_client_class = AuthClient
        GenesysAuth(app)
        app.add_url_rule("/", view_func=lambda: current_user.user_name)
        return app

    one, two = node(), node()
    store = runtime(one).accounts
    assert isinstance(store, SqlAccounts)
    store.create_tables()
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
    assert isinstance(runtime(one).throttle.ledger, SharedLedger)
    for app in (one, two):
        runtime(app).state.close()
