"""Fixtures for pytest: ``pytest_plugins = ["flask_genesys_auth.testing.fixtures"]``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from .genesys import GenesysEmulator
from .isolation import reset
from .salesforce import SalesforceEmulator
from .server import LoopbackServer

if TYPE_CHECKING:
    from flask import Flask

    from .identity_provider import DevelopmentIdentityProvider


@pytest.fixture
def fresh_authentication(app: Flask) -> Iterator[None]:
    """Call ``reset(app)`` on your fixture ``app``, before and after the test.

    For every test: ``usefixtures = fresh_authentication`` in pytest's configuration.
    """
    reset(app)
    yield
    reset(app)


@pytest.fixture
def salesforce_emulator() -> Iterator[SalesforceEmulator]:
    """Serve an emulator of Salesforce's identity service on loopback; put its ``url`` into ``identity_hosts``."""
    emulator = SalesforceEmulator()
    with LoopbackServer(emulator) as server:
        emulator.url = server.url
        yield emulator


@pytest.fixture
def genesys_emulator() -> Iterator[GenesysEmulator]:
    """Serve an emulator of Genesys' Authentication REST on loopback; put its ``url`` into ``configuration_server``."""
    emulator = GenesysEmulator()
    with LoopbackServer(emulator) as server:
        emulator.url = server.url
        yield emulator


@pytest.fixture
def development_identity_provider() -> Iterator[DevelopmentIdentityProvider]:
    """Serve a SAML identity provider on ``localhost``, another site than an application on ``127.0.0.1``."""
    from .identity_provider import DevelopmentIdentityProvider

    provider = DevelopmentIdentityProvider()
    with LoopbackServer(provider, host="localhost") as server:
        provider.url = server.url
        yield provider
