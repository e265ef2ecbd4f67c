"""The pages of the configuration: their tables are those of the settings, their defaults and example are true."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from docs import configuration_reference as reference
from flask_genesys_auth.config import build
from flask_genesys_auth.config.settings import Ldap, Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGES = reference.read()
(FIRST, *_) = PAGES.values()
LEAST = {
    "public_url": "https://portal.acme.example",
    "contact_centers": {
        "acme": {
            "salesforce": {"organizations": ["00D000000000001"]},
            "configuration_server": {"url": "https://gws.internal", "client_id": "portal", "client_secret": "secret"},
            "web_services": {},
            "saml": {"identity_providers": {"okta": {"metadata": "idp.xml"}}},
        }
    },
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a configuration with the required keys only."""
    (tmp_path / "idp.xml").write_text("<EntityDescriptor/>", "utf-8")
    return build.load_settings(LEAST, base_path=tmp_path, app_name="portal")


TABLES = list(reference.tables())
ROWS = [pytest.param(table.path, row, id=f"{table.path}.{row.key}") for table in TABLES for row in table.rows]


def test_the_pages_have_the_declared_tables() -> None:
    assert reference.written(PAGES) == PAGES, "run: python -m docs.configuration_reference"


def changed(old: str, new: str) -> dict[Path, str]:
    """Return the pages with one text changed."""
    assert any(old in page for page in PAGES.values())
    return {path: page.replace(old, new) for path, page in PAGES.items()}


def test_a_changed_row_is_written_as_declared() -> None:
    row = next(row for page in PAGES.values() for row in page.splitlines() if row.startswith("| `clock_skew` |"))
    pages = changed(row, "| `clock_drift` | seconds | `60` | A key of another version. |")
    assert reference.written(pages) == PAGES


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("## `[GENESYS_AUTH.session]`", "## Sessions", "stands on 0 pages"),
        ("## `[GENESYS_AUTH.session]`", "## `[GENESYS_AUTH.session]`\n\n## Sessions", "no table under"),
    ],
    ids=["no heading", "no table"],
)
def test_a_missing_heading_or_table_is_an_error(old: str, new: str, error: str) -> None:
    with pytest.raises(LookupError, match=error) as raised:
        reference.written(changed(old, new))
    assert "GENESYS_AUTH.session" in str(raised.value)


@pytest.mark.parametrize(("table", "row"), ROWS)
def test_every_key_has_a_meaning(table: str, row: reference.Row) -> None:
    assert row.meaning.endswith(".")
    assert "|" not in row.meaning


LITERALS = [
    pytest.param(table.path, row.key, literal[1], id=f"{table.path}.{row.key}")
    for table in TABLES
    for row in table.rows
    if (literal := re.fullmatch(r"`([^`]+)`", row.default))
    and f"{table.path}.{row.key}" != "GENESYS_AUTH.public_url"  # which LEAST must have
]


@pytest.mark.parametrize(("table", "key", "literal"), LITERALS)
def test_omitted_key_has_the_default_of_the_page(settings: Settings, table: str, key: str, literal: str) -> None:
    found = value_at(settings, table, key)
    if key.endswith("_hosts"):
        found = [host.host for host in found]
    default = tomllib.loads(f"value = {literal}")["value"]
    assert (list(found) if isinstance(default, list) else found) == default


def value_at(settings: Any, table: str, key: str) -> Any:
    found: Any = settings
    for name in table.removeprefix("GENESYS_AUTH").strip(".").replace(".NAME", "").split("."):
        if name:
            found = Ldap(servers=()) if name == "ldap" else getattr(found, name)
            if name in {"contact_centers", "identity_providers"}:
                (found,) = found.values()
    return found.get(key, "") if isinstance(found, dict) or not hasattr(found, key) else getattr(found, key)


def test_the_example_is_accepted(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(?P<text>.+?)```", FIRST, re.DOTALL)
    assert example is not None
    (tmp_path / "client-secret").write_text("a secret", "utf-8")
    (tmp_path / "idp.xml").write_text("<EntityDescriptor/>", "utf-8")
    mapping = tomllib.loads(example["text"])["GENESYS_AUTH"]
    settings = build.load_settings(mapping, base_path=tmp_path, app_name="portal")
    assert settings.contact_centers["acme"].saml is not None
