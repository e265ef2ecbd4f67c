"""Checks what the tables of a configuration say together, reads its files, and makes the frozen values of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from . import addresses, claims, databases, rules
from .checks import Checks
from .ldap import LdapTable, ldap_values
from .problems import Problems, dotted, nearest
from .saml import SamlTables
from .texts import ENGLISH_TAG
from .values import (
    ConfigurationServer,
    ContactCenterSettings,
    IdentityProvider,
    KeyPair,
    NamedFile,
    PasswordSettings,
    Salesforce,
    SalesforceHeaders,
    Saml,
    SessionSettings,
    Settings,
    ThrottleSettings,
    WebServices,
)

_TABLES: dict[str, Callable[..., object]] = {
    "salesforce_headers": SalesforceHeaders,
    "session": SessionSettings,
    "passwords": PasswordSettings,
    "throttle": ThrottleSettings,
}
_STEPS = ("salesforce", "configuration_server", "web_services", "saml")
_SETS = ("hosts", "domains", "realms", "allowed_origins", "organizations", "email_domains", "unprotected_endpoints")


class Build:
    """One reading of one configuration; the tables are changed in place from what is written to what is meant.

    :param data: the tables as the schemas left them; what they refused is absent.
    :param problems: what they refused, and where this adds its own findings.
    """

    def __init__(self, data: dict[str, Any], problems: Problems, *, base_path: Path, app_name: str) -> None:
        self._data = data
        self._problems = problems
        self._base_path = (base_path / data.pop("base_path", ".")).absolute()
        self._checks = Checks(problems, self._base_path)
        self._app_name = app_name
        self._centers: dict[str, dict[str, Any]] = data.pop("contact_centers", {})

    def settings(self) -> Settings:
        """Return the values, once everything has been found good."""
        centers = {name: _contact_center(name, table) for name, table in self._centers.items()}
        for key, kind in _TABLES.items():
            if key in self._data:
                self._data[key] = kind(**self._data[key])
        files = tuple(self._checks.files)
        return Settings(contact_centers=centers, base_path=self._base_path, files=files, **_with_sets(self._data))

    def check(self) -> None:
        """Find what no table can know by itself."""
        self._check_root()
        self._check_databases()
        for name, table in self._centers.items():
            for step in _STEPS:
                if step in table and not table[step].get("enabled", True):
                    del table[step]
            self._check_contact_center(dotted("contact_centers", name), table)
        self._check_default()
        for path, finding in claims.conflicts(self._centers):
            self._problems.add(path, finding)
        for path, finding in claims.saml_hosts(self._centers, self._data.get("public_url", "")):
            self._problems.add(path, finding)

    def _check_root(self) -> None:
        allowed = self._data.get("allow_http", False)
        self._checks.http("public_url", self._data.get("public_url", ""), allowed)
        if not self._data.get("state_namespace") and not self._problems.at("state_namespace"):
            try:
                self._data["state_namespace"] = rules.namespace(self._app_name)
            except ValidationError:
                self._problems.add("state_namespace", "must be set, for the application's name cannot stand for it")
        headers = SalesforceHeaders(**self._data.get("salesforce_headers", {}))
        if headers.session.lower() == headers.identity.lower():
            self._problems.add("salesforce_headers", "session and identity must be two different headers")
        passwords = PasswordSettings(**self._data.get("passwords", {}))
        if passwords.memory_kib < 8 * passwords.lanes:
            self._problems.add("passwords.memory_kib", "must be at least 8 for each of the lanes (RFC 9106 3.1)")

        self._check_languages()

    def _check_languages(self) -> None:
        """Let pages be in those languages that have texts: in English, and in those that are given."""
        known = list(dict.fromkeys((ENGLISH_TAG, *self._data.get("texts", {}))))
        if not self._data.get("languages"):
            self._data["languages"] = tuple(known)
        elif not self._problems.at("texts"):
            for place, tag in enumerate(self._data["languages"]):
                if tag not in known:
                    self._problems.add(f"languages.{place}", f"has no texts: give them in texts.{tag}")

    def _check_databases(self) -> None:
        state = self._database("state_url", self._data.get("state_url", databases.DEFAULT_STATE), databases.state_url)
        accounts = self._data.get("accounts_url", "")
        if not accounts:
            accounts = state if databases.is_sql(state) or not state else databases.DEFAULT_ACCOUNTS
        self._database("accounts_url", accounts, databases.accounts_url)
        self._check_throttle(state)
        self._note_authorities("state_url", self._data.get("state_url", ""))

    def _note_authorities(self, key: str, url: object) -> None:
        file = databases.authorities_of(url) if isinstance(url, str) and not self._problems.at(key) else None
        if file is not None:
            self._checks.files.append(NamedFile(key, file, secret=False))

    def _check_throttle(self, state: str) -> None:
        """Let the throttle count where the state is, unless that is a database, which is too slow for it."""
        table = self._data.setdefault("throttle", {})
        if isinstance(table, dict) and not self._problems.at("throttle.storage_url"):
            wanted = table.get("storage_url") or (state if state.startswith("redis") else databases.MEMORY)
            try:
                table["storage_url"] = databases.throttle_url(wanted)
            except ValidationError as error:
                self._problems.add_messages(error.messages, "throttle.storage_url")
            if wanted != state:
                self._note_authorities("throttle.storage_url", table.get("storage_url"))

    def _database(self, key: str, url: str, check: Callable[[str, Path], str]) -> str:
        if url and not self._problems.at(key):
            try:
                url = self._data[key] = check(url, self._base_path)
            except ValidationError as error:
                self._problems.add_messages(error.messages, key)
                return ""
        return url

    def _check_default(self) -> None:
        default = self._data.get("default_contact_center", "")
        if default and default not in self._centers:
            self._problems.add(
                "default_contact_center", f"is the name of no contact center{nearest(default, self._centers)}"
            )
        if not self._centers and not self._problems.at("contact_centers") and not self._problems.at(""):
            self._problems.add("contact_centers", "is required: a table for each contact center, at least one")

    def _check_contact_center(self, path: str, table: dict[str, Any]) -> None:
        allowed = table.get("allow_http", False)
        self._checks.http(f"{path}.public_url", table.get("public_url", ""), allowed)
        for origin in table.get("allowed_origins", ()):
            self._checks.http(f"{path}.allowed_origins", origin, allowed)
        if "salesforce" in table:
            self._check_salesforce(f"{path}.salesforce", table["salesforce"])
        if "configuration_server" in table:
            self._check_configuration_server(f"{path}.configuration_server", table["configuration_server"])
        if "saml" in table:
            SamlTables(self._checks).check(f"{path}.saml", table["saml"])
            if not (table.get("public_url") or self._data.get("public_url")):
                self._checks.required(
                    path, table, "public_url", "is required for SAML, here or for all contact centers"
                )

    def _check_salesforce(self, path: str, table: dict[str, Any]) -> None:
        allowed = table.get("allow_http", False)
        self._check_way(path, table)
        self._checks.required(path, table, "organizations")
        if table.get("identity_hosts") == ():
            self._problems.add(f"{path}.identity_hosts", "must name at least one host")
        for key in ("identity_hosts", "redirect_hosts"):
            for host in table.get(key, ()):
                url = f"{host.scheme}://{addresses.bracketed(host.host)}"
                self._checks.http(f"{path}.{key}", url, allowed, leaves="proxy" in table)

    def _check_configuration_server(self, path: str, table: dict[str, Any]) -> None:
        allowed = table.get("allow_http", False)
        self._check_way(path, table)
        self._checks.http(f"{path}.url", table.get("url", ""), allowed, leaves="proxy" in table)
        self._checks.secret(path, table, "client_secret")
        if table.get("directory", "genesys") == "genesys":
            for key in ("url", "client_id", "client_secret"):
                self._checks.required(path, table, key)
        LdapTable(self._checks).check(path, table)

    def _check_way(self, path: str, table: dict[str, Any]) -> None:
        """Read what leads to a server: whom to trust, and through which proxy."""
        self._checks.authorities(path, table, "ca_file")
        self._checks.proxy(path, table, "proxy")


def _with_sets(table: dict[str, Any]) -> dict[str, Any]:
    return {key: frozenset(value) if key in _SETS else value for key, value in table.items()}


def _contact_center(name: str, table: dict[str, Any]) -> ContactCenterSettings:
    table = {**table, "name": name, "id": table.get("id") or name}
    if "salesforce" in table:
        table["salesforce"] = Salesforce(**_with_sets(table["salesforce"]))
    if "configuration_server" in table:
        given = table["configuration_server"]
        found = {"ldap": ldap_values(given["ldap"])} if "ldap" in given else {}
        table["configuration_server"] = ConfigurationServer(**{**given, **found})
    if "web_services" in table:
        table["web_services"] = WebServices(**table["web_services"])
    if "saml" in table:
        given = table["saml"]["identity_providers"]
        providers = {key: IdentityProvider(**_with_sets(provider)) for key, provider in given.items()}
        pairs = tuple(KeyPair(**pair) for pair in table["saml"].get("encryption_keys", ()))
        table["saml"] = Saml(**{**table["saml"], "identity_providers": providers, "encryption_keys": pairs})
    return ContactCenterSettings(**_with_sets(table))
