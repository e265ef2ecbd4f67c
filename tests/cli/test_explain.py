"""``explain``: each problem beside the same request without it."""

from __future__ import annotations

import base64
import errno
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from werkzeug import Request

from flask_genesys_auth import GenesysAuth
from flask_genesys_auth.accounts.models import Account
from flask_genesys_auth.chain.contact_centers import ContactCenter
from flask_genesys_auth.chain.evidence import Evidence
from flask_genesys_auth.chain.outcomes import Identity, NotApplicable
from flask_genesys_auth.chain.protocols import AccountState
from flask_genesys_auth.cli import genesys_auth
from flask_genesys_auth.errors import AccountsUnavailable
from flask_genesys_auth.testing.fixtures import genesys_emulator, salesforce_emulator
from flask_genesys_auth.testing.genesys import GenesysEmulator
from flask_genesys_auth.testing.salesforce import SalesforceEmulator
from flask_genesys_auth.testing.server import unused_url
from flask_genesys_auth.web.runtime import runtime
from tests.cli.conftest import FAST, accounts_of, make_app
from tests.servers import RedisServer, own_redis_server

__all__ = ["genesys_emulator", "own_redis_server", "salesforce_emulator"]

HERE = "192.0.2.7"
PASSWORD = "ann's pässword"


@dataclass
class Asking:
    """An application whose request is explained."""

    app: Flask
    folder: Path
    runner: FlaskCliRunner = field(init=False)

    def __post_init__(self) -> None:
        self.runner = self.app.test_cli_runner()

    def explained(self, *args: str, **headers: str) -> dict[str, Any]:
        """What JSON says; the text says the same advice."""
        file = self.folder / "headers.txt"
        file.write_text("".join(f"{name}: {value}\n" for name, value in headers.items()))
        given = ["explain", "GET", "/", "-H", f"@{file}", "--address", HERE, *args]
        result = self.runner.invoke(genesys_auth, [*given, "--json"])
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.output)
        shown = self.runner.invoke(genesys_auth, given)
        assert shown.exit_code == 0
        for row in found["steps"]:
            assert row.get("advice", "") in shown.output
        for note in found["notes"]:
            assert f"note: {note}" in shown.output
        return found

    def step(self, name: str, **headers: str) -> dict[str, Any]:
        (row,) = [row for row in self.explained(**headers)["steps"] if row["step"] == name]
        return dict(row)


def basic(name: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def add(app: Flask, name: str, password: str = "") -> Account:
    store = accounts_of(app)
    store.create_tables()
    account = store.add("acme", name)
    if password:
        store.set_password(account.id, runtime(app).hasher.hash(password))
    return account


def close(app: Flask) -> None:
    runtime(app).state.close()
    accounts_of(app).close()


@pytest.fixture
def salesforce(tmp_path: Path, salesforce_emulator: SalesforceEmulator) -> Iterator[Asking]:
    table = {"organizations": ["00D000000000001"], "identity_hosts": [salesforce_emulator.url], "timeout": 30.0}
    app = make_app(tmp_path, contact_centers={"acme": {"salesforce": table}})
    add(app, "somebody@acme.example")
    yield Asking(app, tmp_path)
    close(app)


def test_salesforce_sessions_are_accepted_or_rejected(
    salesforce: Asking, salesforce_emulator: SalesforceEmulator
) -> None:
    headers = salesforce_emulator.add_user("ann@acme.example")
    add(salesforce.app, "ann@acme.example")
    assert salesforce.step("salesforce", **headers)["outcome"] == "authenticated"
    salesforce_emulator.end_session(headers)
    row = salesforce.step("salesforce", **headers)
    assert (row["outcome"], row["reason"]) == ("rejected", "session_refused")
    assert "HTTP 403: Bad_OAuth_Token" in row["detail"]
    assert "Lightning" in row["advice"]
    assert "Lock sessions to the IP address" in row["advice"]
    assert headers["ssid"] not in json.dumps(salesforce.explained(**headers))


def test_unlisted_organizations_are_explained(salesforce: Asking, salesforce_emulator: SalesforceEmulator) -> None:
    headers = salesforce_emulator.add_user("ann@acme.example")
    other = headers["surl"].replace("/00D000000000001EAA", "/00D000000000002")
    assert other != headers["surl"]
    row = salesforce.step("salesforce", ssid=headers["ssid"], surl=other)
    assert row["reason"] == "organization_not_listed"
    assert "00D000000000002 is not in organizations" in row["detail"]
    assert "contact_centers.acme.salesforce.organizations" in row["advice"]


def test_the_advice_creates_a_missing_account(salesforce: Asking, salesforce_emulator: SalesforceEmulator) -> None:
    headers = salesforce_emulator.add_user("ann@acme.example")
    row = salesforce.step("salesforce", **headers)
    assert (row["reason"], row["detail"]) == ("no_account", "no account of acme has the name 'ann@acme.example'")
    command = row["advice"].partition("flask genesys-auth ")[2]
    assert salesforce.runner.invoke(genesys_auth, command.split()).exit_code == 0
    assert salesforce.step("salesforce", **headers)["outcome"] == "authenticated"


def test_the_advice_links_an_account(tmp_path: Path, salesforce_emulator: SalesforceEmulator) -> None:
    table = {
        "organizations": ["00D000000000001"],
        "identity_hosts": [salesforce_emulator.url],
        "match": "identity",
        "timeout": 30.0,
    }
    app = make_app(tmp_path, contact_centers={"acme": {"salesforce": table}})
    add(app, "ann")
    asking, headers = Asking(app, tmp_path), salesforce_emulator.add_user("ann@acme.example")
    row = asking.step("salesforce", **headers)
    assert row["reason"] == "no_account"
    command = row["advice"].partition("flask genesys-auth ")[2].partition(";")[0].replace("USER_NAME", "ann")
    assert command.startswith("accounts link acme ann salesforce=00D000000000001/005")
    assert asking.runner.invoke(genesys_auth, command.split()).exit_code == 0
    assert asking.step("salesforce", **headers)["outcome"] == "authenticated"
    close(app)


def test_outages_and_open_circuits_are_explained(tmp_path: Path) -> None:
    table = {"directory": "genesys", "url": unused_url(), "client_id": "tests", "client_secret": "s3cret"}
    app = make_app(tmp_path, contact_centers={"acme": {"configuration_server": table}})
    accounts_of(app).create_tables()
    asking, headers = Asking(app, tmp_path), {"Authorization": basic("ann")}
    row = asking.step("configuration_server", **headers)
    assert (row["outcome"], row["reason"]) == ("unavailable", "unreachable")
    assert "Check the server" in row["advice"]
    assert "until" not in row
    fail(app, HERE, 1)
    asking.explained(**headers)
    found = asking.explained(**headers)
    # Here the process that explains is the one whose breaker has opened.
    (row,) = [one for one in found["steps"] if one["step"] == "configuration_server"]
    assert row["reason"] == "circuit_open"
    assert row["until"].endswith("Z")
    assert "Connection refused" in row["detail"]
    assert found["answer"]["status"] == 503
    assert any("each process has its own circuit breakers" in note for note in found["notes"])
    close(app)


@pytest.fixture
def password(tmp_path: Path) -> Iterator[Asking]:
    app = make_app(tmp_path, throttle={"per_account": "2 per hour", "per_account_anywhere": "3 per day"})
    add(app, "ann", PASSWORD)
    yield Asking(app, tmp_path)
    close(app)


def fail(app: Flask, address: str, times: int) -> None:
    client = app.test_client()
    for _ in range(times):
        client.get("/", auth=("ann", "wrong"), environ_overrides={"REMOTE_ADDR": address})


def test_the_throttle_is_shown_but_not_changed(password: Asking) -> None:
    headers = {"Authorization": basic("ann")}
    for _ in range(3):
        found = password.explained(**headers)
        assert found["answer"]["by"] == "view"
    assert found["throttle"] == {
        "address": HERE,
        "counted": "by each process",
        "limits": [
            {"limit": "per_address", "allows": "300 per minute", "until": None},
            {"limit": "per_account", "allows": "2 per hour", "until": None},
            {"limit": "per_account_anywhere", "allows": "3 per day", "until": None},
        ],
    }
    assert any("counts failures in its own memory" in note for note in found["notes"])
    fail(password.app, HERE, 2)
    found = password.explained(**headers)
    (row,) = [one for one in found["steps"] if one["step"] == "web_services"]
    assert (row["outcome"], row["reason"]) == ("unavailable", "throttled")
    assert row["detail"] == "over throttle.per_account (2 per hour)"
    # Both are computed one after the other, and a second may pass in between.
    texts = (row["until"], found["throttle"]["limits"][1]["until"])
    until = [datetime.fromisoformat(text.rstrip("Z")) for text in texts]
    assert abs(until[1] - until[0]) < timedelta(minutes=1)
    assert found["answer"] == {"status": 429, "by": "Throttled"}
    assert password.app.test_client().get("/", auth=("ann", PASSWORD)).status_code == 200
    elsewhere = password.explained("--address", "192.0.2.8", **headers)
    assert elsewhere["answer"]["by"] == "view"


def test_addresses_with_a_login_are_exempt(password: Asking) -> None:
    headers = {"Authorization": basic("ann")}
    client = password.app.test_client()
    client.get("/", auth=("ann", PASSWORD), environ_overrides={"REMOTE_ADDR": HERE})
    fail(password.app, "192.0.2.8", 2)
    fail(password.app, "192.0.2.9", 2)
    assert password.explained(**headers)["answer"]["by"] == "view"
    strange = password.explained("--address", "192.0.2.10", **headers)
    assert strange["answer"]["status"] == 429
    assert strange["throttle"]["limits"][2]["until"]


def test_an_address_is_shown_as_received(password: Asking) -> None:
    fail(password.app, f"{HERE}:40001", 2)
    found = password.explained("--address", f"{HERE}:40002", Authorization=basic("ann"))
    assert found["throttle"]["address"] == f"{HERE}:40002"
    assert found["throttle"]["limits"][1]["until"]
    assert found["answer"] == {"status": 429, "by": "Throttled"}


def test_a_shared_throttle_is_visible(tmp_path: Path, own_redis_server: RedisServer) -> None:
    limits = {"storage_url": own_redis_server.url, "per_account": "2 per hour", "fallback": False}
    node = make_app(tmp_path, throttle=limits)
    add(node, "ann", PASSWORD)
    fail(node, HERE, 2)
    asking = Asking(make_app(tmp_path, throttle=limits), tmp_path)
    found = asking.explained(Authorization=basic("ann"))
    assert found["throttle"]["counted"] == "by all nodes"
    assert found["answer"]["status"] == 429
    assert not any("memory of each process" in note for note in found["notes"])
    own_redis_server.stop()
    down = asking.explained(Authorization=basic("ann"))
    assert "does not answer" in down["throttle"]["error"]
    assert down["steps"][2]["reason"] == "throttle_unavailable"
    close(asking.app)
    close(node)


def asking_genesys(emulator: GenesysEmulator, **changes: Any) -> dict[str, Any]:
    """Return ``configuration_server`` of a contact center whose agents this server knows."""
    return {
        "directory": "genesys",
        "url": emulator.url,
        "client_id": emulator.client_id,
        "client_secret": emulator.client_secret,
        "tenant": "Environment",
        "timeout": 30.0,
        **changes,
    }


def test_max_failures_stops_requests_to_genesys(tmp_path: Path, genesys_emulator: GenesysEmulator) -> None:
    table = asking_genesys(genesys_emulator, max_failures="2 per hour")
    app = make_app(tmp_path, contact_centers={"acme": {"configuration_server": table}})
    add(app, "ann")
    genesys_emulator.add_user("ann", PASSWORD)
    asking, headers = Asking(app, tmp_path), {"Authorization": basic("ann")}
    assert asking.step("configuration_server", **headers)["outcome"] == "authenticated"
    fail(app, "192.0.2.9", 2)
    genesys_emulator.requests.clear()
    row = asking.step("configuration_server", **headers)
    assert (row["reason"], row["outcome"]) == ("throttled", "unavailable")
    assert "configuration_server.max_failures (2 per hour): the directory is not called" in row["detail"]
    assert not genesys_emulator.requests
    close(app)


def test_directory_passwords_are_not_set_here(tmp_path: Path, genesys_emulator: GenesysEmulator) -> None:
    table = asking_genesys(genesys_emulator)
    app = make_app(tmp_path, contact_centers={"acme": {"configuration_server": table, "web_services": {}}})
    add(app, "ann", PASSWORD)
    genesys_emulator.add_user("ann", "another password")
    rows = {row["step"]: row for row in Asking(app, tmp_path).explained(Authorization=basic("ann", "wrong"))["steps"]}
    assert rows["configuration_server"]["reason"] == rows["web_services"]["reason"] == "bad_credentials"
    assert "in Configuration Server" in rows["configuration_server"]["advice"]
    assert "set-password" not in rows["configuration_server"]["advice"]
    assert "accounts set-password acme" in rows["web_services"]["advice"]
    close(app)


class TheirAccounts:
    """A store of the application's own, with one account that has no password."""

    def find(self, identity: Identity) -> str | None:
        return "7" if identity.subject == "ann" else None

    def get(self, account_id: str) -> str | None:
        return account_id

    def describe(self, user: str) -> AccountState:
        return AccountState(user)

    def password_hash(self, contact_center: str, user_name: str) -> str | None:
        return None

    def replace_password_hash(self, contact_center: str, user_name: str, old: str, new: str) -> None:
        raise NotImplementedError


def test_own_stores_get_advice_without_commands(tmp_path: Path, salesforce_emulator: SalesforceEmulator) -> None:
    app = Flask("portal", instance_path=str(tmp_path))
    app.secret_key = "a secret key of the tests"
    salesforce = {"organizations": ["00D000000000001"], "identity_hosts": [salesforce_emulator.url], "timeout": 30.0}
    app.config["GENESYS_AUTH"] = {
        "passwords": FAST,
        "contact_centers": {"acme": {"salesforce": salesforce, "web_services": {}}},
    }
    GenesysAuth(app, accounts=TheirAccounts())
    asking = Asking(app, tmp_path)
    unknown = asking.step("salesforce", **salesforce_emulator.add_user("bea@acme.example"))
    assert unknown["reason"] == "no_account"
    assert "bea@acme.example to the application's own account store" in unknown["advice"]
    for name in ("ann", "bea"):
        row = asking.step("web_services", Authorization=basic(name))
        assert row["reason"] == "bad_credentials"
        assert "the application's own account store" in row["advice"]
        assert "genesys-auth accounts" not in row["advice"]
    runtime(app).state.close()


def test_wrong_disabled_and_good_credentials_are_explained(password: Asking) -> None:
    row = password.step("web_services", Authorization=basic("ann", "wrong"))
    assert row["reason"] == "bad_credentials"
    assert "accounts set-password acme" in row["advice"]
    good = password.step("web_services", Authorization=basic("ann"))
    assert good["outcome"] == "authenticated"
    assert "advice" not in good
    account = accounts_of(password.app).get_by_name("acme", "ann")
    assert account is not None
    accounts_of(password.app).set_enabled(account.id, enabled=False)
    assert "accounts enable acme" in password.step("web_services", Authorization=basic("ann"))["advice"]


def test_unknown_user_names_are_explained(password: Asking) -> None:
    unknown = password.step("web_services", Authorization=basic("bea o'hara"))
    assert unknown["reason"] == "bad_credentials"
    assert unknown["advice"].startswith("No account has this user name. Add the account: ")
    add(password.app, "bea o'hara")
    known = password.step("web_services", Authorization=basic("bea o'hara"))
    assert known["reason"] == "bad_credentials"
    assert "No account" not in known["advice"]
    assert "accounts set-password acme" in known["advice"]


def test_unavailable_accounts_leave_the_general_advice(password: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(identity: object) -> None:
        raise AccountsUnavailable("the database has just gone")

    monkeypatch.setattr(accounts_of(password.app), "find", gone)
    assert "accounts set-password acme" in password.step("web_services", Authorization=basic("bea"))["advice"]


def test_request_without_credentials_has_no_throttle_or_notes(password: Asking) -> None:
    found = password.explained()
    assert (found["throttle"], found["notes"]) == (None, [])
    assert all("advice" not in row for row in found["steps"])


def test_sessions_in_memory_are_unknown_here(tmp_path: Path) -> None:
    app = make_app(tmp_path, state_url="memory://", accounts_url=f"sqlite:///{tmp_path / 'accounts.sqlite3'}")
    accounts_of(app).create_tables()
    assert any("login sessions" in note for note in Asking(app, tmp_path).explained()["notes"])
    close(app)


@pytest.mark.parametrize("path", ["/\x1b]0;evil\x07", "/%1B%5B31mred", "/%E2%80%AEevil"])
def test_terminal_sequences_are_escaped(password: Asking, path: str) -> None:
    for more in ([], ["--json"]):
        shown = password.runner.invoke(genesys_auth, ["explain", "GET", path, *more]).output
        assert shown
        assert all(one.isprintable() or one == "\n" for one in shown)


class Further:
    """A step of the application's own that does something when it is asked."""

    name = "further"
    before = "web_services"

    def __init__(self, done: Callable[[], object]) -> None:
        self._done = done

    def authenticate(self, evidence: Evidence, contact_center: ContactCenter) -> NotApplicable:
        self._done()
        return NotApplicable()

    def challenge(self, request: Request, contact_center: ContactCenter) -> None:
        return None


def fails(error: Exception) -> Callable[[], object]:
    def failing() -> object:
        raise error

    return failing


@pytest.mark.parametrize(
    ("done", "raised"),
    [
        (lambda: json.loads("<html>"), json.JSONDecodeError),
        (fails(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")), ConnectionResetError),
        (fails(FileNotFoundError(errno.ENOENT, "No such file or directory", "ca.pem")), FileNotFoundError),
        (fails(OSError(errno.ENOSPC, "No space left on device")), OSError),
        (lambda: None, None),
    ],
)
def test_errors_of_steps_keep_their_traceback(
    tmp_path: Path, done: Callable[[], object], raised: type[Exception] | None
) -> None:
    app = Flask("portal", instance_path=str(tmp_path))
    app.secret_key = "a secret key of the tests"
    app.config["GENESYS_AUTH"] = {
        "passwords": FAST,
        "state_url": "memory://",
        "contact_centers": {"acme": {"web_services": {}}},
    }
    GenesysAuth(app, extra_steps=[Further(done)])
    result = app.test_cli_runner().invoke(genesys_auth, ["explain", "GET", "/"])
    if raised is None:
        assert result.exit_code == 0, result.output
    else:
        assert type(result.exception) is raised
        assert "Error: " not in result.output


@pytest.mark.parametrize(
    "args",
    [
        ["explain"],
        ["explain", "GET"],
        ["explain", "GET", "/", "--address", "nowhere"],
        ["explain", "GET", "/", "--reference", "0123abcd"],
        ["explain", "GET", "/", "-H", "s3cret"],
        ["explain", "GET", "/", "-H", "@/nonexistent"],
        ["explain", "GET", "/", "-H", "@/"],
        ["explain", "--reference", "x"],
        ["explain", "--reference", ""],
    ],
)
def test_usage_errors_are_status_2(password: Asking, args: list[str]) -> None:
    result = password.runner.invoke(genesys_auth, args)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert "s3cret" not in result.output
