"""The declaration of a key gives its schema, its default and its row on the reference page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from flask_genesys_auth.config.fields import (
    Section,
    TableValue,
    default_of,
    flag,
    schema_of,
    setting,
    settings_of,
    table,
    table_at,
    text,
    value_of,
    whole,
)
from flask_genesys_auth.config.settings import Settings


@table
class Inner:
    lanes: int = setting(whole(1, 8), default=2, help="Lanes.")


@table
class Outer:
    enabled: bool = setting(flag(), default=True, kw_only=True)
    name: str = setting(text(kind="name"), help="A name.")
    inner: Inner = setting(Section(Inner), default=Inner())
    read: bool = dataclasses.field(default=False)


def test_schema_has_exactly_the_declared_keys() -> None:
    assert list(schema_of(Outer).fields) == ["enabled", "name", "inner"]
    assert schema_of(Outer).load({"name": "x", "inner": {"LANES": 3}}) == {"name": "x", "inner": {"lanes": 3}}


def test_valid_table_becomes_its_dataclass() -> None:
    assert value_of(Outer, {"name": "x", "inner": {"lanes": 3}, "read": True}) == Outer("x", Inner(3), read=True)
    with pytest.raises(TypeError, match="name"):
        value_of(Outer, {})


def test_declarations_are_found_by_key() -> None:
    assert [(key, one.field.kind, one.help) for key, one in settings_of(Outer).items()] == [
        ("enabled", "true or false", ""),
        ("name", "name", "A name."),
        ("inner", "table", ""),
    ]
    assert (default_of(Outer, "enabled"), default_of(Outer, "name")) == (True, dataclasses.MISSING)
    assert table_at(Outer, "inner") is Inner
    with pytest.raises(TypeError, match=r"Outer\.name is not a table"):
        table_at(Outer, "name")


def defaults(declared: type) -> Iterator[Any]:
    """Yield the field and the default of each key that is not a table."""
    for key, one in settings_of(declared).items():
        default = default_of(declared, key)
        if isinstance(one.field, TableValue):
            yield from defaults(one.field.declared)
        elif isinstance(default, (bool, int, float)) or (isinstance(default, str) and (default or key == "link_by")):
            yield pytest.param(one.field, default, id=f"{declared.__name__}.{key}")


DEFAULTS = [one for one in defaults(Settings) if one.values[1] is not dataclasses.MISSING]


@pytest.mark.parametrize(("field", "default"), DEFAULTS)
def test_every_default_is_accepted_by_its_key(field: Any, default: object) -> None:
    assert field.to_value(field.deserialize(default)) == default
