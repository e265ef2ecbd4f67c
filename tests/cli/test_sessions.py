"""``flask genesys-auth sessions ...`` and ``purge``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_genesys_auth import GenesysAuth, SessionInfo
from flask_genesys_auth.chain.outcomes import LoginSession
from flask_genesys_auth.cli import genesys_auth
from flask_genesys_auth.cli.sessions import FEW
from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.signals import session_revoked
from flask_genesys_auth.state.values import BATCH
from flask_genesys_auth.web.runtime import runtime

from .conftest import Invoke, accounts_of, make_app, one_line

auth = GenesysAuth()
"""It keeps nothing of an application, so that any of them serves."""


@pytest.fixture
def people(run: Invoke, app: Flask) -> dict[str, str]:
    """Ann in both contact centers, Bob in one: their ids."""
    store = accounts_of(app)
    return {
        "ann": store.add("acme", "ann").id,
        "bob": store.add("acme", "bob").id,
        "other ann": store.add("globex", "Ann").id,
    }


def begin(app: Flask, contact_center: str, account_id: str, **more: str) -> str:
    started: dict[str, Any] = {"contact_center": contact_center, "account_id": account_id, "step": "application"}
    return runtime(app).sessions.start(**{**started, **more})


def lives(app: Flask, session_id: str) -> bool:
    return isinstance(runtime(app).sessions.resume(session_id), LoginSession)


@pytest.fixture
def begun(app: Flask, people: dict[str, str]) -> list[str]:
    """Two sessions of Ann's, one of Bob's, one of the other Ann."""
    return [
        begin(app, "acme", people["ann"], step="saml", provider="okta"),
        begin(app, "acme", people["ann"]),
        begin(app, "acme", people["bob"]),
        begin(app, "globex", people["other ann"]),
    ]


def listed(run: Invoke, *options: str) -> list[dict[str, Any]]:
    shown = run("sessions", "list", "--json", *options)
    assert shown.exit_code == 0, shown.output
    found: list[dict[str, Any]] = json.loads(shown.output)
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["ann", "ann", "bob", "Ann"]),
        (["--account", "ANN"], ["ann", "ann", "Ann"]),
        (["--account", "ann", "--contact-center", "globex"], ["Ann"]),
        (["--contact-center", "acme"], ["ann", "ann", "bob"]),
        (["--account", "bob", "--contact-center", "globex"], []),
        (["--account", "nobody"], []),
        (["--contact-center", "nowhere"], []),
    ],
)
def test_sessions_are_listed(run: Invoke, begun: list[str], options: list[str], expected: list[str]) -> None:
    found = listed(run, *options)
    assert sorted(row["user_name"] for row in found) == sorted(expected)
    assert not any(session_id in json.dumps(found) for session_id in begun)
    shown = run("sessions", "list", *options)
    assert shown.exit_code == 0
    assert [line.split()[2] for line in shown.output.splitlines()[1:]] == [row["user_name"] for row in found]


def test_user_names_are_shown_for_many_sessions(
    run: Invoke, app: Flask, people: dict[str, str], begun: list[str]
) -> None:
    begin(app, "acme", "somebody who is no more")
    few = listed(run)
    assert sorted(row["user_name"] for row in few) == ["", "Ann", "ann", "ann", "bob"]
    for number in range(FEW):
        begin(app, "acme", f"stranger {number}")
    many = listed(run)
    assert len(many) == len(few) + FEW
    assert [row for row in many if not row["account_id"].startswith("stranger")] == few


def test_a_row_has_account_step_and_times(run: Invoke, app: Flask, people: dict[str, str], begun: list[str]) -> None:
    row = next(one for one in listed(run) if one["provider"])
    assert (row["account_id"], row["contact_center"], row["step"]) == (people["ann"], "acme", "saml")
    assert row["created"] <= row["last_seen"] < row["expires"] == pytest.approx(row["created"] + 28800)
    (line,) = [one for one in run("sessions", "list").output.splitlines() if "saml/okta" in one]
    assert line.split()[0] == row["handle"]
    assert line.count("Z") == 3


def test_sessions_of_deleted_accounts_are_found_by_id(
    run: Invoke, app: Flask, people: dict[str, str], begun: list[str]
) -> None:
    assert len(listed(run, "--account", people["bob"])) == 1
    accounts_of(app).delete(people["bob"])
    (row,) = listed(run, "--account", people["bob"])
    assert row["user_name"] == ""
    assert people["bob"] in run("sessions", "list").output
    assert run("sessions", "revoke", "--account", people["bob"], "--yes").exit_code == 0
    assert [lives(app, session_id) for session_id in begun] == [True, True, False, True]


@pytest.mark.parametrize(
    ("options", "living"),
    [
        (["--account", "ann"], [False, False, True, False]),
        (["--account", "ann", "--contact-center", "acme"], [False, False, True, True]),
        (["--contact-center", "acme"], [False, False, False, True]),
    ],
)
def test_sessions_are_ended(run: Invoke, app: Flask, begun: list[str], options: list[str], living: list[bool]) -> None:
    ended = run("sessions", "revoke", *options, "--yes")
    assert (ended.exit_code, ended.output) == (0, f"Login sessions ended: {living.count(False)}\n")
    assert [lives(app, session_id) for session_id in begun] == living
    assert one_line(run("sessions", "revoke", *options, "--yes")) == "Error: no login session matches"


def test_many_sessions_are_listed_and_ended(run: Invoke, app: Flask, people: dict[str, str]) -> None:
    many = [begin(app, "acme", people["bob"]) for _ in range(BATCH + 5)]
    other = begin(app, "globex", people["other ann"])
    assert len(listed(run, "--contact-center", "acme")) == len(many)
    ended = run("sessions", "revoke", "--contact-center", "acme", stdin="y\n")
    assert ended.exit_code == 0
    assert f"End {len(many)} login sessions?" in ended.output
    assert ended.output.splitlines()[-1] == f"Login sessions ended: {len(many)}"
    assert not any(lives(app, session_id) for session_id in many)
    assert lives(app, other)


def test_a_partial_revocation_is_reported_and_repeatable(
    run: Invoke, app: Flask, people: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [begin(app, "acme", people["bob"]) for _ in range(BATCH + 5)]
    told: list[dict[str, Any]] = []
    state = runtime(app).state
    delete_found = state.delete_found

    def failing(term: str) -> int:
        if told_of:
            raise StateUnavailable("it does not answer")
        told_of.append(term)
        return delete_found(term)

    told_of: list[str] = []
    monkeypatch.setattr(state, "delete_found", failing)

    def listen(sender: Flask, **said: Any) -> None:
        told.append(said)

    with session_revoked.connected_to(listen, app):
        refused = run("sessions", "revoke", "--contact-center", "acme", "--yes")
        monkeypatch.undo()
        assert refused.exit_code == 1
        assert f"it does not answer; login sessions ended before that: {BATCH}; revoke again" in one_line(refused)
        assert [lives(app, session_id) for session_id in many].count(True) == 5
        assert run("sessions", "revoke", "--contact-center", "acme", "--yes").output == "Login sessions ended: 5\n"
    assert [(said["contact_center"], said["count"]) for said in told] == [("acme", BATCH), ("acme", 5)]


def test_yes_skips_counting_the_sessions(
    run: Invoke, app: Flask, begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[object] = []

    def count(_: object, **named: object) -> int:
        counted.append(named)
        return 3

    monkeypatch.setattr(type(runtime(app).sessions), "count", count)
    assert run("sessions", "revoke", "--contact-center", "acme", "--yes").output == "Login sessions ended: 3\n"
    assert counted == []
    assert "End 3 login sessions?" in run("sessions", "revoke", "--contact-center", "globex", stdin="y\n").output
    assert len(counted) == 1


def test_a_single_session_is_ended(run: Invoke, app: Flask, begun: list[str]) -> None:
    handle = next(row["handle"] for row in listed(run) if row["provider"])
    assert run("sessions", "revoke", "--session", handle, "--yes").output == "Login sessions ended: 1\n"
    assert [lives(app, session_id) for session_id in begun] == [False, True, True, True]
    assert "no login session matches" in one_line(run("sessions", "revoke", "--session", handle, "--yes"))
    assert "no login session matches" in one_line(run("sessions", "revoke", "--session", begun[1], "--yes"))
    assert lives(app, begun[1])


@pytest.mark.parametrize("options", [["--account", "ann"], ["--session", "HANDLE"]])
def test_revoke_asks_for_confirmation(run: Invoke, app: Flask, begun: list[str], options: list[str]) -> None:
    handle = listed(run, "--account", "ann")[0]["handle"]
    options = [handle if option == "HANDLE" else option for option in options]
    for answer in ("n\n", ""):
        refused = run("sessions", "revoke", *options, stdin=answer)
        assert refused.exit_code == 1
        assert "End " in refused.output
        assert all(lives(app, session_id) for session_id in begun)
    assert run("sessions", "revoke", *options, stdin="y\n").exit_code == 0
    assert not all(lives(app, session_id) for session_id in begun)


def test_revoke_without_a_match_revokes_nothing(run: Invoke, app: Flask, people: dict[str, str]) -> None:
    told: list[dict[str, Any]] = []

    def listen(sender: Flask, **said: Any) -> None:
        told.append(said)

    with session_revoked.connected_to(listen, app):
        refused = run("sessions", "revoke", "--account", "bob", stdin="y\n")
    assert (refused.exit_code, told) == (1, [])
    assert "no login session matches" in refused.output
    assert "End " not in refused.output
    begin(app, "acme", people["bob"])
    assert run("sessions", "revoke", "--account", "bob", stdin="y\n").exit_code == 0


@pytest.mark.parametrize("options", [[], ["--yes"], ["--session", "x", "--account", "ann"]])
def test_revoke_needs_a_selection(run: Invoke, app: Flask, begun: list[str], options: list[str]) -> None:
    refused = run("sessions", "revoke", *options)
    assert refused.exit_code == 2
    assert "give --session" in refused.output
    assert all(lives(app, session_id) for session_id in begun)


def test_revocations_are_signalled(run: Invoke, app: Flask, people: dict[str, str], begun: list[str]) -> None:
    told: list[dict[str, Any]] = []

    def listen(sender: Flask, **said: Any) -> None:
        told.append(said)

    with session_revoked.connected_to(listen, app):
        handle = listed(run, "--account", "bob")[0]["handle"]
        run("sessions", "revoke", "--session", handle, "--yes")
        run("sessions", "revoke", "--account", "ann", "--contact-center", "acme", "--yes")
        run("sessions", "revoke", "--session", handle, "--yes")
    assert told == [
        {"account_id": people["bob"], "contact_center": "acme", "count": 1},
        {"account_id": people["ann"], "contact_center": "acme", "count": 2},
    ]


def test_sessions_are_revoked_from_python(app: Flask, people: dict[str, str], begun: list[str]) -> None:
    with app.app_context():
        found = auth.sessions()
        assert [type(one) for one in found] == [SessionInfo] * 4
        assert [one.contact_center for one in found] == ["acme"] * 3 + ["globex"]
        assert auth.sessions(limit=3) == found[:3]
        assert auth.sessions(contact_center="acme", limit=1) == found[:1]
        assert auth.sessions(limit=0) == []
        assert len(auth.sessions(people["ann"])) == len(auth.sessions(people["ann"], "acme")) == 2
        assert auth.revoke(session=found[3].handle) == 1
        assert auth.revoke(session=found[3].handle) == 0
        assert not lives(app, begun[3])
        assert auth.revoke(people["ann"], "acme") == 2
        assert [one.account_id for one in auth.sessions()] == [people["bob"]]
        for wrong in ({}, {"session": "x", "account_id": "7"}, {"session": "x", "contact_center": "acme"}):
            with pytest.raises(ValueError, match=r"revoke\(\)"):
                auth.revoke(**wrong)


def test_own_stores_select_sessions_by_id(tmp_path: Path) -> None:
    class People:
        def find(self, identity: object) -> None:
            """Find no account."""

        def get(self, account_id: str) -> None:
            """Find no account."""

    app = Flask("portal", instance_path=str(tmp_path))
    app.secret_key = "k"
    app.config["GENESYS_AUTH"] = {"contact_centers": {"acme": {}}}
    GenesysAuth(app, accounts=People())
    session_id = begin(app, "acme", "7")
    runner = app.test_cli_runner()
    shown = runner.invoke(genesys_auth, ["sessions", "list", "--account", "7", "--json"])
    assert [(row["account_id"], row["user_name"]) for row in json.loads(shown.output)] == [("7", "")]
    assert runner.invoke(genesys_auth, ["sessions", "revoke", "--account", "7", "--yes"]).exit_code == 0
    assert not lives(app, session_id)
    runtime(app).state.close()


def test_purge_removes_only_expired_entries(run: Invoke, app: Flask, begun: list[str]) -> None:
    state = runtime(app).state
    assert run("purge").output == "Expired entries removed: 0\n"
    state.put("soon", 1, 1e-9)
    assert json.loads(run("purge", "--json").output) == {"removed": 1}
    assert all(lives(app, session_id) for session_id in begun)


@pytest.mark.parametrize("command", [["sessions", "list"], ["sessions", "revoke", "--account", "x"], ["purge"]])
def test_an_unreachable_state_is_one_line(tmp_path: Path, command: list[str]) -> None:
    in_memory = make_app(tmp_path / "one", state_url="memory://", accounts_url="sqlite:///accounts.sqlite3")
    in_memory.test_cli_runner().invoke(genesys_auth, ["init-db"])
    assert "memory" in one_line(in_memory.test_cli_runner().invoke(genesys_auth, command))
    away = make_app(tmp_path / "two", state_url="redis://127.0.0.1:1/0", accounts_url="sqlite:///accounts.sqlite3")
    accounts_of(away).create_tables()
    assert "did not answer" in one_line(away.test_cli_runner().invoke(genesys_auth, command))


def test_a_mistyped_contact_center_is_reported(run: Invoke, begun: list[str]) -> None:
    hint = "; contact center 'acmee' is not configured (configured: acme, globex)"
    ended = run("sessions", "revoke", "--contact-center", "acmee", "--yes")
    assert one_line(ended) == f"Error: no login session matches{hint}"
    assert run("sessions", "revoke", "--contact-center", "acme", "--yes").exit_code == 0
    again = run("sessions", "revoke", "--contact-center", "acme", "--yes")
    assert one_line(again) == "Error: no login session matches"
