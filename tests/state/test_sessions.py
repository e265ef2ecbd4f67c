"""Login sessions on real stores: how they begin, continue and end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_genesys_auth.chain.outcomes import LoginSession, Reason, Rejected
from flask_genesys_auth.chain.walk import Sessions
from flask_genesys_auth.config.settings import SessionSettings
from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.sessions import LoginSessions, index_term, storage_key
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.state.sql import SqlState

from .contract import Clock

ENDED = Rejected(Reason.SESSION_ENDED)
Store = MemoryState | SqlState


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sql"])
def state(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryState("one", clock=clock)
        return
    with closing(SqlState(f"sqlite:///{tmp_path / 'state'}", "one", 5, clock=clock)) as store:
        yield store


@pytest.fixture
def sessions(state: Store, clock: Clock) -> LoginSessions:
    return LoginSessions(state, SessionSettings(), clock)


def begin(sessions: LoginSessions, **changes: Any) -> str:
    return sessions.start(**({"contact_center": "acme", "account_id": "7", "step": "saml"} | changes))


def living(sessions: LoginSessions, session_id: str, *, touch: bool = True) -> LoginSession:
    session = sessions.resume(session_id, touch=touch)
    assert isinstance(session, LoginSession)
    return session


def test_a_session_comes_back_as_it_began(sessions: LoginSessions, clock: Clock) -> None:
    reader: Sessions = sessions
    session_id = begin(sessions, provider="okta", name_id="ann@acme.example", session_index="_1")
    assert reader.resume(session_id) == LoginSession(
        contact_center="acme",
        account_id="7",
        step="saml",
        created=clock(),
        last_seen=clock(),
        expires=clock() + 28800,
        provider="okta",
        name_id="ann@acme.example",
        session_index="_1",
    )


def test_id_has_256_bits_and_is_not_stored(state: Store, clock: Clock, tmp_path: Path) -> None:
    sessions = LoginSessions(state, SessionSettings(), clock)
    ids = {begin(sessions) for _ in range(50)}
    assert len(ids) == 50
    assert {len(session_id) for session_id in ids} == {43}
    for session_id in ids:
        assert state.get(session_id) is None
        assert state.get("session:" + session_id) is None
        assert state.get(storage_key(session_id)) is not None
    for file in tmp_path.iterdir():
        assert not any(session_id.encode() in file.read_bytes() for session_id in ids)


@pytest.mark.parametrize("session_id", ["", "unknown", "x" * 100_000, "\ud800", "session:", "\0"])
def test_any_other_id_is_of_an_ended_session(sessions: LoginSessions, session_id: str) -> None:
    begin(sessions)
    assert sessions.resume(session_id) == ENDED
    assert sessions.end(session_id) is None


def test_the_stored_key_is_no_id(sessions: LoginSessions) -> None:
    session_id = begin(sessions)
    stored = storage_key(session_id)
    assert sessions.resume(stored) == ENDED
    assert sessions.resume(stored.removeprefix("session:")) == ENDED
    living(sessions, session_id)


def test_session_ends_at_the_absolute_timeout_despite_use(sessions: LoginSessions, clock: Clock) -> None:
    session_id = begin(sessions)
    for _ in range(479):
        clock.advance(60)
        living(sessions, session_id)
    clock.advance(59)
    living(sessions, session_id)
    clock.advance(1)
    assert sessions.resume(session_id) == ENDED


@pytest.mark.parametrize(("after", "ends"), [(600, 600), (1800, 1800), (90_000, 28_800)])
def test_it_ends_when_the_provider_said(sessions: LoginSessions, clock: Clock, after: float, ends: float) -> None:
    session_id = begin(sessions, not_on_or_after=clock() + after)
    lived = 0
    while lived + 60 < ends:
        clock.advance(60)
        lived += 60
        assert living(sessions, session_id).expires == pytest.approx(clock() - lived + ends)
    clock.advance(59)
    living(sessions, session_id)
    clock.advance(1)
    assert sessions.resume(session_id) == ENDED


@pytest.mark.parametrize("past", [0, 1, 1e9])
def test_session_past_not_on_or_after_is_ended(sessions: LoginSessions, clock: Clock, past: float) -> None:
    session_id = begin(sessions, not_on_or_after=clock() - past)
    assert sessions.resume(session_id) == ENDED
    assert sessions.end(session_id) is None


@pytest.mark.parametrize(("idle", "interval"), [(1800, 60), (100, 10), (5, 0.5)])
def test_idle_session_ends_within_timeout_plus_one_interval(
    state: Store, clock: Clock, idle: int, interval: float
) -> None:
    sessions = LoginSessions(state, SessionSettings(idle_timeout=idle), clock)
    session_id = begin(sessions)
    clock.advance(interval * 0.9)
    living(sessions, session_id)  # too soon after the last note: this use is not written down
    clock.advance(idle - 0.01)
    living(sessions, session_id, touch=False)
    clock.advance(interval * 0.1 + 0.02)
    assert sessions.resume(session_id) == ENDED


def test_use_prolongs_session_and_is_recorded_per_interval(clock: Clock) -> None:
    writes: list[Any] = []

    class Counting(MemoryState):
        def replace(self, key: str, value: Any, ttl: float) -> bool:
            writes.append(value["last_seen"])
            return super().replace(key, value, ttl)

    sessions = LoginSessions(Counting("one", clock=clock), SessionSettings(), clock)
    session_id = begin(sessions)
    began = clock()
    for _ in range(400):
        clock.advance(30)
        living(sessions, session_id)
        living(sessions, session_id)
    assert writes == [began + 60 * number for number in range(1, 201)]


def test_a_look_without_touch_does_not_prolong(sessions: LoginSessions, clock: Clock) -> None:
    session_id = begin(sessions)
    for _ in range(18):
        clock.advance(100)
        assert living(sessions, session_id, touch=False).last_seen < clock()
    clock.advance(61)
    assert sessions.resume(session_id) == ENDED


def test_ending_returns_the_session_and_counts_immediately(sessions: LoginSessions) -> None:
    session_id, other = begin(sessions), begin(sessions, account_id="8")
    session = sessions.end(session_id)
    assert session is not None
    assert session.account_id == "7"
    assert sessions.end(session_id) is None
    assert sessions.resume(session_id) == ENDED
    assert living(sessions, other).account_id == "8"


def test_one_that_has_expired_ends_as_none(sessions: LoginSessions, clock: Clock) -> None:
    session_id = begin(sessions, not_on_or_after=clock() + 10)
    clock.advance(10)
    assert sessions.end(session_id) is None


def test_session_ended_during_the_read_stays_ended(clock: Clock) -> None:
    class EndedBetween(MemoryState):
        def get(self, key: str) -> Any:
            value = super().get(key)
            self.delete(key)
            return value

    state = EndedBetween("one", clock=clock)
    sessions = LoginSessions(state, SessionSettings(), clock)
    session_id = begin(sessions)
    clock.advance(100)
    assert sessions.resume(session_id) == ENDED
    assert len(state) == 0


def test_revocation_ends_only_sessions_of_the_account(sessions: LoginSessions) -> None:
    mine = [begin(sessions), begin(sessions, step="web_services"), begin(sessions, contact_center="globex")]
    others = [begin(sessions, account_id="77"), begin(sessions, account_id="")]
    assert sessions.revoke(account_id="7") == 3
    assert [sessions.resume(session_id) for session_id in mine] == [ENDED] * 3
    assert all(isinstance(sessions.resume(session_id), LoginSession) for session_id in others)
    assert sessions.revoke(account_id="7") == 0


def test_revoking_a_contact_center(sessions: LoginSessions) -> None:
    acme = [begin(sessions, account_id=str(number)) for number in range(5)]
    globex = begin(sessions, contact_center="globex")
    assert sessions.revoke(contact_center="acme") == 5
    assert [sessions.resume(session_id) for session_id in acme] == [ENDED] * 5
    living(sessions, globex)


def test_revoking_an_account_of_one_contact_center(sessions: LoginSessions) -> None:
    wanted, elsewhere, other = (
        begin(sessions),
        begin(sessions, contact_center="globex"),
        begin(sessions, account_id="8"),
    )
    assert sessions.revoke(account_id="7", contact_center="acme") == 1
    assert sessions.resume(wanted) == ENDED
    living(sessions, elsewhere)
    living(sessions, other)


def test_revoking_without_saying_whom_is_an_error(sessions: LoginSessions) -> None:
    session_id = begin(sessions)
    with pytest.raises(ValueError, match="account_id"):
        sessions.revoke()
    living(sessions, session_id)


def test_names_do_not_run_into_each_other(sessions: LoginSessions) -> None:
    session_id = begin(sessions, account_id="ab", contact_center="c")
    assert sessions.revoke(account_id="a", contact_center="bc") == 0
    assert sessions.revoke(account_id="abc") == 0
    living(sessions, session_id)
    assert sessions.revoke(account_id="ab", contact_center="c") == 1


def test_a_touched_session_can_still_be_revoked(sessions: LoginSessions, clock: Clock) -> None:
    session_id = begin(sessions)
    clock.advance(120)
    assert living(sessions, session_id).last_seen == clock()
    assert sessions.revoke(account_id="7") == 1
    assert sessions.resume(session_id) == ENDED


def test_saml_sessions_are_indexed_despite_long_names(state: Store, sessions: LoginSessions) -> None:
    long = "n" * 2000
    one = begin(sessions, provider="okta", name_id=long, session_index="_1")
    two = begin(sessions, provider="okta", name_id=long, session_index="_2")
    begin(sessions, provider="other", name_id=long, session_index="_1")
    assert sorted(state.find(index_term("saml", "acme", "okta", long))) == sorted([storage_key(one), storage_key(two)])
    assert state.find(index_term("saml", "acme", "okta", long, "_1")) == [storage_key(one)]


def test_provider_ends_only_the_sessions_it_names(sessions: LoginSessions) -> None:
    def of(provider: str = "okta", name_id: str = "ann", index: str = "_1", **more: str) -> str:
        return begin(sessions, provider=provider, name_id=name_id, session_index=index, **more)

    one, two, three = of(), of(index="_2"), of(index="_3")
    others = [of(provider="other"), of(name_id="ann2"), of(contact_center="globex"), of(name_id="")]
    assert sessions.end_saml("acme", "okta", "ann", ["_9"]) == []
    assert [ended.session_index for ended in sessions.end_saml("acme", "okta", "ann", ["_1", "_2", "_1"])] == [
        "_1",
        "_2",
    ]
    assert sessions.resume(one) == sessions.resume(two) == ENDED
    living(sessions, three)
    assert [ended.session_index for ended in sessions.end_saml("acme", "okta", "ann")] == ["_3"]
    assert sessions.end_saml("acme", "okta", "ann") == []
    for other in others:
        living(sessions, other)


GOOD = asdict(LoginSession("acme", "7", "saml", 1.0, 1.0, 2.0))
BAD_TIMES: list[Any] = [None, "1", True, -1.0, 1e300, 10**400, [], {}]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "text",
        7,
        [],
        {},
        {name: value for name, value in GOOD.items() if name != "step"},
        GOOD | {"more": "than there is"},
        GOOD | {"account_id": 7},
        GOOD | {"contact_center": None},
        *(GOOD | {name: time} for name in ("created", "last_seen", "expires") for time in BAD_TIMES),
    ],
    ids=repr,
)
def test_malformed_row_is_an_ended_session(value: Any) -> None:
    clock = Clock()
    clock.now = 1.5
    state = MemoryState("one")
    sessions = LoginSessions(state, SessionSettings(), clock)
    state.put(storage_key("good"), GOOD, 60)
    state.put(storage_key("bad"), value, 60)
    assert living(sessions, "good").account_id == "7"
    assert sessions.resume("bad") == ENDED
    assert sessions.end("bad") is None


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.none() | st.booleans() | st.integers() | st.text()))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_the_state_holds_is_no_error(changes: dict[str, Any]) -> None:
    clock = Clock()
    clock.now = 1.5
    state = MemoryState("one")
    sessions = LoginSessions(state, SessionSettings(), clock)
    state.put(storage_key("id"), GOOD | changes, 60)
    assert isinstance(sessions.resume("id"), (LoginSession, Rejected))


def test_numbers_json_has_not_do_not_prolong(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "state"
    with closing(SqlState(f"sqlite:///{path}", "one", 5, clock=clock)) as state:
        sessions = LoginSessions(state, SessionSettings(), clock)
        session_id = begin(sessions)
        living(sessions, session_id)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(
                'UPDATE genesys_auth_state SET value = replace(value, \'"last_seen":\', \'"last_seen":NaN,"x":\')'
            )
            connection.commit()
        assert sessions.resume(session_id) == ENDED


def test_shorter_timeouts_apply_to_existing_sessions(state: Store, clock: Clock) -> None:
    session_id = begin(LoginSessions(state, SessionSettings(), clock))
    clock.advance(400)
    assert LoginSessions(state, SessionSettings(), clock).resume(session_id, touch=False) != ENDED
    assert LoginSessions(state, SessionSettings(idle_timeout=300), clock).resume(session_id) == ENDED
    assert LoginSessions(state, SessionSettings(absolute_timeout=300), clock).resume(session_id) == ENDED


def test_applications_on_one_store_reject_each_others_sessions(tmp_path: Path, clock: Clock) -> None:
    url = f"sqlite:///{tmp_path / 'state'}"
    with (
        closing(SqlState(url, "one", 5, clock=clock)) as first,
        closing(SqlState(url, "two", 5, clock=clock)) as second,
        closing(SqlState(url, "one", 5, clock=clock)) as same,
    ):
        one, two, twin = (LoginSessions(state, SessionSettings(), clock) for state in (first, second, same))
        session_id = begin(one)
        assert two.resume(session_id) == ENDED
        assert two.end(session_id) is None
        assert two.revoke(account_id="7") == 0
        assert living(twin, session_id) == living(one, session_id)
        assert twin.revoke(contact_center="acme") == 1
        assert one.resume(session_id) == ENDED


def test_resuming_requires_reading_state_but_not_writing(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "state"
    with closing(SqlState(f"sqlite:///{path}", "one", 0.02, clock=clock)) as state:
        sessions = LoginSessions(state, SessionSettings(), clock)
        session_id = begin(sessions)
        clock.advance(100)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert living(sessions, session_id).account_id == "7"
            for change in (
                lambda: begin(sessions),
                lambda: sessions.end(session_id),
                lambda: sessions.revoke(account_id="7"),
            ):
                with pytest.raises(StateUnavailable):
                    change()
            other.execute("ROLLBACK")
            living(sessions, session_id)
            other.execute("ALTER TABLE genesys_auth_state RENAME TO away")
            with pytest.raises(StateUnavailable):
                sessions.resume(session_id)
            other.execute("ALTER TABLE away RENAME TO genesys_auth_state")
        assert replace(living(sessions, session_id), last_seen=0).account_id == "7"
