"""One deadline for whatever a call to Redis takes: each wait of it may be short, and their sum is bounded."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.state import redis_client
from flask_genesys_auth.state.redis import RedisState
from flask_genesys_auth.state.redis_client import RedisClient
from tests.certificates import make_certificate
from tests.servers import RedisServer

from .slow_wire import SlowWire, slow_wire

SHORT, LONG = 0.5, 30.0
LATE = SHORT + 1.0
"""Seconds after which a slow machine has raised, too; each of the sums that are tried here is longer."""


@pytest.fixture(params=["tcp", "tls"])
def wire(request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path) -> Iterator[SlowWire]:
    redis.Redis.from_url(redis_server.url).flushall()
    certificate = make_certificate(tmp_path) if request.param == "tls" else None
    with slow_wire(redis_server.url, certificate) as made:
        yield made


def client_of(url: str, timeout: float, script: str = "return 1") -> RedisClient:
    return RedisClient(url, timeout, {"script": script}, purpose="the state", key="state_url")


def at_leisure() -> float:
    """The deadline of what is not tried, but has to be there first, however slow the machine."""
    return time.monotonic() + LONG


def seconds_until_refused(call: Callable[[], Any]) -> float:
    began = time.monotonic()
    with pytest.raises(StateUnavailable, match="did not answer"):
        call()
    return time.monotonic() - began


def test_who_accepts_and_never_answers(wire: SlowWire) -> None:
    wire.silent = True
    with closing(client_of(wire.url, SHORT)) as client:
        assert SHORT * 0.9 <= seconds_until_refused(lambda: client.ask("GET", "key")) < LATE
    wire.silent = False
    with closing(client_of(wire.url, LONG)) as client:
        assert client.ask("GET", "key") is None


def test_a_server_that_answers_a_handshake_slowly(wire: SlowWire) -> None:
    # Its own name and version, the database: each of these answers is in time.
    wire.before_answer = SHORT * 0.8
    with closing(client_of(wire.url, SHORT)) as client:
        assert seconds_until_refused(lambda: client.ask("GET", "key")) < LATE
    with closing(client_of(wire.url, LONG)) as client:
        assert client.ask("GET", "key") is None


def test_an_answer_drop_by_drop(wire: SlowWire) -> None:
    for timeout in (SHORT, LONG):
        wire.before_byte = 0.0
        with closing(client_of(wire.url, timeout)) as client:
            client.ask("SET", "key", "x" * 60, deadline=at_leisure())
            wire.before_byte = SHORT / 10
            if timeout == SHORT:
                assert seconds_until_refused(lambda: client.ask("GET", "key")) < LATE
                assert not client._idle
            else:
                assert client.ask("GET", "key") == b"x" * 60


def test_a_script_that_the_server_does_not_know_has_the_same_deadline(wire: SlowWire) -> None:
    for number, timeout in enumerate((SHORT, LONG)):
        wire.before_answer = 0.0
        with closing(client_of(wire.url, timeout, f"return {number}")) as client:
            client.ask("PING", deadline=at_leisure())
            wire.before_answer = SHORT * 0.8
            if timeout == SHORT:
                assert seconds_until_refused(lambda: client.run("script", [], [])) < LATE
            else:
                assert client.run("script", [], []) == number


def test_a_store_that_looks_at_the_version_first_has_the_same_deadline(wire: SlowWire) -> None:
    with closing(RedisState(wire.url, "one", LONG)) as store:
        store.put("key", "kept", 60)
    wire.before_answer = SHORT * 0.8
    with closing(RedisState(wire.url, "one", SHORT)) as hasty:
        assert seconds_until_refused(lambda: hasty.get("key")) < LATE
    with closing(RedisState(wire.url, "one", LONG)) as patient:
        assert patient.get("key") == "kept"


def test_what_the_server_does_not_take(wire: SlowWire) -> None:
    much = "x" * 20_000_000
    for timeout in (SHORT, LONG):
        wire.silent = False
        with closing(client_of(wire.url, timeout)) as client:
            client.ask("PING", deadline=at_leisure())
            if timeout == SHORT:
                wire.silent = True
                assert seconds_until_refused(lambda: client.ask("SET", "key", much)) < LATE
            else:
                client.ask("SET", "key", much)
                assert len(client.ask("GET", "key")) == len(much)


def test_several_addresses_of_one_name_that_do_not_answer_share_the_deadline(
    monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    deaf, port = [], int(redis_server.url.rpartition(":")[2].partition("/")[0])
    held: list[socket.socket] = []
    for _ in range(6):
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        held.append(listener)
        deaf.append((socket.AF_INET, socket.SOCK_STREAM, 0, "", listener.getsockname()))
        for _ in range(4):
            # What fills its queue, so that the next one is not even refused.
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
            held.append(waiting)
    good = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
    addresses = [*deaf]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: addresses)
    client = client_of(f"redis://some.example:{port}/3", SHORT)
    assert SHORT * 0.9 <= seconds_until_refused(lambda: client.ask("PING")) < LATE
    addresses[:] = [good]
    assert client.ask("PING", deadline=at_leisure()) == b"PONG"
    client.close()
    for one in held:
        one.close()


def test_who_waits_for_a_free_connection_has_what_is_left(wire: SlowWire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_client, "CONNECTIONS", 1)
    with closing(client_of(wire.url, SHORT)) as client:
        client.ask("PING", deadline=at_leisure())
        wire.silent = True
        deadline = client.deadline() - SHORT / 2
        assert client._places.acquire()
        began = time.monotonic()
        with pytest.raises(StateUnavailable, match="all 1 connections"):
            client.ask("PING", deadline=deadline)
        assert time.monotonic() - began < SHORT
        client._places.release()
        assert seconds_until_refused(lambda: client.ask("PING")) < LATE


class Noting:
    """A socket that notes which time-outs it is told."""

    def __init__(self, made: Any, told: list[float]) -> None:
        self._made, self._told = made, told

    def settimeout(self, seconds: float) -> None:
        self._told.append(seconds)
        self._made.settimeout(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


def test_a_kept_connection_is_told_one_time_out_for_a_call_at_most(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(client_of(redis_server.url, LONG)) as client:
        client.ask("SET", "key", 1)
        (connection,) = client._idle
        told: list[float] = []
        wire = connection._sock
        assert isinstance(wire, redis_client._TimedSocket)
        monkeypatch.setattr(wire, "_made", Noting(wire._made, told))
        assert client.ask("GET", "key") == b"1"
        assert client._idle[0] is connection
        assert len(told) <= 1
