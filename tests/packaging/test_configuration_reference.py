"""The page on the configuration names the keys that the schemas accept, and the defaults that the values have."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from marshmallow import Schema, fields

from flask_genesys_auth.config import schemas, values
from flask_genesys_auth.config.fields import Tables

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
ROW = re.compile(r"^\| `(?P<key>\w+)` \| (?P<type>[^|]+) \| (?P<default>[^|]+) \| (?P<meaning>.+) \|$", re.MULTILINE)
VALUES = {
    "GENESYS_AUTH": values.Settings,
    "GENESYS_AUTH.salesforce_headers": values.SalesforceHeaders,
    "GENESYS_AUTH.session": values.SessionSettings,
    "GENESYS_AUTH.passwords": values.PasswordSettings,
    "GENESYS_AUTH.throttle": values.ThrottleSettings,
    "GENESYS_AUTH.contact_centers.NAME": values.ContactCenterSettings,
    "GENESYS_AUTH.contact_centers.NAME.salesforce": values.Salesforce,
    "GENESYS_AUTH.contact_centers.NAME.configuration_server": values.ConfigurationServer,
    "GENESYS_AUTH.contact_centers.NAME.saml": values.Saml,
    "GENESYS_AUTH.contact_centers.NAME.saml.identity_providers.NAME": values.IdentityProvider,
}


def documented() -> dict[str, dict[str, str]]:
    """Return each table's keys with what the page says their default is."""
    tables = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading = re.match(r"`\[(?P<table>[\w.]+)\]`", section)
        if heading:
            tables[heading["table"]] = {row["key"]: row["default"] for row in ROW.finditer(section)}
    return tables


def accepted(schema: Schema, path: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each table with its keys that are no tables themselves."""
    keys = set()
    for key, field in schema.fields.items():
        if isinstance(field, Tables):
            yield from accepted(field._schema, f"{path}.{key}.NAME")
        elif isinstance(field, fields.Nested):
            yield from accepted(field.schema, f"{path}.{key}")
        else:
            keys.add(key)
    yield path, keys


def test_every_key_is_documented_and_no_other() -> None:
    assert {table: set(keys) for table, keys in documented().items()} == dict(accepted(schemas._Root(), "GENESYS_AUTH"))


def literals() -> list[Any]:
    found = []
    for table, keys in documented().items():
        for key, default in keys.items():
            literal = re.fullmatch(r"`([^`]+)`", default)
            if literal and table in VALUES:
                found.append(pytest.param(table, key, literal[1], id=f"{table}.{key}"))
    return found


@pytest.mark.parametrize(("table", "key", "literal"), literals())
def test_a_documented_default_is_the_default(table: str, key: str, literal: str) -> None:
    default = tomllib.loads(f"value = {literal}")["value"]
    known: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(VALUES[table])}
    if key in {"enabled", "allow_http"}:  # switches of the configuration, gone in the values
        assert default is (key == "enabled")
    elif key.endswith("_hosts"):
        assert [host.host for host in known[key]] == default
    elif isinstance(default, list):
        assert list(known[key]) == default
    elif isinstance(default, dict):
        assert default == {}
    else:
        assert known[key] == default


def test_the_example_is_accepted(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(?P<text>.+?)```", PAGE, re.DOTALL)
    assert example is not None
    (tmp_path / "client-secret").write_text("a secret", "utf-8")
    (tmp_path / "idp.xml").write_text("<EntityDescriptor/>", "utf-8")
    mapping = tomllib.loads(example["text"])["GENESYS_AUTH"]
    settings = schemas.load_settings(mapping, base_path=tmp_path, app_name="portal")
    assert settings.contact_centers["acme"].saml is not None
