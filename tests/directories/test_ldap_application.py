"""An application with an LDAP directory: accounts, roles, cached results."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify

from flask_genesys_auth import GenesysAuth, current_decision, current_user, roles_required
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.chain.outcomes import Identity
from flask_genesys_auth.chain.protocols import PasswordStore
from flask_genesys_auth.errors import ConfigurationError
from flask_genesys_auth.web.runtime import runtime
from tests.slapd import GROUPS, PASSWORD, PEOPLE, SECRET, SERVICE, SlapdServer

Make = Callable[..., Flask]
ROLES = {f"CN=App-Agents,{GROUPS.upper()}": "ROLE_AGENT", f"cn=app-chiefs, {GROUPS}": "ROLE_SUPERVISOR"}


@pytest.fixture
def make(slapd: SlapdServer, tmp_path: Path) -> Iterator[Make]:
    made: list[Flask] = []

    def application(accounts: Any = None, above: dict[str, Any] | None = None, **ldap: Any) -> Flask:
        table = {
            "servers": [slapd.url],
            "start_tls": False,
            "base": PEOPLE,
            "bind_dn": SERVICE,
            "bind_password": SECRET,
        }
        step = {"directory": "ldap", "timeout": 30, "ldap": {**table, **ldap}, **(above or {})}
        app = Flask("portal", instance_path=str(tmp_path))
        app.secret_key = "k" * 32
        app.config["GENESYS_AUTH"] = {
            "state_url": "memory://",
            "contact_centers": {"acme": {"configuration_server": step}},
        }
        GenesysAuth(app, accounts=accounts)
        made.append(app)
        if accounts is None:
            store(app).create_tables()
        app.add_url_rule(
            "/who", "who", lambda: jsonify(by=current_decision.authenticated_by, roles=sorted(current_user.roles))
        )
        app.add_url_rule("/chief", "chief", roles_required("ROLE_SUPERVISOR")(lambda: "chief"))
        return app

    yield application
    for app in made:
        if isinstance(runtime(app).accounts, SqlAccounts):
            store(app).close()


def store(app: Flask) -> SqlAccounts:
    found = runtime(app).accounts
    assert isinstance(found, SqlAccounts)
    return found


def basic(name: str, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


def test_directory_user_needs_an_account(slapd: SlapdServer, make: Make) -> None:
    slapd.add_person("app-ann")
    app = make()
    client = app.test_client()
    assert client.get("/who", headers=basic("app-ann")).status_code == 401
    store(app).add("acme", "app-ann", roles={"ROLE_AGENT"})
    assert client.get("/who", headers=basic("app-ann")).json == {"by": "configuration_server", "roles": ["ROLE_AGENT"]}
    assert client.get("/who", headers=basic("app-ann", "wrong")).status_code == 401
    assert client.get("/who", headers=basic("app-ann", "")).status_code == 401


def test_accounts_are_found_by_identity(slapd: SlapdServer, make: Make) -> None:
    slapd.add_person("app-emp", employeeNumber="4711")
    app = make(above={"match": "identity"}, attributes={"identity": "employeeNumber"})
    account = store(app).add("acme", "somebody else")
    client = app.test_client()
    assert client.get("/who", headers=basic("app-emp")).status_code == 401
    store(app).link(account.id, "configuration_server", "4711")
    assert client.get("/who", headers=basic("app-emp")).status_code == 200


@pytest.mark.parametrize("how", [{"attributes": {"groups": "memberOf"}}, {"group_base": GROUPS}])
def test_roles_follow_the_directorys_groups(slapd: SlapdServer, make: Make, how: dict[str, Any]) -> None:
    ann = slapd.add_person("app-ann")
    bob = slapd.add_person("app-bob")
    slapd.add_group("app-agents", ann, bob)
    slapd.add_group("app-chiefs", bob)
    slapd.change(f"cn=app-chiefs,{GROUPS}", member=bob)
    slapd.add_group("app-others", ann)
    app = make(role_map=ROLES, sync_roles=True, above={"reuse_verified_for": 0}, **how)
    for name in ("app-ann", "app-bob"):
        store(app).add("acme", name, roles={"ROLE_ADMIN"})
    client = app.test_client()
    assert client.get("/who", headers=basic("app-ann")).json == {"by": "configuration_server", "roles": ["ROLE_AGENT"]}
    assert client.get("/chief", headers=basic("app-ann")).status_code == 403
    assert client.get("/chief", headers=basic("app-bob")).text == "chief"
    slapd.change(f"cn=app-chiefs,{GROUPS}", member=ann)
    assert client.get("/chief", headers=basic("app-ann")).text == "chief"
    assert client.get("/chief", headers=basic("app-bob")).status_code == 403


def test_roles_change_only_after_a_real_login(slapd: SlapdServer, make: Make) -> None:
    slapd.add_group("ada-agents", slapd.add_person("app-ada"))
    attributes = {"groups": "memberOf"}
    app = make(role_map={f"cn=ada-agents,{GROUPS}": "ROLE_AGENT"}, sync_roles=True, attributes=attributes)
    store(app).add("acme", "app-ada", roles={"ROLE_ADMIN"})
    account = store(app).get_by_name("acme", "app-ada")
    assert account is not None
    app.test_client().get("/who", headers=basic("app-ada", "wrong"))
    with app.test_request_context("/who", headers=basic("app-ada")) as context:
        decision = runtime(app).chain.walk(context.request, dry_run=True)
    assert decision.roles == {"ROLE_ADMIN"}
    other = make(attributes=attributes)
    assert other.test_client().get("/who", headers=basic("app-ada")).json["roles"] == ["ROLE_ADMIN"]  # type: ignore[index]
    assert app.test_client().get("/who", headers=basic("app-ada")).json["roles"] == ["ROLE_AGENT"]  # type: ignore[index]


def test_failed_role_update_is_uncounted(slapd: SlapdServer, make: Make) -> None:
    slapd.add_person("app-ann")
    app = make(role_map=ROLES, sync_roles=True, group_base=GROUPS)
    client = app.test_client()
    store(app).close()
    (Path(app.instance_path) / "accounts.sqlite3").write_bytes(b"this is no database" * 100)
    for _ in range(4):  # more than max_failures
        assert client.get("/who", headers=basic("app-ann")).status_code == 503
    (Path(app.instance_path) / "accounts.sqlite3").unlink()
    store(app).create_tables()
    store(app).add("acme", "app-ann")
    assert client.get("/who", headers=basic("app-ann")).status_code == 200


def test_remembered_credentials_cost_no_bind(slapd: SlapdServer, make: Make) -> None:
    slapd.add_person("app-ann")
    app = make()
    store(app).add("acme", "app-ann")
    client = app.test_client()
    assert client.get("/who", headers=basic("app-ann")).status_code == 200
    before = slapd.binds()
    for _ in range(20):
        assert client.get("/who", headers=basic("app-ann")).status_code == 200
    assert slapd.binds() == before
    assert client.get("/who", headers=basic("app-ann", "wrong")).status_code == 401
    assert slapd.binds() == before + 1


def test_guessing_does_not_lock_the_account_there(slapd: SlapdServer, make: Make) -> None:
    slapd.add_person("app-target")
    app = make()
    store(app).add("acme", "app-target")
    client = app.test_client()
    statuses = [client.get("/who", headers=basic("app-target", f"guess {place}")).status_code for place in range(6)]
    assert statuses[:2] == [401, 401]
    assert set(statuses[2:]) == {429}
    with slapd.admin() as connection:
        connection.search(PEOPLE, "(uid=app-target)", attributes=["pwdAccountLockedTime", "pwdFailureTime"])
        found = connection.response[0]["raw_attributes"]
    assert (found["pwdAccountLockedTime"], len(found["pwdFailureTime"])) == ([], 2)


def test_outage_is_not_a_wrong_password(own_slapd: SlapdServer, make: Make) -> None:
    own_slapd.add_person("app-ann")
    app = make(servers=[own_slapd.url])
    store(app).add("acme", "app-ann")
    client = app.test_client()
    own_slapd.stop()
    for _ in range(4):
        answer = client.get("/who", headers=basic("app-ann"))
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
    own_slapd.start()
    assert client.get("/who", headers=basic("app-ann")).status_code == 200


class Plain:
    """An account store that can do no more than find."""

    def find(self, identity: Identity) -> None:
        return None

    def get(self, account_id: str) -> None:
        return None


def test_store_without_role_changes_is_a_configuration_error(make: Make) -> None:
    assert not isinstance(runtime(make(accounts=Plain())).accounts, PasswordStore)
    with pytest.raises(
        ConfigurationError, match=r"acme\.configuration_server\.ldap\.sync_roles: requires an account store"
    ):
        make(accounts=Plain(), role_map=ROLES, sync_roles=True, group_base=GROUPS)
