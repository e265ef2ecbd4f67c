"""A real OpenLDAP of our own: people, groups, a service account, TLS, a password policy, and counted operations."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ldap3
import pytest

from flask_genesys_auth.config.addresses import LdapServer
from flask_genesys_auth.config.names import escape_dn_value
from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import ConfigurationServer, Ldap, LdapAttributes
from tests.certificates import make_certificate
from tests.servers import free_port, require, wait_for_server

BASE = "dc=acme,dc=example"
PEOPLE = f"ou=people,{BASE}"
GROUPS = f"ou=groups,{BASE}"
ADMIN = f"cn=admin,{BASE}"
SERVICE = f"cn=service,{BASE}"
SECRET = "the service's s3cret"
PASSWORD = "pass:wörd &=%+\\"

_RELAX = "1.3.6.1.4.1.4203.666.5.12"
_CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
moduleload ppolicy
pidfile {folder}/slapd.pid
TLSCACertificateFile {certificate}
TLSCertificateFile {certificate}
TLSCertificateKeyFile {certificate}
threads 8
{globals}

database monitor
rootdn {admin}
access to * by dn.exact="{admin}" read by * none

database mdb
suffix {base}
rootdn {admin}
rootpw "{secret}"
directory {folder}/data
dbnosync
{limits}
index objectClass,uid,mail,member eq
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="{people}" attrs=entry,objectClass,uid,mail,sn,givenName,cn,memberOf,entryUUID,employeeNumber
    by dn.exact="{service}" read by self read by * none
access to * by dn.exact="{service}" read by * none

overlay memberof
memberof-dangling ignore
overlay ppolicy
ppolicy_default cn=default,ou=policies,{base}
ppolicy_use_lockout
"""


class SlapdServer:
    """A slapd on ``ldap://`` (with StartTLS) and ``ldaps://``, both on 127.0.0.1."""

    def __init__(self, folder: Path, *, globals_: str = "", limits: str = "") -> None:
        self._program = require("slapd", "slapd")
        self._folder = folder
        (folder / "data").mkdir()
        self.certificate = make_certificate(folder)
        self.port, self.tls_port = free_port(), free_port()
        self.url = f"ldap://127.0.0.1:{self.port}"
        (folder / "slapd.conf").write_text(
            _CONFIGURATION.format(
                folder=folder,
                certificate=self.certificate,
                base=BASE,
                people=PEOPLE,
                admin=ADMIN,
                service=SERVICE,
                secret=SECRET,
                globals=globals_,
                limits=limits,
            )
        )
        self._running: subprocess.Popen[bytes] | None = None
        self.start()
        self._fill()

    @property
    def authority(self) -> str:
        """Whom to trust, in PEM."""
        return self.certificate.read_text().partition("-----BEGIN PRIVATE")[0]

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        with (self._folder / "log").open("ab") as log:
            self._running = subprocess.Popen(
                [self._program, "-f", str(self._folder / "slapd.conf"), "-h", urls, "-d", "none"],
                stdout=log,
                stderr=log,
            )
        wait_for_server(self._running, self.tls_port, log=self._folder / "log")

    def stop(self) -> None:
        """Kill it, as a bad day does."""
        if self._running is not None:
            self._running.kill()
            self._running.wait(30)
            self._running = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let it stand still: it takes connections and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            # A thread may have an answer in its hands: not before the last one has stopped.
            while not all(_state(task) == "T" for task in Path(f"/proc/{self.pid}/task").iterdir()):
                time.sleep(0.01)
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def admin(self) -> Iterator[Any]:
        """Give a connection that may do everything."""
        server = ldap3.Server("127.0.0.1", self.port, get_info=ldap3.NONE)
        connection = ldap3.Connection(
            server, ADMIN, SECRET, auto_bind=ldap3.AUTO_BIND_NO_TLS, check_names=False, auto_escape=False
        )
        try:
            yield connection
        finally:
            connection.unbind()

    def add(self, dn: str, object_class: str | list[str], attributes: Mapping[str, object]) -> None:
        """Add an entry, unless it is there."""
        with self.admin() as connection:
            connection.add(dn, object_class, dict(attributes))
            assert connection.result["description"] in {"success", "entryAlreadyExists"}, connection.result

    def add_person(self, name: str, password: str = PASSWORD, **attributes: object) -> str:
        """Add a person, and return their distinguished name."""
        dn = f"uid={escape_dn_value(name)},{PEOPLE}"
        self.add(dn, "inetOrgPerson", {"cn": name, "sn": name, "userPassword": password, **attributes})
        return dn

    def add_group(self, name: str, *members: str) -> str:
        """Add a group, and return its distinguished name."""
        dn = f"cn={name},{GROUPS}"
        self.add(dn, "groupOfNames", {"member": list(members)})
        return dn

    def change(self, dn: str, **attributes: object) -> None:
        """Replace attributes, operational ones as well."""
        with self.admin() as connection:
            changes = {name: [(ldap3.MODIFY_REPLACE, [value])] for name, value in attributes.items()}
            assert connection.modify(dn, changes, controls=[(_RELAX, True, None)]), connection.result

    def binds(self) -> int:
        """Return how many binds it has answered, but for this one that asks."""
        with self.admin() as connection:
            connection.search("cn=Bind,cn=Operations,cn=Monitor", "(objectClass=*)", attributes=["monitorOpCompleted"])
            self._own = getattr(self, "_own", 0) + 1
            return int(connection.entries[0].monitorOpCompleted.value) - self._own

    def settings(self, *, url: str = "", timeout: float = 20, **changes: Any) -> ConfigurationServer:
        """Return settings that search for people as the service account, without TLS unless changed."""
        attributes = changes.pop("attributes", LdapAttributes())
        above = {key: changes.pop(key) for key in ("ca_file", "concurrent_calls", "match") if key in changes}
        table: dict[str, Any] = {
            "servers": (LdapServer(False, "127.0.0.1", self.port),),
            "start_tls": False,
            "base": PEOPLE,
            "bind_dn": SERVICE,
            "bind_password": Secret(SECRET),
            **changes,
        }
        return ConfigurationServer(
            directory="ldap", timeout=timeout, ldap=Ldap(attributes=attributes, **table), **above
        )

    def _fill(self) -> None:
        self.add(BASE, "domain", {"dc": "acme"})
        # Before there is a policy: none of it is about the service.
        self.add(SERVICE, ["applicationProcess", "simpleSecurityObject"], {"cn": "service", "userPassword": SECRET})
        for unit in ("people", "groups", "policies"):
            self.add(f"ou={unit},{BASE}", "organizationalUnit", {})
        policy = {"pwdAttribute": "userPassword", "pwdLockout": "TRUE", "pwdMaxFailure": "3", "pwdMustChange": "TRUE"}
        self.add(f"cn=default,ou=policies,{BASE}", ["device", "pwdPolicy"], {"cn": "default", **policy})


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture(scope="session")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlapdServer]:
    """An OpenLDAP for all tests that only use it."""
    server = SlapdServer(tmp_path_factory.mktemp("slapd"))
    yield server
    server.stop()


@pytest.fixture
def own_slapd(tmp_path: Path) -> Iterator[SlapdServer]:
    """An OpenLDAP for a test that does it harm."""
    server = SlapdServer(tmp_path)
    yield server
    server.stop()
