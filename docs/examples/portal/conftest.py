from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from portal import create_app

from flask_genesys_auth.testing import AuthClient, DevelopmentIdentityProvider

pytest_plugins = ["flask_genesys_auth.testing.fixtures"]

MakeApp = Callable[..., Flask]


def build(folder: Path, **steps: Any) -> Flask:
    app = create_app(
        {
            "TESTING": True,
            "SECRET_KEY": "only for tests, but long enough",
            "GENESYS_AUTH": {
                "base_path": str(folder),
                "public_url": "https://portal.acme.example",
                "state_url": "memory://",
                "passwords": {"memory_kib": 8, "iterations": 1},
                "contact_centers": {"acme": {"web_services": {}, **steps}},
            },
        }
    )
    app.test_client_class = AuthClient
    return app


@pytest.fixture(scope="session")
def provider() -> DevelopmentIdentityProvider:
    """It needs no server: clients call it as an object."""
    made = DevelopmentIdentityProvider("https://idp.acme.example")
    made.add_user("Sue", name_id="sue@acme.example", attributes={"groups": ["leads"]})
    return made


@pytest.fixture(scope="session")
def app(provider: DevelopmentIdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """One application for all tests; `fresh_authentication` (in pytest.ini) isolates them."""
    folder = tmp_path_factory.mktemp("portal")
    trusted = {
        "metadata": str(provider.write_metadata(folder / "idp.xml")),
        "provision": True,
        "attributes": {"groups": "groups"},
        "role_map": {"leads": "ROLE_SUPERVISOR"},
    }
    return build(folder, saml={"identity_providers": {"acme-idp": trusted}})


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    """For tests in which the application calls an emulator."""
    return partial(build, tmp_path)
