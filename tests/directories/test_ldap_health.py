"""Health checks of a real OpenLDAP: each failure beside its healthy control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_genesys_auth import GenesysAuth
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.checks import Check
from flask_genesys_auth.cli.doctor import check_groups, run_checks
from flask_genesys_auth.config.addresses import LdapServer
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.directories.ldap import LdapDirectory
from flask_genesys_auth.web.runtime import runtime
from tests.slapd import BASE, GROUPS, PEOPLE, SECRET, SERVICE, SlapdServer

from .scripted import ScriptedServer

NAME = "configuration_server.ldap"


def look(slapd: SlapdServer, **changes: Any) -> dict[str, Check]:
    directory = LdapDirectory(slapd.settings(**changes))
    found = {check.name.removeprefix(f"{NAME}."): check for check in directory.checks()}
    assert all(SECRET not in repr(check) for check in found.values())
    assert all(check.advice for check in found.values() if check.status != "ok")
    return found


def test_all_is_well(slapd: SlapdServer) -> None:
    found = look(slapd, group_base=GROUPS)
    assert {check.status for check in found.values()} == {"ok"}
    url = f"ldap://127.0.0.1:{slapd.port}"
    assert list(found) == [url, f"{url}.bind_dn", f"{url}.base", f"{url}.group_base"]
    assert "ms, no TLS" in found[url].finding
    assert SERVICE in found[f"{url}.bind_dn"].finding


@pytest.mark.parametrize("ldaps", [True, False])
def test_tls_version_is_shown(slapd: SlapdServer, ldaps: bool) -> None:
    servers = (LdapServer(ldaps, "127.0.0.1", slapd.tls_port if ldaps else slapd.port),)
    found = look(slapd, servers=servers, start_tls=True, ca_file=slapd.authority)
    assert "TLSv1." in found[str(servers[0])].finding
    refused = look(slapd, servers=servers, start_tls=True)
    assert list(refused) == [str(servers[0])]
    assert refused[str(servers[0])].status == "failure"
    assert "certificate is refused" in refused[str(servers[0])].finding


@pytest.mark.parametrize(
    ("changes", "key", "finding"),
    [
        ({"bind_password": Secret("wr0ng")}, "bind_dn", "result 49"),
        ({"base": f"ou=nowhere,{BASE}"}, "base", "does not exist"),
        ({"group_base": f"ou=nowhere,{BASE}"}, "group_base", "does not exist"),
        ({"bind_dn": "", "bind_password": None}, "base", "does not exist, or bind_dn may not read it"),
    ],
)
def test_wrong_settings_are_failures(slapd: SlapdServer, changes: dict[str, Any], key: str, finding: str) -> None:
    found = look(slapd, **changes)
    failure = found[f"ldap://127.0.0.1:{slapd.port}.{key}"]
    assert failure.status == "failure"
    assert finding in failure.finding
    assert [check.status for check in found.values()].count("failure") == 1


def test_advice_matches_the_finding(own_slapd: SlapdServer) -> None:
    tls, plain = LdapServer(True, "127.0.0.1", own_slapd.tls_port), LdapServer(False, "127.0.0.1", own_slapd.port)
    assert "ca_file" in look(own_slapd, servers=(tls,))[str(tls)].advice
    wrong_port = LdapServer(True, "127.0.0.1", own_slapd.port)
    assert "check its port" in look(own_slapd, servers=(wrong_port,), timeout=2)[str(wrong_port)].advice
    wrong_password = look(own_slapd, bind_password=Secret("wr0ng"))[f"{plain}.bind_dn"]
    assert "check ldap.bind_dn and ldap.bind_password" in wrong_password.finding
    assert wrong_password.advice.startswith("follow the advice in the finding")
    with own_slapd.hanging():
        assert "raise timeout" in look(own_slapd, timeout=1)[str(plain)].advice
    own_slapd.stop()
    assert "nothing listens there" in look(own_slapd)[str(plain)].advice


def test_service_account_without_tls_gets_advice(own_slapd: SlapdServer, tmp_path: Path) -> None:
    own_slapd.stop()
    file = tmp_path / "slapd.conf"
    file.write_text(file.read_text().replace("threads 8", "threads 8\nsecurity simple_bind=128"))
    own_slapd.start()
    told = look(own_slapd)[f"{own_slapd.url}.bind_dn"]
    assert "it requires TLS: use ldaps:// or start_tls = true" in told.finding
    assert "bind_password" not in told.finding
    good = look(own_slapd, start_tls=True, ca_file=own_slapd.authority)
    assert {check.status for check in good.values()} == {"ok"}


def test_silent_server_is_one_failure(own_slapd: SlapdServer) -> None:
    with own_slapd.hanging():
        (check,) = look(own_slapd, timeout=1).values()
    assert (check.status, check.finding) == ("failure", "no complete answer before the timeout")


def test_every_server_is_checked(slapd: SlapdServer) -> None:
    with ScriptedServer(lambda asked: None) as broken:
        servers = (LdapServer(False, "127.0.0.1", broken.port), LdapServer(False, "127.0.0.1", slapd.port))
        found = look(slapd, servers=servers)
    assert found[str(servers[0])].status == "failure"
    assert found[f"{servers[1]}.base"].status == "ok"


def test_anonymous_refusal_counts_as_healthy(slapd: SlapdServer) -> None:
    with ScriptedServer(lambda asked: asked.result(50)) as server:
        (found,) = LdapDirectory(server.by_template()).checks()
    assert found.status == "ok"
    with ScriptedServer(lambda asked: asked.result(50)) as server:
        _, base = LdapDirectory(server.settings()).checks()
    assert base.status == "failure"
    assert "access rules" in base.finding


def test_passwords_in_the_open_are_warned_of(slapd: SlapdServer) -> None:
    directory = LdapDirectory(slapd.settings(servers=(LdapServer(False, "ldap.invalid", 389),)))
    found = list(directory.checks())
    assert [check.status for check in found] == ["failure", "warning"]
    assert "without encryption" in found[1].finding


def test_doctor_shows_it(slapd: SlapdServer, tmp_path: Path) -> None:
    app = Flask("portal", instance_path=str(tmp_path))
    app.secret_key = "k" * 32
    table = {"servers": [slapd.url], "start_tls": False, "base": PEOPLE, "bind_dn": SERVICE, "bind_password": SECRET}
    center = {"configuration_server": {"directory": "ldap", "ldap": table}}
    app.config["GENESYS_AUTH"] = {"state_url": "memory://", "contact_centers": {"acme": center}}
    GenesysAuth(app)
    here = runtime(app)
    found = {check.name: check for check in run_checks(app, check_groups(app, here, online=True), seconds=60)}
    told = found[f"configuration_server.acme.ldap.{slapd.url}.bind_dn"]
    assert told == Check(told.name, "ok", f"{SERVICE} is bound")
    assert not [room for room in check_groups(app, here, online=False) if "configuration_server" in room.name]
    here.state.close()
    store = here.accounts
    assert isinstance(store, SqlAccounts)
    store.close()
