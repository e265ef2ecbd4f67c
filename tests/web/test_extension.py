"""``init_app``: what it refuses, sets and keeps apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.engine import make_url

from flask_genesys_auth import (
    Authenticated,
    ConfigurationError,
    DirectoryEntry,
    GenesysAuth,
    Identity,
    NotApplicable,
    Outcome,
    Rejected,
    authenticated,
    rejected,
    unavailable,
)
from flask_genesys_auth.chain.protocols import Challenge, PasswordStore
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.web.runtime import runtime

from .conftest import MakeApp, accounts_of

ANN = ("ann@acme.example", "ann's: password")


class Person:
    """A directory of the application's own."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def verify(self, user_name: str, password: str) -> DirectoryEntry | Rejected:
        if password == "from the directory":
            return DirectoryEntry({"username": user_name})
        return Rejected()


class Token:
    """A step of the application's own."""

    name = "token"

    def authenticate(self, evidence: Any, contact_center: Any) -> Outcome:
        if evidence.request.headers.get("X-Token") == "good":
            return Authenticated(Identity("token", contact_center.name, ANN[0]))
        return NotApplicable()

    def challenge(self, request: Any, contact_center: Any) -> Challenge | None:
        return Challenge(scheme="Token")


class TokenFirst(Token):
    before = "salesforce"


not_a_step = object()


def test_a_second_init_app_is_an_error(make_app: MakeApp) -> None:
    app = make_app()
    with pytest.raises(ConfigurationError, match="call init_app once"):
        GenesysAuth().init_app(app)


def test_one_extension_serves_several_applications(make_app: MakeApp, tmp_path: Path) -> None:
    auth = GenesysAuth()
    apps = []
    for name in ("one", "two"):
        app = Flask(name, instance_path=str(tmp_path / name))
        app.secret_key = name
        app.config["GENESYS_AUTH"] = {"state_url": "memory://", "contact_centers": {name: {}}}
        auth.init_app(app)
        apps.append(app)
    assert [list(runtime(app).contact_centers) for app in apps] == [["one"], ["two"]]
    assert runtime(apps[0]).state is not runtime(apps[1]).state


def test_applications_on_one_store_reject_each_others_sessions(make_app: MakeApp, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    first, second = (make_app({"state_url": url, "state_namespace": name}) for name in ("first", "second"))
    same = make_app(
        {"state_url": url, "state_namespace": "first", "accounts_url": str(runtime(first).settings.accounts_url)}
    )
    client = first.test_client(user=ANN[0])
    cookie = client.get_cookie("session")
    assert cookie is not None
    assert client.get("/private").status_code == 200
    for other, status in ((second, 401), (same, 200)):
        theirs = other.test_client()
        theirs.set_cookie("session", cookie.value)
        assert theirs.get("/private").status_code == status


def test_missing_settings_are_reported_together(tmp_path: Path) -> None:
    app = Flask("bare", instance_path=str(tmp_path))
    with pytest.raises(ConfigurationError, match="GENESYS_AUTH"):
        GenesysAuth(app)
    app.config["GENESYS_AUTH"] = {"contact_centers": {"acme": {}}, "state_url": "memory://"}
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        GenesysAuth(app)
    app.secret_key = "now there"
    GenesysAuth(app)
    assert runtime(app).contact_centers.default is not None


def test_login_disabled_is_refused_outside_testing(make_app: MakeApp) -> None:
    with pytest.raises(ConfigurationError, match="LOGIN_DISABLED"):
        make_app(flask_config={"LOGIN_DISABLED": True, "TESTING": False})
    app = make_app(flask_config={"LOGIN_DISABLED": True})
    assert app.test_client().get("/private").status_code == 401  # ours refuses all the same


def test_session_cookies_get_secure_defaults(make_app: MakeApp) -> None:
    plain = make_app()
    assert plain.config["SESSION_COOKIE_SAMESITE"] == "Lax"
    assert plain.config["SESSION_COOKIE_HTTPONLY"] is True
    assert plain.config["SESSION_COOKIE_SECURE"] is False
    public = make_app({"public_url": "https://portal.acme.example"}, flask_config={"SESSION_COOKIE_SAMESITE": "Strict"})
    assert public.config["SESSION_COOKIE_SECURE"] is True
    assert public.config["SESSION_COOKIE_SAMESITE"] == "Strict"  # nothing here needs Lax


def test_unprotected_views_walk_only_on_demand(make_app: MakeApp) -> None:
    asked: list[str] = []

    class Counting(Token):
        def authenticate(self, evidence: Any, contact_center: Any) -> Outcome:
            asked.append(evidence.request.path)
            return NotApplicable()

    client = make_app(extra_steps=[Counting()]).test_client()
    client.get("/open")
    assert asked == []
    client.get("/who")
    client.get("/private")
    assert asked == ["/who", "/private"]


@pytest.mark.parametrize("given", [Token, Token(), "tests.web.test_extension:Token"])
def test_extra_steps_are_objects_classes_or_names(make_app: MakeApp, given: Any) -> None:
    app = make_app(extra_steps=[given])
    assert [step.name for step in runtime(app).contact_centers["acme"].steps][3] == "token"
    answer = app.test_client().get("/private", headers={"X-Token": "good"})
    assert answer.get_json()["by"] == "token"
    refused = app.test_client().get("/private", headers={"X-Token": "bad"})
    assert refused.status_code == 401
    assert "Token" in refused.headers.getlist("WWW-Authenticate")


def test_configured_extra_steps_keep_their_position(make_app: MakeApp) -> None:
    app = make_app({"extra_steps": ["tests.web.test_extension:TokenFirst"]})
    assert runtime(app).contact_centers["acme"].steps[0].name == "token"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tests.web.nowhere:Token", "cannot be imported"),
        ("tests.web.test_extension:not_a_step", "is not a step"),
    ],
)
def test_invalid_extra_steps_are_an_error(make_app: MakeApp, given: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_app({"extra_steps": [given]})


def test_the_application_may_have_its_own_directory(make_app: MakeApp) -> None:
    table = {
        "configuration_server": {"directory": "tests.web.test_extension:Person", "url": "https://gws.internal"},
        "web_services": {},
    }
    app = make_app({"contact_centers": {"acme": table}})
    client = app.test_client()
    assert client.get("/private", auth=(ANN[0], "from the directory")).get_json()["by"] == "configuration_server"
    assert client.get("/private", auth=ANN).get_json()["by"] == "web_services"
    assert client.get("/private", auth=(ANN[0], "wrong")).status_code == 401
    table["configuration_server"]["directory"] = "tests.web.nowhere:Person"
    with pytest.raises(ConfigurationError, match=r"contact_centers\.acme\.configuration_server\.directory"):
        make_app({"contact_centers": {"acme": table}})


def test_web_services_needs_a_store_with_passwords(make_app: MakeApp) -> None:
    class NoPasswords:
        def find(self, identity: Identity) -> None:
            return None

        def get(self, account_id: str) -> None:
            return None

    with pytest.raises(ConfigurationError, match="has no passwords"):
        make_app(accounts=NoPasswords())
    app = make_app({"contact_centers": {"acme": {}}}, accounts=NoPasswords())
    assert not isinstance(runtime(app).accounts, PasswordStore)


def test_the_application_may_have_its_own_state(make_app: MakeApp) -> None:
    state = MemoryState("mine")
    app = make_app(state=state)
    assert runtime(app).state is state
    assert app.test_client(user=ANN[0]).get("/private").status_code == 200


def test_the_state_creates_its_tables_and_folder(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app({"state_url": f"sqlite:///{tmp_path / 'new' / 'state.sqlite3'}"})
    client = app.test_client(user=ANN[0])
    assert client.get("/private").status_code == 200
    assert make_url(runtime(app).settings.state_url).database == str(tmp_path / "new" / "state.sqlite3")
    assert (tmp_path / "new" / "state.sqlite3").exists()


def test_each_walk_sends_one_signal(make_app: MakeApp) -> None:
    app = make_app()
    heard: list[str] = []

    def note(name: str) -> Any:
        def listen(sender: Flask, **_: object) -> None:
            heard.append(name)

        return listen

    listeners = [note("authenticated"), note("rejected"), note("unavailable")]
    for signal, listener in zip((authenticated, rejected, unavailable), listeners, strict=True):
        signal.connect(listener, app)
    client = app.test_client()
    client.get("/private", auth=ANN)
    client.get("/private", auth=(ANN[0], "wrong"))
    client.get("/private")
    assert heard == ["authenticated", "rejected"]
    accounts_of(app).close()


def test_failed_logins_are_logged_without_secrets(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    client = make_app().test_client()
    client.get("/private", auth=("ann@acme.example", "s3cret-guess"))
    client.get("/private", headers={"ssid": "00Dxx!s3cret", "surl": "https://evil.example/id/x"})
    client.get("/private", auth=("evil\u2028name", "s3cret-guess"))
    assert "bad_credentials" in caplog.text
    assert "ann@acme.example" in caplog.text
    assert "s3cret" not in caplog.text
    assert "\u2028" not in caplog.text
    fields = caplog.records[0].__dict__["genesys_auth"]
    assert {"event", "step", "reason", "contact_center", "account", "address", "elapsed"} <= set(fields)


SALESFORCE = {"organizations": ["00D000000000001"]}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"web_services": {}}, []),
        ({"web_services": {}, "salesforce": SALESFORCE}, ["urllib3"]),
    ],
)
def test_heavy_libraries_are_imported_only_when_configured(
    tmp_path: Path, table: dict[str, Any], expected: list[str]
) -> None:
    program = """
import json, sys
import flask_genesys_auth
from flask import Flask
app = Flask("lean", instance_path=sys.argv[1])
app.secret_key = "lean"
app.config["GENESYS_AUTH"] = {"contact_centers": {"acme": json.loads(sys.argv[2])}}
flask_genesys_auth.GenesysAuth(app)
heavy = "cryptography ldap3 limits lxml onelogin psycopg redis sqlalchemy.orm urllib3 xmlsec".split()
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), json.dumps(table)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == expected


def test_an_unknown_login_view_is_logged(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    navigation = {"Sec-Fetch-Mode": "navigate"}
    app = make_app({"login_view": "pages.lgoin", "unprotected_endpoints": ["healtz", "marked"]})
    client = app.test_client()
    for _ in range(2):
        answer = client.get("/private", headers=navigation)
        assert answer.status_code == 401
        assert "Please sign in" in answer.text
    told = [record.getMessage() for record in caplog.records if "has no endpoint" in record.getMessage()]
    assert told == [
        "configuration_warning: login_view: the application has no endpoint 'pages.lgoin'; users are not redirected",
        "configuration_warning: unprotected_endpoints: the application has no endpoint 'healtz'",
    ]
    good = make_app({"login_view": "open_"}).test_client().get("/private", headers=navigation)
    assert good.status_code == 302
    assert good.headers["Location"] == "/open?next=/private"


def test_all_problems_are_reported_at_once() -> None:
    app = Flask(__name__)
    app.config.update(LOGIN_DISABLED=True, GENESYS_AUTH={"contact_centers": {"acme": {"web_service": {}}}})
    with pytest.raises(ConfigurationError) as caught:
        GenesysAuth(app)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "SECRET_KEY",
        "LOGIN_DISABLED",
        "contact_centers.acme.web_service",
    ]
    app = Flask(__name__)
    app.secret_key = "k"
    app.config["GENESYS_AUTH"] = {"contact_centers": {"acme": {"web_services": {}}}, "state_url": "memory://"}
    with pytest.raises(ConfigurationError) as caught:
        GenesysAuth(app, extra_steps=["nowhere.at:All", "json:JSONDecoder", "json:Nothing"])
    assert len(caught.value.problems) == 3
    assert all(problem.startswith("extra_steps: ") and "\n" not in problem for problem in caught.value.problems)


def test_a_contact_center_without_steps_is_logged(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    make_app()
    assert "no step is enabled" not in caplog.text
    make_app({"contact_centers": {"acme": {"web_services": {}}, "globex": {}}})
    assert "contact_centers.globex: no step is enabled" in caplog.text
    assert "contact_centers.acme" not in caplog.text
