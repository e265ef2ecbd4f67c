"""The demonstration: users, emulators of the servers behind the steps, and a configuration."""

from __future__ import annotations

import json
import secrets
import shlex
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from urllib3 import make_headers

from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.config.settings import PasswordSettings
from flask_genesys_auth.testing.genesys import GenesysEmulator
from flask_genesys_auth.testing.identity_provider import DevelopmentIdentityProvider
from flask_genesys_auth.testing.salesforce import SalesforceEmulator
from flask_genesys_auth.testing.saml_messages import generate_signing_key
from flask_genesys_auth.testing.server import LoopbackServer

from .application import CONFIGURATION
from .flow import STEPS

if TYPE_CHECKING:
    from typing_extensions import Self

CONTACT_CENTER = "acme"
PROVIDER = "development"
FLOW = ("salesforce", "configuration_server", "web_services", "saml")
"""The numbered steps of the Web Services authentication flow."""

WALK = "/api/v2/diagnostics/walk"
ACCOUNTS = "accounts.sqlite3"
METADATA = "identity-provider.xml"
SIGNING_KEY, CERTIFICATE = "service-provider.key", "service-provider.crt"
STRANGER = "stranger@acme.example"
"""A user of the identity provider without an account."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the demonstration.

    :param step: the step that authenticates the user.
    """

    step: str
    first_name: str
    last_name: str
    roles: tuple[str, ...] = ("ROLE_AGENT",)

    @property
    def user_name(self) -> str:
        """The account's name: an e-mail address, as in Genesys."""
        return f"{self.first_name.lower()}@acme.example"


PEOPLE: Mapping[str, Person] = {
    "salesforce": Person("salesforce", "Sally", "Forrest"),
    "configuration_server": Person("configuration_server", "Carl", "Server", ("ROLE_AGENT", "ROLE_SUPERVISOR")),
    "web_services": Person("web_services", "Wendy", "Services"),
    "administrator": Person("web_services", "Ada", "Admin", ("ROLE_ADMIN", "ROLE_AGENT", "ROLE_SUPERVISOR")),
    "saml": Person("saml", "Simon", "Lee", ("ROLE_AGENT", "ROLE_SUPERVISOR")),
}
"""By their names in the ready file."""


class Demonstration:
    """A context manager that runs the emulators on loopback ports, with files in a temporary folder.

    :param url: the application's URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._stack = ExitStack()
        self._salesforce = SalesforceEmulator()
        self._genesys = GenesysEmulator(client_secret=secrets.token_urlsafe(24))
        self._identity_provider = DevelopmentIdentityProvider()
        self._passwords = {
            name: secrets.token_hex(6)
            for name, person in PEOPLE.items()
            if person.step in {"configuration_server", "web_services"}
        }
        self._headers: dict[str, Mapping[str, str]] = {}
        self.folder = Path()
        self.configuration: dict[str, Any] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            # Keep the servers only if all have started.
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def configuration_file(self) -> Path:
        """The configuration file for ``flask --app sample_app`` while the demonstration runs."""
        return self.folder / "settings.json"

    def addresses(self) -> dict[str, str]:
        """Return the URLs of the application and the emulators."""
        return {
            "application": self._url,
            "salesforce": self._salesforce.url,
            "genesys": self._genesys.url,
            "identity_provider": self._identity_provider.url,
        }

    def credentials(self) -> dict[str, dict[str, str]]:
        """Return the credentials for browsers; the development identity provider requires no password."""
        found = {
            name: {"user_name": PEOPLE[name].user_name, "password": password}
            for name, password in self._passwords.items()
        }
        return {**found, "saml": {"user_name": PEOPLE["saml"].user_name}}

    def curl(self) -> dict[str, str]:
        """Return a ``curl`` command for each step, and an anonymous one."""
        walk = self._url + WALK
        basic = {name: f"{who['user_name']}:{who.get('password')}" for name, who in self.credentials().items()}
        sent = [word for pair in self._headers["salesforce"].items() for word in ("-H", ": ".join(pair))]
        lines = {
            "salesforce": [*sent, walk],
            "configuration_server": ["-u", basic["configuration_server"], walk],
            "web_services": ["-u", basic["web_services"], walk],
            "saml": ["-i", "-H", "Accept: text/html", f"{self._url}/agent"],
            "anonymous": [walk],
        }
        return {step: shlex.join(["curl", "-sS", *words]) for step, words in lines.items()}

    def describe(self) -> dict[str, Any]:
        """Return the content of the ready file."""
        return {
            "addresses": self.addresses(),
            "configuration": str(self.configuration_file),
            "credentials": self.credentials(),
            "headers": self._headers,
            "curl": self.curl(),
        }

    def lines(self) -> list[str]:
        """Return the lines to print."""
        names = {
            "salesforce": "Salesforce (emulator)",
            "genesys": "Genesys Authentication (emulator)",
            "identity_provider": "SAML identity provider (development)",
        }
        titles = {step: f"{number} {STEPS[step][0]}" for number, step in enumerate(FLOW, 1)}
        titles["saml"] += " (needs a browser; this is the first redirect)"
        titles["anonymous"] = "  Anonymous"
        return [
            f"The sample application is running at {self._url}/",
            "",
            "Servers behind the steps",
            *(f"  {names[name]:38}{address}" for name, address in self.addresses().items() if name in names),
            "",
            "Users",
            *(self._person_line(name, who) for name, who in self.credentials().items()),
            "",
            "One request for each step of the flow",
            *(f"  {titles[step]}\n    {line}" for step, line in self.curl().items()),
            "",
            "Commands, while the demonstration runs",
            f"  {self._command('endpoints')}",
            "",
        ]

    def _command(self, *words: str) -> str:
        """Return a shell command that works without an activated virtual environment."""
        flask = [sys.executable, "-m", "flask", "--app", "sample_app", "genesys-auth", *words]
        return f"{CONFIGURATION}={shlex.quote(str(self.configuration_file))} {shlex.join(flask)}"

    def _person_line(self, name: str, who: dict[str, str]) -> str:
        person = PEOPLE[name]
        password = who.get("password", "no password")
        return f"  {STEPS[person.step][0]:22}{person.user_name:24}{password:14}{', '.join(person.roles)}"

    def _start(self, stack: ExitStack) -> None:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="genesys-sample-"))
        self.folder = Path(temporary)
        for emulator in (self._salesforce, self._genesys):
            stack.enter_context(emulator.serve())
        # For browsers, 127.0.0.1 and localhost are two sites, so that the SAML login is cross-site, as in production.
        other_site = "127.0.0.1" if urlsplit(self._url).hostname == "localhost" else "localhost"
        served = stack.enter_context(LoopbackServer(self._identity_provider, host=other_site))
        self._identity_provider.url = served.url
        self._identity_provider.write_metadata(self.folder / METADATA)
        self._make_key()
        self._add_people()
        self.configuration = self._configure()
        self.configuration_file.write_text(json.dumps(self.configuration, indent=2), encoding="utf-8")

    def _make_key(self) -> None:
        """Generate the key for signing and for encrypted assertions."""
        made = generate_signing_key("sample application")
        (self.folder / SIGNING_KEY).write_text(made.private_pem, encoding="ascii")
        (self.folder / SIGNING_KEY).chmod(0o600)
        (self.folder / CERTIFICATE).write_text(made.certificate_pem, encoding="ascii")

    def _add_people(self) -> None:
        genesys = PEOPLE["configuration_server"].user_name
        own = f"{PEOPLE['web_services'].user_name}:{self._passwords['web_services']}"
        self._headers = {
            "salesforce": self._salesforce.add_user(PEOPLE["salesforce"].user_name),
            "configuration_server": self._genesys.add_user(genesys, self._passwords["configuration_server"]),
            "web_services": {"Authorization": make_headers(basic_auth=own)["authorization"]},
        }
        for name in (PEOPLE["saml"].user_name, STRANGER):
            self._identity_provider.add_user(name)
        hasher = PasswordHasher(PasswordSettings())
        accounts = SqlAccounts(f"sqlite:///{self.folder / ACCOUNTS}", timeout=5.0)
        try:
            accounts.create_tables()
            for name, person in PEOPLE.items():
                has_password = person.step == "web_services"
                accounts.add(
                    CONTACT_CENTER,
                    person.user_name,
                    first_name=person.first_name,
                    last_name=person.last_name,
                    roles=person.roles,
                    password_hash=hasher.hash(self._passwords[name]) if has_password else None,
                    identities=[(PROVIDER, person.user_name)] if person.step == "saml" else [],
                )
        finally:
            accounts.close()

    def _configure(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values."""
        contact_center = {
            "domains": ["acme.example"],
            "salesforce": {
                "organizations": [self._salesforce.organization],
                "identity_hosts": [self._salesforce.url],
            },
            "configuration_server": {
                "url": self._genesys.url,
                "client_id": self._genesys.client_id,
                "client_secret": self._genesys.client_secret,
                "tenant": self._genesys.tenant,
                # Visitors of a demonstration mistype more passwords than the default allows.
                "max_failures": "50 per 15 minutes",
            },
            "web_services": {},
            "saml": {
                "signing_key": {"file": SIGNING_KEY},
                "signing_certificate": {"file": CERTIFICATE},
                "encryption_keys": [{"key": {"file": SIGNING_KEY}, "certificate": {"file": CERTIFICATE}}],
                "identity_providers": {PROVIDER: {"metadata": METADATA, "allow_unsolicited": True}},
            },
        }
        return {
            "SECRET_KEY": secrets.token_hex(32),
            "SAMPLE_DEMONSTRATION": True,
            "GENESYS_AUTH": {
                "public_url": self._url,
                "state_url": "sqlite:///state.sqlite3",
                "accounts_url": f"sqlite:///{ACCOUNTS}",
                "login_view": "pages.login",
                "contact_centers": {CONTACT_CENTER: contact_center},
            },
        }
