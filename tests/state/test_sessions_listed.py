"""Login sessions for an administrator: listed, named by a handle, and revoked one by one."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from flask_genesys_auth.chain.outcomes import Reason, Rejected
from flask_genesys_auth.config.settings import SessionSettings
from flask_genesys_auth.sessions import LoginSessions, SessionInfo, storage_key
from flask_genesys_auth.state.memory import MemoryState

from .contract import Clock
from .test_sessions import Store, begin, clock, living, sessions, state

__all__ = ["clock", "sessions", "state"]

ENDED = Rejected(Reason.SESSION_ENDED)


def test_listing_shows_details_without_secrets(sessions: LoginSessions, clock: Clock) -> None:
    session_id = begin(sessions, provider="okta", name_id="ann@acme.example", session_index="_1")
    clock.advance(100)
    living(sessions, session_id)
    (listed,) = sessions.all_of(account_id="7")
    assert listed == SessionInfo(
        handle=storage_key(session_id).removeprefix("session:"),
        account_id="7",
        contact_center="acme",
        step="saml",
        provider="okta",
        created=clock() - 100,
        last_seen=clock(),
        expires=clock() - 100 + 28800,
    )
    assert session_id not in repr(listed)
    with pytest.raises(FrozenInstanceError):
        listed.account_id = "8"  # type: ignore[misc]  # what is refused


def test_sessions_are_listed_by_account_and_contact_center(sessions: LoginSessions, clock: Clock) -> None:
    made = [("globex", "7"), ("acme", "8"), ("acme", "7"), ("acme", "7")]
    for contact_center, account_id in made:
        begin(sessions, contact_center=contact_center, account_id=account_id)
        clock.advance(1)

    def listed(**named: Any) -> list[tuple[str, str]]:
        return [(one.contact_center, one.account_id) for one in sessions.all_of(**named)]

    assert listed(contact_center="acme") == [("acme", "7"), ("acme", "7"), ("acme", "8")]
    assert listed(account_id="7") == [("acme", "7"), ("acme", "7"), ("globex", "7")]
    assert listed(account_id="7", contact_center="globex") == [("globex", "7")]
    assert listed(account_id="9") == listed(contact_center="") == []
    ages = [one.created for one in sessions.all_of(account_id="7", contact_center="acme")]
    assert ages == sorted(ages)
    with pytest.raises(ValueError, match="account_id"):
        sessions.all_of()


def test_ended_sessions_are_not_listed(sessions: LoginSessions, state: Store, clock: Clock) -> None:
    idle, ended, lives = (begin(sessions) for _ in range(3))
    sessions.end(ended)
    clock.advance(1000)
    living(sessions, lives)
    clock.advance(900)
    assert [one.handle for one in sessions.all_of(account_id="7")] == [storage_key(lives).removeprefix("session:")]
    assert sessions.resume(idle) == ENDED
    strict = LoginSessions(state, SessionSettings(absolute_timeout=60), clock)
    assert strict.all_of(account_id="7") == []


def test_a_row_of_another_shape_is_not_listed() -> None:
    store = MemoryState("one")
    sessions = LoginSessions(store, SessionSettings())
    begin(sessions)
    (key,) = [_key_of(one) for one in sessions.all_of(account_id="7")]
    assert store.replace(key, {"something": "else"}, 60)
    assert sessions.all_of(account_id="7") == []


def _key_of(listed: SessionInfo) -> str:
    return f"session:{listed.handle}"


def test_handle_ends_only_its_own_session(sessions: LoginSessions) -> None:
    one, other = begin(sessions), begin(sessions)
    handle = storage_key(one).removeprefix("session:")
    ended = sessions.revoke_one(handle)
    assert ended is not None
    assert ended.account_id == "7"
    assert sessions.revoke_one(handle) is None
    assert sessions.resume(one) == ENDED
    living(sessions, other)


def test_handle_and_id_are_not_interchangeable(sessions: LoginSessions, state: Store) -> None:
    session_id = begin(sessions)
    (listed,) = sessions.all_of(account_id="7")
    assert sessions.resume(listed.handle) == ENDED
    state.put("session:" + "x" * 64, state.get(storage_key(session_id)), 60)
    for wrong in (session_id, "", "x" * 64, listed.handle.upper(), listed.handle + "\n", "\ud800", "a" * 300):
        assert sessions.revoke_one(wrong) is None
    living(sessions, session_id)
    assert state.get("session:" + "x" * 64) is not None
