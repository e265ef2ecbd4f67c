"""``flask genesys-auth accounts ...``"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Flask

from flask_genesys_auth import GenesysAuth
from flask_genesys_auth.chain.outcomes import LoginSession, Rejected
from flask_genesys_auth.cli import genesys_auth
from flask_genesys_auth.signals import session_revoked
from flask_genesys_auth.web.runtime import runtime
from tests.cli.conftest import Invoke, accounts_of, make_app, one_line

PASSWORD = "a long: pässword"


@pytest.fixture
def ann(run: Invoke) -> str:
    made = run("accounts", "add", "acme", "Ann@acme.example", "--role", "ROLE_AGENT", "--password-stdin",
               stdin=PASSWORD + "\nsecond line\n")  # fmt: skip
    assert made.exit_code == 0, made.output
    assert made.output == "Added Ann@acme.example to acme.\n"
    return "ann@acme.example"


def logged_in(app: Flask, user_name: str) -> str:
    account = accounts_of(app).get_by_name("acme", user_name)
    assert account is not None
    return runtime(app).sessions.start(contact_center="acme", account_id=account.id, step="application")


def lives(app: Flask, session_id: str) -> bool:
    found = runtime(app).sessions.resume(session_id)
    assert isinstance(found, (LoginSession, Rejected))
    return isinstance(found, LoginSession)


def password_is(app: Flask, user_name: str, password: str) -> bool:
    return runtime(app).hasher.verify(accounts_of(app).password_hash("acme", user_name), password)


def test_init_db_creates_tables_and_is_repeatable(bare: Invoke, app: Flask) -> None:
    assert "init-db" in one_line(bare("accounts", "list"))
    for _ in range(2):
        made = bare("init-db")
        assert made.exit_code == 0, made.output
        assert "accounts.sqlite3" in made.output
    assert bare("accounts", "list").exit_code == 0


def test_an_account_is_added_and_shown(run: Invoke, app: Flask, ann: str) -> None:
    assert password_is(app, ann, PASSWORD)
    assert not password_is(app, ann, "second line")
    shown = run("accounts", "show", "acme", "ANN@acme.example", "--json")
    found = json.loads(shown.output)
    assert found.pop("id")
    assert found == {
        "contact_center": "acme",
        "user_name": "Ann@acme.example",
        "first_name": "",
        "last_name": "",
        "roles": ["ROLE_AGENT"],
        "enabled": True,
        "has_password": True,
        "identities": {},
    }
    plain = run("accounts", "show", "acme", ann)
    assert plain.exit_code == 0
    assert "Ann@acme.example" in plain.output
    assert "argon2" not in plain.output + shown.output


def test_an_account_may_have_no_password(run: Invoke) -> None:
    made = run("accounts", "add", "acme", "bob", "--first-name", "Bob", "--last-name", "Hope",
               "--role", "B", "--role", "A",
               "--identity", "salesforce=00D000000000001/005000000000001", "--identity", "configuration_server=b=1",
               "--identity", "configuration_server=b=2")  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "without a password" in made.output
    found = json.loads(run("accounts", "show", "acme", "bob", "--json").output)
    assert (found["first_name"], found["last_name"], found["roles"]) == ("Bob", "Hope", ["A", "B"])
    assert found["has_password"] is False
    assert found["identities"] == {
        "configuration_server": ["b=1", "b=2"],
        "salesforce": ["00D000000000001/005000000000001"],
    }
    assert "configuration_server=b=1" in run("accounts", "show", "acme", "bob").output


@pytest.mark.parametrize(
    ("args", "finding"),
    [
        (["nowhere", "x"], "configured: acme, globex"),
        (["acme", "ANN@acme.example"], "already"),
        (["acme", "a:b"], "user_name"),
        (["acme", "x", "--identity", "okta=1"], "no provider 'okta'"),
        (["acme", "x", "--identity", "web_services=1"], "no provider"),
        (["acme", "x", "--identity", "salesforce"], "PROVIDER=VALUE"),
        (["acme", "x", "--role", ""], "roles"),
    ],
)
def test_invalid_accounts_are_one_line(run: Invoke, app: Flask, ann: str, args: list[str], finding: str) -> None:
    assert finding in one_line(run("accounts", "add", *args))
    assert len(accounts_of(app).list()) == 1
    assert run("accounts", "add", "acme", "x", "--identity", "salesforce=1").exit_code == 0


@pytest.mark.parametrize("password", ["", "tab\there", "x" * 1025])
def test_a_password_unfit_for_headers_is_refused(run: Invoke, app: Flask, ann: str, password: str) -> None:
    shown = one_line(run("accounts", "set-password", "acme", ann, "--password-stdin", stdin=password + "\n"))
    assert "the password" in shown
    assert not password or password not in shown
    assert password_is(app, ann, PASSWORD)


@pytest.mark.parametrize("locale", ["strict", "surrogateescape"])
def test_an_undecodable_password_is_an_error(
    main: Callable[..., None], app: Flask, ann: str, monkeypatch: pytest.MonkeyPatch, locale: str
) -> None:
    def send(password: bytes) -> None:
        stdin = io.TextIOWrapper(io.BytesIO(password + b"\n"), encoding="utf-8", errors=locale)
        monkeypatch.setattr(sys, "stdin", stdin)
        main("accounts", "set-password", "acme", ann, "--password-stdin")

    with pytest.raises(click.ClickException, match="cannot read the password"):
        send(b"geh\xffeim")
    assert password_is(app, ann, PASSWORD)
    send("geh\u00e4im".encode())
    assert password_is(app, ann, "geh\u00e4im")


def test_a_password_without_standard_input_is_an_error(
    main: Callable[..., None], app: Flask, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Python makes of `<&-`.
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(click.ClickException, match="standard input is closed"):
        main("accounts", "set-password", "acme", ann, "--password-stdin")
    assert password_is(app, ann, PASSWORD)


def test_a_password_is_not_an_argument(run: Invoke, ann: str) -> None:
    assert run("accounts", "set-password", "acme", ann, "geheim").exit_code == 2
    assert run("accounts", "set-password", "acme", ann, "--password", "geheim").exit_code == 2


def test_accounts_are_listed(run: Invoke, ann: str) -> None:
    run("accounts", "add", "globex", "bob")
    assert [row["user_name"] for row in json.loads(run("accounts", "list", "--json").output)] == [
        "Ann@acme.example",
        "bob",
    ]
    assert [row["user_name"] for row in json.loads(run("accounts", "list", "globex", "--json").output)] == ["bob"]
    plain = run("accounts", "list").output.splitlines()
    assert plain[0].split() == ["CONTACT", "CENTER", "USER", "NAME", "NAME", "ROLES", "ENABLED"]
    assert plain[1].split() == ["acme", "Ann@acme.example", "ROLE_AGENT", "yes"]
    assert "unknown contact center" in one_line(run("accounts", "list", "nowhere"))


def test_a_new_password_ends_login_sessions(run: Invoke, app: Flask, ann: str) -> None:
    run("accounts", "add", "acme", "bob")
    session, other = logged_in(app, ann), logged_in(app, "bob")
    sent: list[dict[str, Any]] = []

    def note(sender: Flask, **values: Any) -> None:
        assert sender is app
        sent.append(values)

    with session_revoked.connected_to(note):
        asked = run("accounts", "set-password", "acme", ann, stdin="another\nanother\n")
    assert asked.exit_code == 0, asked.output
    assert "another" not in asked.output
    assert "login sessions ended: 1" in asked.output
    assert [(values["contact_center"], values["count"]) for values in sent] == [("acme", 1)]
    assert not lives(app, session)
    assert lives(app, other)
    assert password_is(app, ann, "another")
    assert run("accounts", "set-password", "acme", ann, "--password-stdin", stdin="third\n").exit_code == 0
    assert password_is(app, ann, "third")


def test_different_passwords_are_prompted_again(run: Invoke, app: Flask, ann: str) -> None:
    assert run("accounts", "set-password", "acme", ann, stdin="one\ntwo\nthree\nthree\n").exit_code == 0
    assert password_is(app, ann, "three")


def test_a_disabled_account_cannot_log_in(run: Invoke, app: Flask, ann: str) -> None:
    session = logged_in(app, ann)
    client = app.test_client()
    assert client.get("/", auth=(ann, PASSWORD)).status_code == 200
    assert run("accounts", "disable", "acme", ann).exit_code == 0
    assert not lives(app, session)
    assert client.get("/", auth=(ann, PASSWORD)).status_code == 401
    assert run("accounts", "enable", "acme", ann).exit_code == 0
    assert client.get("/", auth=(ann, PASSWORD)).text == "Hello Ann@acme.example"


def test_a_deleted_account_cannot_log_in(run: Invoke, app: Flask, ann: str) -> None:
    session = logged_in(app, ann)
    assert run("accounts", "delete", "acme", ann).exit_code == 0
    assert not lives(app, session)
    assert accounts_of(app).list() == []
    assert "no account" in one_line(run("accounts", "delete", "acme", ann))


def test_roles_are_shown_set_and_removed(run: Invoke, app: Flask, ann: str) -> None:
    assert run("accounts", "roles", "acme", ann).output == "Ann@acme.example: ROLE_AGENT\n"
    assert run("accounts", "roles", "acme", ann, "B", "A").output == "Ann@acme.example: A, B\n"
    assert run("accounts", "roles", "acme", ann, "B", "--none").exit_code == 2
    assert accounts_of(app).list()[0].roles == {"A", "B"}
    assert run("accounts", "roles", "acme", ann, "--none").output == "Ann@acme.example: no roles\n"
    assert accounts_of(app).list()[0].roles == set()


def test_identities_are_linked_and_unlinked(run: Invoke, app: Flask, ann: str) -> None:
    run("accounts", "add", "acme", "bob")
    assert run("accounts", "link", "acme", ann, "salesforce=1", "configuration_server=2").exit_code == 0
    assert "another account" in one_line(run("accounts", "link", "acme", "bob", "salesforce=1"))
    assert "no provider" in one_line(run("accounts", "link", "acme", ann, "okta=1"))
    assert run("accounts", "unlink", "acme", ann, "salesforce=1").exit_code == 0
    assert "is not linked" in one_line(run("accounts", "unlink", "acme", ann, "salesforce=1"))
    assert run("accounts", "link", "acme", "bob", "salesforce=1").exit_code == 0


@pytest.mark.parametrize(
    "command", ["show", "set-password", "disable", "enable", "roles", "delete", "link salesforce=1", "unlink a=1"]
)
def test_an_unknown_account_is_one_line(run: Invoke, command: str) -> None:
    name, *more = command.split()
    assert "'acme' has no account 'nobody'" in one_line(run("accounts", name, "acme", "nobody", *more))
    assert "unknown contact center 'nope'" in one_line(run("accounts", name, "nope", "nobody", *more))


def test_accounts_of_unconfigured_contact_centers_can_be_deleted(run: Invoke, app: Flask) -> None:
    accounts_of(app).add("former", "ann")
    assert run("accounts", "delete", "former", "ann").exit_code == 0
    assert "unknown contact center 'former'" in one_line(run("accounts", "delete", "former", "ann"))


def test_an_own_account_store_is_reported(tmp_path: Path) -> None:
    class Store:
        def find(self, identity: object) -> None:
            return None

        def get(self, account_id: str) -> None:
            return None

        def __repr__(self) -> str:
            return "Store()"

    app = Flask("portal", instance_path=str(tmp_path / "instance"))
    app.secret_key = "a secret key of the tests"
    app.config["GENESYS_AUTH"] = {"state_url": "memory://", "contact_centers": {"acme": {}}}
    GenesysAuth(app, accounts=Store())
    runner = app.test_cli_runner()
    for args in (["list"], ["add", "acme", "x"], ["import", __file__], ["delete", "acme", "x"]):
        shown = one_line(runner.invoke(genesys_auth, args=["accounts", *args]))
        assert "its own account store (Store())" in shown
    made = runner.invoke(genesys_auth, args=["init-db"])
    assert made.exit_code == 0
    assert "its own account store" in made.output


def test_a_missing_extension_is_reported() -> None:
    runner = Flask("bare").test_cli_runner()
    for args in (["init-db"], ["accounts", "list"], ["endpoints"], ["explain", "GET", "/"]):
        assert "call auth.init_app(app)" in one_line(runner.invoke(genesys_auth, args=[*args]))


def test_sessions_in_memory_are_reported_as_active(tmp_path: Path) -> None:
    app = make_app(tmp_path, state_url="memory://")
    runner = app.test_cli_runner()
    runner.invoke(genesys_auth, args=["init-db"])
    runner.invoke(genesys_auth, args=["accounts", "add", "acme", "ann"])
    changed = runner.invoke(genesys_auth, args=["accounts", "disable", "acme", "ann"])
    assert changed.exit_code == 0
    assert "were not ended" in changed.output
    accounts_of(app).close()


def test_an_unavailable_state_is_reported_after_the_change(tmp_path: Path) -> None:
    app = make_app(tmp_path, state_url="sqlite:///state.sqlite3", accounts_url="sqlite:///accounts.sqlite3")
    runner = app.test_cli_runner()
    runner.invoke(genesys_auth, args=["init-db"])
    runner.invoke(genesys_auth, args=["accounts", "add", "acme", "ann"])
    for leftover in (tmp_path / "instance").glob("state.sqlite3*"):
        leftover.unlink()
    (tmp_path / "instance" / "state.sqlite3").write_text("this is no database, and long enough to be seen as none")
    shown = one_line(runner.invoke(genesys_auth, args=["accounts", "disable", "acme", "ann"]))
    assert "ann was changed, but its login sessions could not be ended" in shown
    assert not accounts_of(app).list()[0].enabled
    accounts_of(app).close()


PORTAL = """
from flask import Flask
from flask_genesys_auth import GenesysAuth

app = Flask("portal", instance_path={folder!r})
app.secret_key = "of a test"
app.config["GENESYS_AUTH"] = {{"state_url": "memory://", "contact_centers": {{"acme": {{"web_services": {{}}}}}}}}
GenesysAuth(app)
"""


def test_without_a_terminal_the_password_needs_standard_input(tmp_path: Path) -> None:
    (tmp_path / "portal.py").write_text(PORTAL.format(folder=str(tmp_path / "instance")))

    def without_terminal(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "portal", "genesys-auth", *args],
            cwd=tmp_path,
            input="a long password\na long password\n",
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )

    assert without_terminal("init-db").returncode == 0
    assert without_terminal("accounts", "add", "acme", "ann").returncode == 0
    asked = without_terminal("accounts", "set-password", "acme", "ann")
    assert (asked.returncode, asked.stderr) == (1, "Error: standard input is not a terminal; use --password-stdin\n")
    given = without_terminal("accounts", "set-password", "acme", "ann", "--password-stdin")
    assert given.returncode == 0, given.stderr
