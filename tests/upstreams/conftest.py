from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest
from werkzeug.test import EnvironBuilder

from flask_genesys_auth.chain.contact_centers import ContactCenter
from flask_genesys_auth.chain.evidence import Evidence, collect
from flask_genesys_auth.config.settings import ContactCenterSettings, SalesforceHeaders
from flask_genesys_auth.testing.genesys import GenesysEmulator
from flask_genesys_auth.testing.salesforce import SalesforceEmulator
from flask_genesys_auth.testing.server import Emulator, LoopbackServer, unused_url
from flask_genesys_auth.upstream import Deadline, Guard, Upstream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

E = TypeVar("E", bound=Emulator)


class Client(Upstream):
    """A client for many tests, which has read the trusted authorities: no test's deadline pays for that."""

    def __init__(self) -> None:
        self.guard = Guard()
        super().__init__(guard=self.guard)
        self.send("GET", unused_url(), headers={}, deadline=Deadline(60))


@pytest.fixture(scope="session")
def shared_client() -> Client:
    return Client()


@pytest.fixture
def upstream(shared_client: Client) -> Iterator[Upstream]:
    shared_client.guard.clear()
    yield shared_client
    shared_client.close()


@pytest.fixture
def center() -> ContactCenter:
    return ContactCenter(ContactCenterSettings(name="acme", id="acme"), ())


@pytest.fixture
def evidence() -> Callable[..., Evidence]:
    def build(headers: dict[str, str], *, dry_run: bool = False) -> Evidence:
        with_headers = EnvironBuilder(headers=list(headers.items()))
        request = with_headers.get_request()
        with_headers.close()
        return collect(request, SalesforceHeaders(), dry_run=dry_run)

    return build


class Switch:
    """One running server for many tests: starting and stopping one takes half a second."""

    def __init__(self) -> None:
        self.emulator: Emulator | None = None
        self.server = LoopbackServer(self)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert self.emulator is not None
        return self.emulator(environ, start_response)

    @contextmanager
    def to(self, emulator: E) -> Iterator[E]:
        self.emulator = emulator
        emulator.url = self.server.url
        yield emulator
        emulator.repair()


@pytest.fixture(scope="session")
def switch() -> Iterator[Switch]:
    shared = Switch()
    with shared.server:
        yield shared


@pytest.fixture
def salesforce(switch: Switch) -> Iterator[SalesforceEmulator]:
    with switch.to(SalesforceEmulator()) as emulator:
        yield emulator


@pytest.fixture
def genesys(switch: Switch) -> Iterator[GenesysEmulator]:
    with switch.to(GenesysEmulator()) as emulator:
        yield emulator
