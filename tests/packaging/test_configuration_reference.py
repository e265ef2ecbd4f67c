"""The page on the configuration: its tables are written from the schemas, and its words and its example are true."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from docs import configuration_reference as reference
from flask_genesys_auth.config import schemas
from flask_genesys_auth.config.values import Ldap, Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = reference.PAGE.read_text("utf-8")
ROW = re.compile(r"^\| `(?P<key>\w+)` \| [^|]+ \| (?P<default>[^|]+) \| (?P<meaning>.*) \|$", re.MULTILINE)
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
    """What comes of a configuration that says no more than it must."""
    (tmp_path / "idp.xml").write_text("<EntityDescriptor/>", "utf-8")
    return schemas.load_settings(LEAST, base_path=tmp_path, app_name="portal")


def test_the_tables_of_the_page_are_those_of_the_schemas() -> None:
    assert reference.written(PAGE) == PAGE, "run: python -m docs.configuration_reference"


def test_a_key_that_is_not_on_the_page_is_written_and_one_that_is_gone_is_not() -> None:
    row = next(row for row in PAGE.splitlines() if row.startswith("| `clock_skew` |"))
    changed = PAGE.replace(row, "| `clock_drift` | seconds | `60` | A key of another version. |")
    anew = reference.written(changed)
    assert "clock_drift" not in anew
    cells, _, _ = row.removesuffix(" |").rpartition(" | ")
    assert f"{cells} |  |\n" in anew
    with pytest.raises(LookupError, match=r"GENESYS_AUTH\.session"):
        reference.written(PAGE.replace("## `[GENESYS_AUTH.session]`", "## Sessions"))


def test_every_key_has_a_meaning() -> None:
    rows = [row for row in ROW.finditer(PAGE) if "[GENESYS_AUTH" in PAGE[: row.start()]]
    assert len(rows) == sum(len(table.cells) for table in reference.tables())
    assert [row["key"] for row in rows if not row["meaning"].strip().endswith(".")] == []


def test_a_default_that_is_worked_out_is_that_of_a_key() -> None:
    known = {f"{table.path}.{key}".removeprefix("GENESYS_AUTH.") for table in reference.tables() for key in table.cells}
    assert set(reference.WORKED_OUT) - known == set()


LITERALS = [
    pytest.param(table.path, key, literal[1], id=f"{table.path}.{key}")
    for table in reference.tables()
    for key, (_, default) in table.cells.items()
    if (literal := re.fullmatch(r"`([^`]+)`", default))
    and f"{table.path}.{key}" != "GENESYS_AUTH.public_url"  # which LEAST must have
]


@pytest.mark.parametrize(("table", "key", "literal"), LITERALS)
def test_a_key_that_is_left_out_has_the_default_of_the_page(
    settings: Settings, table: str, key: str, literal: str
) -> None:
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
    example = re.search(r"```toml\n(?P<text>.+?)```", PAGE, re.DOTALL)
    assert example is not None
    (tmp_path / "client-secret").write_text("a secret", "utf-8")
    (tmp_path / "idp.xml").write_text("<EntityDescriptor/>", "utf-8")
    mapping = tomllib.loads(example["text"])["GENESYS_AUTH"]
    settings = schemas.load_settings(mapping, base_path=tmp_path, app_name="portal")
    assert settings.contact_centers["acme"].saml is not None
