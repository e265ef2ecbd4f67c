"""The settings on the pages about identity providers work with their responses."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from flask_genesys_auth.config.build import load_settings
from flask_genesys_auth.config.settings import Settings
from flask_genesys_auth.saml.service_provider import build_service_provider
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import SigningKey
from tests.browser.real_desk import Desk

from ..addresses import PUBLIC_URL
from ..conftest import NOW, Consumer
from ..plain_browser import PlainBrowser
from ..shapes import SHAPES
from ..simplesaml import SimpleSamlPhp, simplesamlphp
from ..verify.test_provider_responses import posted, written

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["simplesamlphp"]

HOWTO = Path(__file__).parents[3] / "docs" / "howto"
PAGES = {"okta": "okta", "entra": "entra", "adfs": "adfs", "keycloak": "keycloak", "google": "google",
         "simplesamlphp": "simplesaml"}  # fmt: skip


def table_of(page: str) -> dict[str, Any]:
    """The configuration that the page shows."""
    [text] = re.findall(r"^```toml\n(.+?)^```", page_text(page), re.DOTALL | re.MULTILINE)
    found: dict[str, Any] = tomllib.loads(text)["GENESYS_AUTH"]
    return found


def page_text(page: str) -> str:
    return (HOWTO / f"{page}.md").read_text("utf-8")


def provider_of(table: dict[str, Any]) -> dict[str, Any]:
    (provider,) = table["contact_centers"]["acme"]["saml"]["identity_providers"].values()
    assert isinstance(provider, dict)
    return provider


def settings_of(table: dict[str, Any], folder: Path) -> Settings:
    return load_settings(table, base_path=folder, app_name="portal")


def test_every_provider_page_is_tested() -> None:
    assert {path.stem for path in HOWTO.glob("*.md") if "identity_providers." in path.read_text("utf-8")} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_documented_settings_read_the_providers_response(page: str, metadata_file: Path, key: SigningKey) -> None:
    (shape,) = (shape for shape in SHAPES if shape.name == PAGES[page])
    table = table_of(page)
    provider = provider_of(table)
    if "//" in provider["metadata"]:
        settings_of(table, metadata_file.parent)  # the address is one that is accepted
    provider["metadata"] = str(metadata_file)
    settings = settings_of(table, metadata_file.parent)
    center = settings.contact_centers["acme"]
    service = build_service_provider(center, public_url=settings.public_url, prefix="/saml", clock=lambda: NOW)
    shown = set(re.findall(rf"{PUBLIC_URL}/saml/acme/\w+", page_text(page)))
    assert service.entity_id in shown
    assert shown <= {service.entity_id, service.acs_url, service.slo_url}
    consumer = Consumer(service, key, MemoryState("tests"))
    login = consumer.accept(posted(written(consumer, shape)))
    assert login.subject == shape.subject
    assert shape.expected.items() <= login.attributes.items()
    roles = provider.get("role_map", {})
    assert set(roles) <= set(login.attributes.get("groups", ()))


def test_documented_simplesamlphp_settings_log_in(tmp_path: Path, simplesamlphp: SimpleSamlPhp) -> None:
    desk = Desk(tmp_path / "desk")
    browser = PlainBrowser()
    try:
        table = table_of("simplesamlphp")
        provider_of(table)["metadata"] = simplesamlphp.metadata_url
        _, entry = re.findall(r"^```php\n(.+?)^```", page_text("simplesamlphp"), re.DOTALL | re.MULTILINE)
        simplesamlphp.enter(entry.replace(PUBLIC_URL, desk.url))
        desk.open(simplesamlphp.name_id, table["contact_centers"]["acme"]["saml"])
        form = browser.get(f"{desk.address('login')}?next=/private").form
        answer = browser.submit(form, username=simplesamlphp.user_name, password=simplesamlphp.password)
        page = browser.submit(answer.form)
        assert page.url == f"{desk.url}/private"
        assert f"Hello {simplesamlphp.name_id}" in page.text
    finally:
        simplesamlphp.trust_metadata()
        browser.close()
        desk.close()
