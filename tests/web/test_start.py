"""``init_app`` starts no thread and leaves no file or connection open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_genesys_auth import GenesysAuth
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.cli import genesys_auth
from flask_genesys_auth.testing import GenesysEmulator, SalesforceEmulator
from flask_genesys_auth.testing.saml_messages import generate_signing_key
from flask_genesys_auth.web.runtime import runtime
from tests.nodes.crowd import basic
from tests.saml.provider_site import Site, metadata_of
from tests.servers import RedisServer, postgresql, redis_server
from tests.slapd import PEOPLE, SECRET, SERVICE, SlapdServer, slapd

__all__ = ["postgresql", "redis_server", "slapd"]

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")

ANN = ("ann@acme.example", "ann's password")
PUBLIC = "https://portal.acme.example"
Settings = dict[str, Any]
"""The configuration."""
Headers = Mapping[str, str]


class Used:
    """A configuration, and one request that uses what is configured.

    :param settings: beside those that all have.
    :param keeps: whether the request leaves something open, which shows that the test sees it.
    """

    def __init__(
        self, settings: Settings, headers: Headers, *, path: str = "/", status: int = 200, keeps: bool = False
    ) -> None:
        self.settings = settings
        self.headers = headers
        self.path = path
        self.status = status
        self.keeps = keeps


def with_state(url: str, **more: Any) -> Used:
    settings = {"state_url": url, "contact_centers": {"acme": {"web_services": {}}}, **more}
    return Used(settings, basic(*ANN), keeps=True)


def memory(request: pytest.FixtureRequest) -> Iterator[Used]:
    yield with_state("memory://")


def sqlite(request: pytest.FixtureRequest) -> Iterator[Used]:
    folder = request.getfixturevalue("tmp_path")
    yield with_state(f"sqlite:///{folder}/state.sqlite3")


def in_postgresql(request: pytest.FixtureRequest) -> Iterator[Used]:
    url = request.getfixturevalue("postgresql")
    yield with_state(url, accounts_url=url)


def redis(request: pytest.FixtureRequest) -> Iterator[Used]:
    server: RedisServer = request.getfixturevalue("redis_server")
    yield with_state(server.url, throttle={"storage_url": server.url})


def ldap(request: pytest.FixtureRequest) -> Iterator[Used]:
    server: SlapdServer = request.getfixturevalue("slapd")
    server.add_person(*ANN)
    table = {
        "servers": [f"ldap://127.0.0.1:{server.port}"],
        "start_tls": False,
        "base": PEOPLE,
        "bind_dn": SERVICE,
        "bind_password": SECRET,
    }
    step = {"directory": "ldap", "ldap": table}
    yield Used({"contact_centers": {"acme": {"configuration_server": step}}}, basic(*ANN), keeps=True)


def salesforce(request: pytest.FixtureRequest) -> Iterator[Used]:
    emulator = SalesforceEmulator()
    with emulator.serve():
        step = {"organizations": [emulator.organization], "identity_hosts": [emulator.url]}
        yield Used({"contact_centers": {"acme": {"salesforce": step}}}, emulator.add_user(ANN[0]))


def genesys(request: pytest.FixtureRequest) -> Iterator[Used]:
    emulator = GenesysEmulator()
    with emulator.serve():
        step = {
            "url": emulator.url,
            "client_id": emulator.client_id,
            "client_secret": emulator.client_secret,
            "tenant": emulator.tenant,
        }
        yield Used({"contact_centers": {"acme": {"configuration_server": step}}}, emulator.add_user(*ANN))


def saml(request: pytest.FixtureRequest) -> Iterator[Used]:
    site = Site(metadata_of(generate_signing_key("idp")))
    with site.serve():
        step = {"identity_providers": {"okta": {"metadata": site.address}}}
        settings = {"public_url": PUBLIC, "contact_centers": {"acme": {"saml": step}}}
        yield Used(settings, {}, path="/saml/acme/login", status=302)


@pytest.fixture(
    params=[memory, sqlite, in_postgresql, redis, ldap, salesforce, genesys, saml], ids=lambda one: one.__name__
)
def used(request: pytest.FixtureRequest) -> Iterator[Used]:
    yield from request.param(request)


@pytest.fixture
def make(used: Used, tmp_path: Path) -> Iterator[Callable[[], Flask]]:
    made: list[Flask] = []

    def make_app() -> Flask:
        app = Flask("portal", instance_path=str(tmp_path))
        app.secret_key = "a secret key of the tests"
        app.config["GENESYS_AUTH"] = {
            "state_url": "memory://",
            "passwords": {"memory_kib": 8, "iterations": 1},
            **used.settings,
        }
        GenesysAuth(app)
        app.add_url_rule("/", "home", lambda: "home")
        made.append(app)
        return app

    yield make_app
    for app in made:
        close(app)


def close(app: Flask) -> None:
    here = runtime(app)
    here.state.close()
    assert isinstance(here.accounts, SqlAccounts)
    here.accounts.close()


def held() -> set[tuple[str, object]]:
    """Return this process's threads, and its descriptors with what they stand for."""
    found: set[tuple[str, object]] = {(thread.name, thread.ident) for thread in threading.enumerate()}
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):  # of the folder itself, which is closed by now
            found.add((descriptor.name, descriptor.readlink()))
    return found


def test_start_leaves_no_open_connections(used: Used, make: Callable[[], Flask]) -> None:
    def ask(app: Flask) -> None:
        answer = app.test_client().get(used.path, headers=used.headers, base_url=PUBLIC)
        assert answer.status_code == used.status, answer.text

    first = make()
    assert first.test_cli_runner().invoke(genesys_auth, ["init-db"]).exit_code == 0
    accounts = runtime(first).accounts
    assert isinstance(accounts, SqlAccounts)
    if not accounts.list("acme"):
        accounts.add("acme", ANN[0], password_hash=runtime(first).hasher.hash(ANN[1]))
    ask(first)
    close(first)
    before = held()
    second = make()
    assert held() - before == set()
    ask(second)
    assert not used.keeps or held() - before
