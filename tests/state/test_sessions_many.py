"""Very many login sessions on every store: listed and revoked in batches, also after a failure half-way."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from flask_genesys_auth.chain.outcomes import LoginSession, Reason, Rejected
from flask_genesys_auth.config.settings import SessionSettings
from flask_genesys_auth.errors import RevokedInPart, StateUnavailable
from flask_genesys_auth.sessions import LoginSessions, storage_key
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.state.redis import RedisState
from flask_genesys_auth.state.sql import SqlState
from flask_genesys_auth.state.values import BATCH
from tests.servers import RedisServer

from .postgresql_backend import PostgresqlBackend, address
from .test_sessions import begin

ENDED = Rejected(Reason.SESSION_ENDED)
MANY = 2 * BATCH + 7
PATIENCE = 30.0


@pytest.fixture(params=["memory", "sqlite", "postgresql", "redis"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryState("one")
    elif request.param == "sqlite":
        with closing(SqlState(f"sqlite:///{tmp_path / 'state'}", "one", PATIENCE)) as store:
            yield store
    elif request.param == "postgresql":
        backend: PostgresqlBackend = request.getfixturevalue("postgresql_backend")
        yield backend.open("one")
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        redis.Redis.from_url(server.url).flushall()
        with closing(RedisState(server.url, "one", PATIENCE)) as kept:
            yield kept


@pytest.fixture
def sessions(state: Any) -> LoginSessions:
    return LoginSessions(state, SessionSettings())


def test_listing_and_count_are_complete_and_limit_truncates(sessions: LoginSessions) -> None:
    for number in range(MANY):
        begin(sessions, account_id=f"{number % 100:03}")
    begin(sessions, contact_center="globex", account_id="000")
    listed = sessions.all_of(contact_center="acme")
    assert len({one.handle for one in listed}) == len(listed) == sessions.count(contact_center="acme") == MANY
    keys = [(one.account_id, one.created) for one in listed]
    assert keys == sorted(keys)
    for limit in (0, 1, 25, MANY + 5):
        assert sessions.all_of(contact_center="acme", limit=limit) == listed[:limit]
    assert sessions.count(account_id="000", contact_center="acme") == len([one for one in keys if one[0] == "000"])
    assert sessions.count(contact_center="nowhere") == 0


def test_sessions_used_during_a_revocation_end_too(state: Any, sessions: LoginSessions) -> None:
    ids = [begin(sessions) for _ in range(MANY)]
    other = begin(sessions, contact_center="globex")
    touching = LoginSessions(state, SessionSettings(), touch_interval=0.0)  # each look is written down
    stop = threading.Event()

    def use(own: list[str]) -> None:
        while not stop.is_set():
            for session_id in own:
                touching.resume(session_id)

    users = [threading.Thread(target=use, args=(ids[place::40],)) for place in range(2)]
    for user in users:
        user.start()
    assert sessions.revoke(contact_center="acme") == MANY
    stop.set()
    for user in users:
        user.join()
    assert {sessions.resume(session_id) == ENDED for session_id in ids} == {True}
    assert sessions.all_of(contact_center="acme") == []
    assert isinstance(sessions.resume(other), LoginSession)


def test_two_who_end_the_same_count_each_once(sessions: LoginSessions) -> None:
    for _ in range(MANY):
        begin(sessions)
    counts: list[int] = []
    both = [threading.Thread(target=lambda: counts.append(sessions.revoke(contact_center="acme"))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sum(counts) == MANY


def test_revocation_after_a_partial_failure_ends_the_rest(
    state: Any, sessions: LoginSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [begin(sessions) for _ in range(MANY)]
    delete_found, calls = state.delete_found, []

    def failing(term: str) -> int:
        calls.append(term)
        if len(calls) > 1:
            raise StateUnavailable("it does not answer", retry_after=7)
        return int(delete_found(term))

    monkeypatch.setattr(type(state), "delete_found", lambda _, term: failing(term))
    with pytest.raises(RevokedInPart, match=f"it does not answer; .* ended before that: {BATCH}; revoke again") as half:
        sessions.revoke(contact_center="acme")
    assert (half.value.ended, half.value.retry_after) == (BATCH, 7)
    living = [session_id for session_id in ids if sessions.resume(session_id) != ENDED]
    assert len(living) == MANY - BATCH
    # Where none has ended it is the state's own error.
    with pytest.raises(StateUnavailable) as none:
        sessions.revoke(contact_center="acme")
    assert type(none.value) is StateUnavailable
    monkeypatch.undo()
    assert sessions.revoke(contact_center="acme") == MANY - BATCH
    assert {sessions.resume(session_id) == ENDED for session_id in ids} == {True}


def test_duplicates_from_the_store_do_not_shorten_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    state = MemoryState("one")
    sessions = LoginSessions(state, SessionSettings())
    for number in range(10):
        begin(sessions, account_id=f"{number}")
    listed = sessions.all_of(contact_center="acme")
    each = state.find_each
    monkeypatch.setattr(state, "find_each", lambda term: [*each(term), *each(term)])
    for limit in (0, 1, 7, 10, 11):
        assert sessions.all_of(contact_center="acme", limit=limit) == listed[:limit]


@pytest.mark.parametrize("state", ["sqlite", "postgresql", "redis"], indirect=True)
def test_ending_takes_no_memory_that_grows_with_them(state: Any, sessions: LoginSessions) -> None:
    peaks = []
    for many in (BATCH, 4 * BATCH):
        for _ in range(many):
            begin(sessions)
        tracemalloc.start()
        assert sessions.revoke(contact_center="acme") == many
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0] + 50_000


def test_locked_row_delays_its_batch_until_next_revocation(
    postgresql_backend: PostgresqlBackend,
) -> None:
    sessions = LoginSessions(postgresql_backend.open("one"), SessionSettings())
    ids = [begin(sessions) for _ in range(MANY)]
    held = sorted(map(storage_key, ids))[BATCH + 5]
    hasty = SqlState(postgresql_backend.url, "one", 3.0)
    with closing(hasty), psycopg.connect(address(postgresql_backend.url)) as other:
        other.execute("SELECT * FROM genesys_auth_state WHERE key = %s FOR UPDATE", [held])
        with pytest.raises(RevokedInPart) as half:
            LoginSessions(hasty, SessionSettings()).revoke(contact_center="acme")
    # All of a batch, or nothing of it.
    assert half.value.ended == BATCH
    left = sessions.count(contact_center="acme")
    # The server may get the lock just after the client has given up.
    assert left in {MANY - BATCH, MANY - 2 * BATCH}
    assert sessions.revoke(contact_center="acme") == left
    assert {sessions.resume(session_id) == ENDED for session_id in ids} == {True}


def test_revocation_after_an_unanswered_batch_ends_the_rest(
    own_redis_server: RedisServer,
) -> None:
    url = own_redis_server.url
    with closing(RedisState(url, "one", PATIENCE)) as state, closing(RedisState(url, "one", 1.0)) as hasty:
        sessions = LoginSessions(state, SessionSettings())
        ids = [begin(sessions) for _ in range(MANY)]
        assert state.delete_found("nobody") == 0  # so that the server knows the script
        own_redis_server.hang()
        with pytest.raises(StateUnavailable):
            LoginSessions(hasty, SessionSettings()).revoke(contact_center="acme")
        own_redis_server.go_on()
        assert sessions.revoke(contact_center="acme") in {MANY, MANY - BATCH}
        assert {sessions.resume(session_id) == ENDED for session_id in ids} == {True}
        assert sessions.count(contact_center="acme") == 0
