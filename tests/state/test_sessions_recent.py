"""``session.revocation_delay``: cached login sessions are valid for that time and no longer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from flask_genesys_auth.chain.outcomes import LoginSession, Reason, Rejected
from flask_genesys_auth.chain.protocols import Json
from flask_genesys_auth.config.settings import SessionSettings
from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.limits.cache import Cache
from flask_genesys_auth.sessions import LoginSessions
from flask_genesys_auth.state.memory import MemoryState

from ..reachable import reachable
from .contract import Clock
from .test_sessions import begin, living

ENDED = Rejected(Reason.SESSION_ENDED)
DELAY = 2.0


class CountingState(MemoryState):
    """A store that counts how often it is asked, and can be away."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("one", clock=clock)
        self.reads = self.writes = 0
        self.away = False
        self.meanwhile: Callable[[], object] = lambda: None

    def get(self, key: str) -> Json:
        self._asked()
        self.reads += 1
        value = super().get(key)
        self.meanwhile()
        return value

    def replace(self, key: str, value: Json, ttl: float) -> bool:
        self._asked()
        self.writes += 1
        return super().replace(key, value, ttl)

    def take(self, key: str) -> Json:
        self._asked()
        return super().take(key)

    def find(self, term: str) -> list[str]:
        self._asked()
        return super().find(term)

    def delete_found(self, term: str) -> int:
        self._asked()
        return super().delete_found(term)

    def put(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> None:
        self._asked()
        super().put(key, value, ttl, index=index)

    def _asked(self) -> None:
        if self.away:
            raise StateUnavailable("away")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> CountingState:
    return CountingState(clock)


def node(state: CountingState, clock: Clock, *, delay: float = DELAY, **settings: int) -> LoginSessions:
    """Return the sessions of another process on the same store."""
    return LoginSessions(
        state, SessionSettings(revocation_delay=delay, **settings), clock, recent=Cache(delay, clock=clock)
    )


@pytest.fixture
def sessions(state: CountingState, clock: Clock) -> LoginSessions:
    return node(state, clock)


def test_within_the_delay_the_store_is_not_asked(sessions: LoginSessions, state: CountingState, clock: Clock) -> None:
    session_id = begin(sessions)
    living(sessions, session_id)
    assert state.reads == 1
    for _ in range(19):
        clock.advance(0.1)
        living(sessions, session_id)
    assert (state.reads, state.writes) == (1, 0)
    clock.advance(0.2)
    living(sessions, session_id)
    assert state.reads == 2


def test_without_a_delay_every_resume_reads_state(state: CountingState, clock: Clock) -> None:
    sessions = node(state, clock, delay=0)
    session_id = begin(sessions)
    for _ in range(10):
        living(sessions, session_id)
    assert state.reads == 10


def test_session_continues_within_the_delay_during_outage(
    sessions: LoginSessions, state: CountingState, clock: Clock
) -> None:
    session_id, other = begin(sessions), begin(sessions)
    living(sessions, session_id)
    state.away = True
    clock.advance(1.9)
    living(sessions, session_id)
    with pytest.raises(StateUnavailable):
        sessions.resume(other)
    clock.advance(0.2)
    with pytest.raises(StateUnavailable):
        sessions.resume(session_id)
    state.away = False
    living(sessions, session_id)


def test_end_in_another_process_counts_after_delay(sessions: LoginSessions, state: CountingState, clock: Clock) -> None:
    other = node(state, clock)
    session_id = begin(other)
    living(sessions, session_id)
    assert other.end(session_id) is not None
    assert other.resume(session_id) == ENDED
    clock.advance(DELAY - 0.1)
    living(sessions, session_id)
    clock.advance(0.1)
    assert sessions.resume(session_id) == ENDED


def test_end_seen_by_this_process_counts_immediately(
    sessions: LoginSessions, state: CountingState, clock: Clock
) -> None:
    session_id = begin(sessions)
    living(sessions, session_id)
    node(state, clock).end(session_id)
    living(sessions, session_id)
    assert sessions.resume(session_id, touch=False) == ENDED
    assert sessions.resume(session_id) == ENDED


@pytest.mark.parametrize(
    "end",
    [
        lambda sessions, session_id: sessions.end(session_id),
        lambda sessions, _: sessions.revoke(account_id="7"),
        lambda sessions, _: sessions.revoke(contact_center="acme"),
        lambda sessions, _: sessions.revoke(account_id="7", contact_center="acme"),
        lambda sessions, _: sessions.end_saml("acme", "okta", "ann"),
        lambda sessions, _: sessions.end_saml("acme", "okta", "ann", ["_1"]),
    ],
)
def test_session_ended_here_is_forgotten_immediately(
    sessions: LoginSessions, state: CountingState, end: Callable[[LoginSessions, str], object]
) -> None:
    saml = {"provider": "okta", "name_id": "ann", "session_index": "_1"}
    session_id, other = begin(sessions, **saml), begin(sessions, contact_center="globex", account_id="8")
    living(sessions, session_id)
    living(sessions, other)
    assert end(sessions, session_id)
    assert sessions.resume(session_id) == ENDED
    living(sessions, other)


@pytest.mark.parametrize(
    "end",
    [
        lambda sessions, session_id: sessions.end(session_id),
        lambda sessions, _: sessions.revoke(account_id="7"),
        lambda sessions, _: sessions.end_saml("acme", "", "ann"),
    ],
)
def test_session_is_forgotten_when_ending_it_fails(
    sessions: LoginSessions, state: CountingState, end: Callable[[LoginSessions, str], object]
) -> None:
    session_id = begin(sessions, name_id="ann")
    living(sessions, session_id)
    state.away = True
    living(sessions, session_id)
    with pytest.raises(StateUnavailable):
        end(sessions, session_id)
    with pytest.raises(StateUnavailable):
        sessions.resume(session_id)


def test_session_ended_during_the_read_is_not_remembered(sessions: LoginSessions, state: CountingState) -> None:
    session_id, other = begin(sessions), begin(sessions)
    state.meanwhile = lambda: sessions.end(session_id)
    living(sessions, session_id)
    state.meanwhile = lambda: None
    assert sessions.resume(session_id) == ENDED
    living(sessions, other)


def test_no_end_of_its_own_is_passed(state: CountingState, clock: Clock) -> None:
    sessions = node(state, clock, delay=60, absolute_timeout=1000)
    session_id = begin(sessions, not_on_or_after=clock() + 10)
    clock.advance(9)
    living(sessions, session_id)
    clock.advance(1)
    assert sessions.resume(session_id) == ENDED


def test_idle_timeout_applies_during_an_outage(state: CountingState, clock: Clock) -> None:
    sessions = node(state, clock, delay=60, idle_timeout=10)
    session_id = begin(sessions)
    living(sessions, session_id)
    state.away = True
    clock.advance(0.9)
    living(sessions, session_id)
    clock.advance(20)
    with pytest.raises(StateUnavailable):
        sessions.resume(session_id)
    state.away = False
    assert sessions.resume(session_id) == ENDED


@pytest.mark.parametrize(("idle", "interval"), [(1800, 60), (100, 10), (5, 0.5)])
def test_remembered_session_is_touched_once_per_interval(
    state: CountingState, clock: Clock, idle: int, interval: float
) -> None:
    session_id = begin(node(state, clock, idle_timeout=idle))
    sessions = node(state, clock, idle_timeout=idle)
    steps = 100
    for _ in range(steps * 5):
        clock.advance(interval / 50)
        living(sessions, session_id)
        living(sessions, session_id)
    assert state.writes == pytest.approx(steps * 5 / 50, abs=1)
    assert living(sessions, session_id, touch=False).last_seen >= clock() - interval * 1.1


def test_failed_touch_is_retried(
    sessions: LoginSessions, state: CountingState, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = begin(sessions)

    def refuse(*_: Any) -> bool:
        raise StateUnavailable("read only")

    clock.advance(61)
    with monkeypatch.context() as patched:
        patched.setattr(state, "replace", refuse)
        living(sessions, session_id)
    assert state.writes == 0
    living(sessions, session_id)
    assert state.writes == 1
    living(sessions, session_id)
    assert (state.writes, state.reads) == (1, 2)


def test_session_ended_before_its_touch_is_ended(sessions: LoginSessions, state: CountingState, clock: Clock) -> None:
    session_id = begin(sessions)
    living(sessions, session_id)
    clock.advance(61)
    other = node(state, clock)
    state.meanwhile = lambda: other.end(session_id)
    assert sessions.resume(session_id) == ENDED
    state.meanwhile = lambda: None
    assert sessions.resume(session_id) == ENDED


def test_the_memory_does_not_know_the_id(state: CountingState, clock: Clock) -> None:
    recent: Cache[str, LoginSession] = Cache(DELAY, clock=clock)
    sessions = LoginSessions(state, SessionSettings(revocation_delay=DELAY), clock, recent=recent)
    session_id = begin(sessions)
    session = sessions.resume(session_id)
    held = reachable(recent)
    assert any(found is session for found in held)
    assert not [found for found in held if isinstance(found, str) and session_id in found]
