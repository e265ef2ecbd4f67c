"""The sample application with a configuration file: Salesforce, then an LDAP directory, then Web Services."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.config.settings import PasswordSettings
from flask_genesys_auth.testing.salesforce import SalesforceEmulator
from tests.slapd import GROUPS, PASSWORD, PEOPLE, SECRET, SERVICE, SlapdServer, own_slapd

from .asking import ask
from .running import RunningSample, running_sample

__all__ = ["own_slapd"]

WALK = "/api/v2/diagnostics/walk"
_CONFIGURATION = f"""
SECRET_KEY = "a secret of a test, and of nothing else"

[GENESYS_AUTH.contact_centers.acme.salesforce]
organizations = ["ORGANIZATION"]
identity_hosts = ["SALESFORCE"]
timeout = 30

[GENESYS_AUTH.contact_centers.acme.configuration_server]
directory = "ldap"
ca_file = "ca.pem"
timeout = 30

[GENESYS_AUTH.contact_centers.acme.configuration_server.ldap]
servers = ["SERVER"]
base = "{PEOPLE}"
bind_dn = "{SERVICE}"
bind_password = {{ file = "ldap-password" }}
group_base = "{GROUPS}"
sync_roles = true
role_map = {{ "cn=admins,{GROUPS}" = "ROLE_ADMIN" }}

[GENESYS_AUTH.contact_centers.acme.web_services]
"""


class Walks:
    """The running application, with the servers that it asks."""

    def __init__(self, running: RunningSample, slapd: SlapdServer, salesforce: dict[str, str]) -> None:
        self.slapd = slapd
        self.salesforce = salesforce
        self._url = running.url + WALK

    def status(self, headers: dict[str, str]) -> int:
        return ask(self._url, headers=headers).status

    def steps(self, headers: dict[str, str]) -> list[tuple[str, str]]:
        told: dict[str, Any] = ask(self._url, headers=headers).json
        return [(step["step"], step["outcome"]) for step in told["steps"]]


def basic(name: str, password: str = PASSWORD) -> dict[str, str]:
    return dict(urllib3.make_headers(basic_auth=f"{name}:{password}".encode().decode("latin-1")))


def add_accounts(folder: Path) -> None:
    store = SqlAccounts(f"sqlite:///{folder / 'accounts.sqlite3'}")
    store.create_tables()
    for name in ("sally", "lena", "wendy"):
        account = store.add("acme", name, roles={"ROLE_ADMIN"})
    store.set_password(account.id, PasswordHasher(PasswordSettings()).hash("wendy's own"))
    store.close()


@pytest.fixture
def walks(own_slapd: SlapdServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walks]:
    folder = tmp_path_factory.mktemp("sample")
    (folder / "ca.pem").write_text(own_slapd.authority)
    (folder / "ldap-password").write_text(SECRET)
    own_slapd.add_group("admins", own_slapd.add_person("lena"))
    emulator = SalesforceEmulator()
    with emulator.serve():
        sally = emulator.add_user("sally")
        text = _CONFIGURATION.replace("SERVER", own_slapd.url).replace("SALESFORCE", emulator.url)
        (folder / "settings.toml").write_text(text.replace("ORGANIZATION", emulator.organization))
        add_accounts(folder)
        with running_sample(folder, "--config", str(folder / "settings.toml")) as running:
            yield Walks(running, own_slapd, sally)


def test_each_step_in_turn_and_an_outage(walks: Walks) -> None:
    ldap_name, authenticated = "configuration_server", "authenticated"
    assert walks.steps(walks.salesforce) == [("salesforce", authenticated)]
    assert walks.steps(basic("lena")) == [("salesforce", "not_applicable"), (ldap_name, authenticated)]
    both = {**walks.salesforce, "ssid": "another session"}
    assert walks.steps({**both, **basic("lena")}) == [("salesforce", "rejected"), (ldap_name, authenticated)]
    assert walks.steps(basic("wendy", "wendy's own")) == [
        ("salesforce", "not_applicable"),
        (ldap_name, "rejected"),
        ("web_services", authenticated),
    ]
    assert walks.status(basic("lena", "wrong")) == 401
    walks.slapd.stop()
    assert walks.status(basic("lena", "another")) == 503
    assert walks.status(basic("lena")) == 200  # found good before
