"""``flask genesys-auth doctor``: its checks, output and exit status."""

from __future__ import annotations

import errno
import json
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import FlaskGroup

from flask_genesys_auth import GenesysAuth
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.checks import Check
from flask_genesys_auth.cli.doctor import CheckGroup, check_groups, run_checks
from flask_genesys_auth.errors import ConfigurationError
from flask_genesys_auth.state.sql import SqlState
from flask_genesys_auth.testing import GenesysEmulator
from flask_genesys_auth.testing.server import unused_url
from flask_genesys_auth.web.runtime import runtime

if sys.version_info >= (3, 11):
    import tomllib as toml
else:
    import tomli as toml

Doctor = Callable[..., Result]
FAST = {"memory_kib": 7168, "iterations": 5}


def portal(folder: Path, stores: dict[str, Any] | None = None, **settings: Any) -> Flask:
    (folder / "instance").mkdir(exist_ok=True)
    app = Flask("portal", instance_path=str(folder / "instance"))
    app.secret_key = secrets.token_urlsafe(32)
    app.config["GENESYS_AUTH"] = {"passwords": FAST, "contact_centers": {"acme": {"web_services": {}}}, **settings}
    GenesysAuth(app, **(stores or {}))
    return app


def doctor(create: Callable[[], Flask], *options: str) -> Result:
    """Run it as flask does: whatever the application raises while it is made is doctor's to tell."""
    group = FlaskGroup(create_app=create, load_dotenv=False, set_debug_flag=False)
    return CliRunner().invoke(group, ["genesys-auth", "doctor", *options])


def told(create: Callable[[], Flask], *options: str) -> dict[str, dict[str, str]]:
    found = json.loads(doctor(create, "--json", *options).output)
    return {check["name"]: check for check in found["checks"]}


class PatientAccounts(SqlAccounts):
    """Finds nothing slow: a busy machine is not a finding."""

    def checks(self, *, slow: float = 60.0) -> Iterator[Check]:
        return super().checks(slow=slow)


class PatientState(SqlState):
    """Finds nothing slow, as :class:`PatientAccounts`."""

    def checks(self, *, slow: float = 60.0) -> Iterator[Check]:
        return super().checks(slow=slow)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """An application with which all is well."""
    accounts = PatientAccounts(f"sqlite:///{tmp_path / 'accounts.sqlite3'}")
    state = PatientState(f"sqlite:///{tmp_path / 'state.sqlite3'}", "portal", 30)
    made = portal(tmp_path, {"accounts": accounts, "state": state})
    here = runtime(made)
    here.accounts.create_tables()  # type: ignore[attr-defined]  # the built-in store
    here.accounts.add("acme", "ann")  # type: ignore[attr-defined]
    yield made
    here.state.close()
    here.accounts.close()  # type: ignore[attr-defined]


def test_a_healthy_application_exits_with_0(app: Flask) -> None:
    done = doctor(lambda: app)
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith(" ok, 0 warnings, 0 failures")
    titles = [line for line in done.output.splitlines() if line and not line.startswith(" ")]
    rooms = ["versions", "configuration", "application", "access", "cookies", "flask_login", "passwords", "state"]
    assert titles[:-1] == [*rooms, "accounts", "throttle"]
    assert doctor(lambda: app, "--strict").exit_code == 0
    assert doctor(lambda: app, "--quiet").output == "\n" + titles[-1] + "\n"


def test_json_has_each_check(app: Flask) -> None:
    found = json.loads(doctor(lambda: app, "--json").output)
    assert found["healthy"] is True
    assert found["counts"] == {"ok": len(found["checks"]), "warning": 0, "failure": 0}
    assert {check["status"] for check in found["checks"]} == {"ok"}
    assert all(set(check) == {"name", "status", "finding", "advice"} for check in found["checks"])
    assert json.loads(doctor(lambda: app, "--json", "--quiet").output)["checks"] == []


def test_a_warning_fails_with_strict_only(app: Flask) -> None:
    app.config["SESSION_COOKIE_HTTPONLY"] = False
    assert doctor(lambda: app).exit_code == 0
    strict = doctor(lambda: app, "--strict", "--quiet")
    assert strict.exit_code == 1
    lines = strict.output.splitlines()
    assert lines[0] == "cookies"
    assert lines[1] == "  WARNING  httponly: scripts can read the session cookie"
    assert lines[2] == "           -> set SESSION_COOKIE_HTTPONLY = True"
    assert "1 warning, 0 failures" in lines[-1]
    assert json.loads(doctor(lambda: app, "--strict", "--json").output)["healthy"] is False


def test_a_failure_fails(app: Flask) -> None:
    app.secret_key = "dev"
    done = doctor(lambda: app)
    assert done.exit_code == 1
    assert "  FAILURE  secret_key: " in done.output
    assert "1 failure" in done.output.splitlines()[-1]


def test_each_configuration_problem_is_a_check(tmp_path: Path) -> None:
    def broken() -> Flask:
        return portal(tmp_path, contact_centers={"acme": {"web_servces": {}, "salesforce": {"timeout": "soon"}}})

    done = doctor(broken)
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert "  FAILURE  contact_centers.acme.web_servces: is not a known key; did you mean web_services?" in done.output
    assert "  FAILURE  contact_centers.acme.salesforce.timeout: must be a number of seconds" in done.output
    found = told(broken)
    assert found["configuration.contact_centers.acme.web_servces"]["status"] == "failure"


def test_an_error_without_a_path_is_reported(tmp_path: Path) -> None:
    def broken() -> Flask:
        raise ConfigurationError("nothing works")

    assert told(broken)["configuration"]["finding"] == "nothing works"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("settings.toml", "public_url = 's3cret", "is not valid TOML: "),
        ("settings.json", '{"public_url": "s3cret', "is not valid JSON: "),
        ("missing.toml", None, "missing.toml: No such file or directory"),
        ("", None, ": Is a directory"),
    ],
)
def test_an_unreadable_file_is_reported(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_text(content, "utf-8")

    def broken() -> Flask:
        made = Flask("portal", instance_path=str(tmp_path))
        with file.open("rb") as opened:
            made.config["GENESYS_AUTH"] = (json if name.endswith("json") else toml).load(opened)
        return made

    done = doctor(broken)
    assert done.exit_code == 1
    assert "  FAILURE  " in done.output
    assert said in done.output
    other = CliRunner().invoke(FlaskGroup(create_app=broken, load_dotenv=False), ["genesys-auth", "accounts", "list"])
    assert other.exit_code == 1
    assert other.output.startswith("Error: ")
    assert said in other.output
    for shown in (done.output, other.output):
        assert "Traceback" not in shown
        assert "s3cret" not in shown
    (check,) = json.loads(doctor(broken, "--json").output)["checks"]
    assert said in check["finding"]


def _refused() -> None:
    raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


@pytest.mark.parametrize(
    ("bug", "raised"),
    [
        (lambda: int("a bug of theirs"), ValueError),
        (lambda: b"\xff".decode(), UnicodeDecodeError),
        (_refused, ConnectionRefusedError),
    ],
)
def test_other_errors_keep_their_traceback(bug: Callable[[], object], raised: type[Exception]) -> None:
    def broken() -> Flask:
        bug()
        raise AssertionError

    assert type(doctor(broken).exception) is raised
    other = CliRunner().invoke(FlaskGroup(create_app=broken, load_dotenv=False), ["genesys-auth", "accounts", "list"])
    assert type(other.exception) is raised


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_no_color_disables_colours(app: Flask, monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    group = FlaskGroup(create_app=lambda: app, load_dotenv=False, set_debug_flag=False)
    shown = CliRunner().invoke(group, ["genesys-auth", "doctor"], color=True).output
    assert ("\x1b[" in shown) is coloured


def test_a_missing_extension_is_a_failure(tmp_path: Path) -> None:
    done = doctor(lambda: Flask("bare"))
    assert done.exit_code == 1
    assert "'bare' has no GenesysAuth" in done.output


class _Crashing:
    name = "crashing"
    before = "salesforce"

    def authenticate(self, evidence: Any, contact_center: Any) -> Any:
        raise NotImplementedError

    def challenge(self, request: Any, contact_center: Any) -> None:
        return None

    def checks(self) -> Iterator[Check]:
        yield Check("badge", "ok", "the reader answers")
        raise ValueError("password hunter2 is wrong")


def test_a_crashing_group_stops_no_other_group(app: Flask, tmp_path: Path) -> None:
    def create() -> Flask:
        made = Flask("other", instance_path=str(tmp_path / "instance"))
        made.secret_key = app.secret_key
        made.config["GENESYS_AUTH"] = app.config["GENESYS_AUTH"]
        GenesysAuth(made, extra_steps=[_Crashing()])
        return made

    found = told(create)
    assert found["crashing.acme.badge"]["status"] == "ok"
    crashed = found["crashing.acme"]
    assert crashed["status"] == "failure"
    assert "ValueError" in crashed["finding"]
    assert "hunter2" not in str(found)
    assert Path(__file__).name in crashed["finding"]
    assert found["throttle.storage"]["status"] == "ok"
    assert "crashing.acme" not in told(create, "--offline")


def test_a_hanging_group_times_out(app: Flask) -> None:
    let_go = threading.Event()

    def hang() -> list[Check]:
        let_go.wait(300)
        return []

    well = Check("well", "ok", "fine")
    rooms = [CheckGroup("hanging", hang), CheckGroup("well", lambda: [well])]
    try:
        late, other = run_checks(app, rooms, seconds=2.5)
    finally:
        let_go.set()
    assert (late.name, late.status, late.finding) == ("hanging", "failure", "no result within 2.5 s")
    assert other == well


def test_more_groups_than_threads_keep_their_order(app: Flask) -> None:
    checks = [Check(str(place), "ok", "") for place in range(100)]
    rooms = [CheckGroup(check.name, partial(list, [check])) for check in checks]
    assert run_checks(app, rooms, seconds=60) == checks


def test_our_own_errors_keep_their_message(app: Flask) -> None:
    def refuse() -> list[Check]:
        raise ConfigurationError("state_url: is of another version")

    (check,) = run_checks(app, [CheckGroup("state", refuse)], seconds=60)
    assert check.finding == "state_url: is of another version"


def test_own_stores_may_have_checks(app: Flask, tmp_path: Path) -> None:
    class Silent:
        def find(self, identity: Any) -> None:
            return None

        def get(self, account_id: str) -> None:
            return None

    class Talking(Silent):
        def checks(self) -> list[Check]:
            return [Check("accounts.crm", "warning", "it is slow", "look there")]

    for store, expected in ((Silent(), "Silent is the application's own"), (Talking(), "it is slow")):
        made = Flask("other", instance_path=str(tmp_path / "instance"))
        made.secret_key = app.secret_key
        made.config["GENESYS_AUTH"] = {"state_url": "memory://", "contact_centers": {"acme": {}}, "passwords": FAST}
        GenesysAuth(made, accounts=store)
        found = run_checks(made, check_groups(made, runtime(made)), seconds=60)
        (check,) = [check for check in found if check.name.startswith("accounts")]
        assert expected in check.finding


def test_accounts_and_contact_centers_are_compared(app: Flask, tmp_path: Path) -> None:
    accounts: Any = runtime(app).accounts
    accounts.add("acmé", "bob")
    found = told(lambda: app)
    assert found["accounts.contact_centers.acme"]["finding"] == "accounts: 1"
    foreign = found["accounts.contact_centers.acmé"]
    assert (foreign["status"], "not configured" in foreign["finding"]) == ("warning", True)
    accounts.delete(accounts.get_by_name("acme", "ann").id)
    assert "no accounts" in told(lambda: app)["accounts.contact_centers.acme"]["finding"]


@pytest.mark.parametrize(("provision", "status"), [(True, "ok"), (False, "warning")])
def test_provisioning_needs_no_accounts(tmp_path: Path, provision: bool, status: str) -> None:
    provider = {"metadata": "https://idp.example/metadata", "provision": provision}
    if provision:
        provider["email_domains"] = ["acme.example"]
    table = {"web_services": {}, "saml": {"identity_providers": {"company": provider}}}
    made = portal(tmp_path, public_url="https://portal.example", contact_centers={"acme": table})
    runtime(made).accounts.create_tables()  # type: ignore[attr-defined]  # the built-in store
    check = told(lambda: made, "--offline")["accounts.contact_centers.acme"]
    assert check["status"] == status
    assert ("SAML logins create them" in check["finding"]) is provision


def test_accounts_without_tables_are_one_failure(tmp_path: Path) -> None:
    found = told(lambda: portal(tmp_path))
    assert found["accounts.tables"]["status"] == "failure"
    assert "init-db" in found["accounts.tables"]["finding"]
    assert "accounts.contact_centers.acme" not in found
    assert not (tmp_path / "instance" / "state.sqlite3").exists()


def test_offline_skips_network_checks(app: Flask, tmp_path: Path) -> None:
    emulator = GenesysEmulator()
    with emulator.serve() as server:
        table = {
            "url": server.url,
            "client_id": emulator.client_id,
            "client_secret": emulator.client_secret,
        }
        centers = {"acme": {"configuration_server": table}}
        offline = told(lambda: portal(tmp_path, contact_centers=centers), "--offline")
        assert not emulator.requests
        assert not any(name.startswith("configuration_server.") for name in offline)
        online = told(lambda: portal(tmp_path, contact_centers=centers))
        assert online["configuration_server.acme.genesys.client"]["status"] == "ok"
        assert [request.form["grant_type"] for request in emulator.requests] == ["client_credentials"]


def test_an_unreachable_server_is_a_failure(app: Flask, tmp_path: Path) -> None:
    url = unused_url()
    table = {"organizations": ["00D000000000001"], "identity_hosts": [url], "timeout": 30}
    found = told(lambda: portal(tmp_path, contact_centers={"acme": {"salesforce": table}}))
    check = found["salesforce.acme.127.0.0.1"]
    assert check["status"] == "failure"
    assert "nothing listens there" in check["advice"]


def test_no_configured_secret_is_shown(tmp_path: Path) -> None:
    marks = [f"s3cr3t-{secrets.token_hex(8)}" for _ in range(6)]
    (tmp_path / "client-secret").write_text(marks[0])
    (tmp_path / "client-secret").chmod(0o644)
    closed = unused_url()
    host = closed.removeprefix("http://")
    table = {
        "url": "https://127.0.0.1:9",
        "client_id": "portal",
        "client_secret": {"file": str(tmp_path / "client-secret")},
        "proxy": f"http://proxyuser:{marks[1]}@{host}",
    }

    def create() -> Flask:
        made = portal(
            tmp_path,
            state_url=f"redis://user:{marks[2]}@{host}/0",
            accounts_url=f"postgresql+psycopg://user:{marks[3]}@{host}/portal",
            throttle={"storage_url": f"redis://:{marks[4]}@{host}/1"},
            contact_centers={"acme": {"configuration_server": table, "web_services": {}}},
        )
        made.secret_key = marks[5]
        return made

    found = told(create)
    failed = {name for name, check in found.items() if check["status"] == "failure"}
    wanted = {"state.server", "accounts.tables", "throttle.server", "configuration_server.acme.genesys"}
    assert failed >= {*wanted, "files.contact_centers.acme.configuration_server.client_secret"}
    printed = doctor(create).output + str(found)
    for mark in marks:
        assert mark not in printed
    assert (tmp_path / "client-secret").name in printed
