"""The timeout bounds each wait of a call to Redis, and each call has a known number of waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.state.redis import RedisState
from flask_genesys_auth.state.redis_client import RedisClient
from tests.certificates import make_certificate
from tests.servers import RedisServer, SentinelServers

from .slow_wire import SlowWire, slow_wire, until

SHORT, LONG = 1.0, 30.0
HANDSHAKE = 3
"""Answers that redis-py waits for on a new connection: to two CLIENT SETINFO, to SELECT; one more with a password."""
CALLS: dict[str, Callable[[RedisState], object]] = {
    "get": lambda store: store.get("key"),
    "get_many": lambda store: store.get_many(["key", "other"]),
    "add": lambda store: store.add("key", 1, 60, index=["term"]),
    "put": lambda store: store.put("key", 1, 60, index=["term"]),
    "replace": lambda store: store.replace("key", 1, 60),
    "take": lambda store: store.take("none"),
    "delete": lambda store: store.delete("none"),
    "find": lambda store: store.find("term"),
    "delete_found": lambda store: store.delete_found("none"),
}


@pytest.fixture(params=["tcp", "tls"])
def wire(request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path) -> Iterator[SlowWire]:
    redis.Redis.from_url(redis_server.url).flushall()
    certificate = make_certificate(tmp_path) if request.param == "tls" else None
    with slow_wire(redis_server.url, certificate) as made:
        yield made


def client_of(url: str, timeout: float, connections: int = 64) -> RedisClient:
    scripts = {"get": "return redis.call('GET', KEYS[1])", "set": "redis.call('SET', KEYS[1], ARGV[1])"}
    return RedisClient(url, timeout, scripts, purpose="the state", key="state_url", connections=connections)


def waits(wire: SlowWire, call: Callable[[], object]) -> int:
    """Return how many answers a call has waited for."""
    asked = wire.asked
    call()
    return wire.asked - asked


@pytest.mark.parametrize("name", CALLS)
def test_a_call_on_an_open_connection_waits_once(wire: SlowWire, name: str) -> None:
    with closing(RedisState(wire.url, "one", LONG)) as store:
        CALLS[name](store)
        assert waits(wire, lambda: CALLS[name](store)) == 1


def test_the_first_call_waits_for_handshake_and_answer(wire: SlowWire, redis_server: RedisServer) -> None:
    with closing(RedisState(wire.url, "one", LONG)) as store:
        store.get("key")
    with closing(RedisState(wire.url, "one", LONG)) as store:
        assert waits(wire, lambda: store.get("key")) == HANDSHAKE + 1
        # The error to a script that the server does not know closes its connection; it is loaded and run on a new one.
        redis.Redis.from_url(redis_server.url).script_flush()
        assert waits(wire, lambda: store.get("key")) == 1 + HANDSHAKE + 2
    redis.Redis.from_url(redis_server.url).script_flush()
    with closing(RedisState(wire.url, "one", LONG)) as store:
        assert waits(wire, lambda: store.get("key")) == HANDSHAKE + 1 + HANDSHAKE + 2


def test_a_call_ends_at_its_first_time_out(wire: SlowWire) -> None:
    with closing(RedisState(wire.url, "one", SHORT)) as store, closing(RedisState(wire.url, "one", LONG)) as patient:
        patient.put("key", "kept", 60)
        wire.before_answer = SHORT * 3
        asked = wire.asked
        with pytest.raises(StateUnavailable, match="did not answer"):
            store.get("key")
        until(lambda: wire.asked > asked)
        assert wire.asked == asked + 1
        assert patient.get("key") == "kept"


def test_a_server_that_accepts_and_never_answers(wire: SlowWire) -> None:
    wire.silent = True
    with closing(client_of(wire.url, SHORT)) as client, pytest.raises(StateUnavailable, match="did not answer"):
        client.run("get", ["key"], [])
    wire.silent = False
    with closing(client_of(wire.url, LONG)) as client:
        assert client.run("get", ["key"], []) is None


def test_a_server_that_does_not_read_times_out(wire: SlowWire) -> None:
    much = "x" * 20_000_000
    with closing(client_of(wire.url, SHORT)) as client, closing(client_of(wire.url, LONG)) as patient:
        patient.run("set", ["key"], ["little"])
        wire.silent = True
        with pytest.raises(StateUnavailable, match="did not answer"):
            client.run("set", ["key"], [much])
        wire.silent = False
        patient.run("set", ["key"], [much])
        assert len(patient.run("get", ["key"], [])) == len(much)


def test_a_call_waits_for_a_free_connection(redis_server: RedisServer) -> None:
    with slow_wire(redis_server.url) as wire, closing(client_of(wire.url, 2.0, connections=1)) as client:
        client.run("set", ["key"], ["x" * 200])
        answers: list[bytes] = []
        holder = threading.Thread(target=lambda: answers.append(client.run("get", ["key"], [])))
        asked = wire.asked
        # Each byte comes in time, all of them take longer than the second call waits.
        wire.before_byte = 0.02
        holder.start()
        until(lambda: wire.asked > asked)
        with pytest.raises(StateUnavailable, match="No connection available"):
            client.run("get", ["key"], [])
        assert wire.asked == asked + 1
        wire.before_byte = 0.0
        holder.join()
        assert answers == [b"x" * 200]
        assert client.run("get", ["key"], []) == b"x" * 200
        assert wire.accepted == 1


def test_connections_behind_sentinel_are_bounded(sentinel_servers: SentinelServers) -> None:
    with closing(client_of(sentinel_servers.url, SHORT, connections=1)) as client:
        held, leave = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            held.set()
            leave.wait(60)

        holder = threading.Thread(target=lambda: client.call(hold))
        holder.start()
        held.wait()
        with pytest.raises(StateUnavailable, match="No connection available"):
            client.run("get", ["key"], [])
        leave.set()
        holder.join()
    with closing(client_of(sentinel_servers.url, LONG, connections=1)) as client:
        client.run("set", ["key"], ["value"])
        assert client.run("get", ["key"], []) == b"value"
