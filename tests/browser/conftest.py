from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from ..saml.simplesaml import simplesamlphp
from ..sample.running import RunningSample, running_sample
from .chromium import Browser, chromium

__all__ = ["chromium", "simplesamlphp"]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSample]:
    with running_sample(Path(tmp_path_factory.mktemp("sample"))) as running:
        yield running


@pytest.fixture
def browser(chromium: webdriver.Chrome, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """A browser without cookies, whose console must stay silent."""
    fresh = Browser(chromium)
    if "simplesamlphp" in request.fixturenames:
        # Some of its pages name no icon, and there is none at the usual address.
        fresh.overlook(request.getfixturevalue("simplesamlphp").url + "/favicon.ico")
    fresh.look(width=1280, scheme="light")
    yield fresh
    assert fresh.complaints() == []
