"""Writes the tables of ``configuration.md`` from the schemas: ``python -m docs.configuration_reference``.

Keys, their order, types and bounds are those of the schemas, defaults those of the values. The meaning of a key is
what people know: it stands on the page, once, and is kept. A test compares the page with what this writes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from marshmallow import Schema, fields

from flask_genesys_auth.config import addresses, rules, schemas, values
from flask_genesys_auth.config.fields import (
    Choice,
    Flag,
    Listing,
    Location,
    Seconds,
    SecretField,
    TableList,
    Tables,
    Text,
    TextMap,
    Translations,
    Whole,
)

PAGE = Path(__file__).with_name("configuration.md")
ROOT = "GENESYS_AUTH"
_ROW = re.compile(r"^\| `(?P<key>\w+)` \|[^|]*\|[^|]*\| (?P<meaning>.*) \|$", re.MULTILINE)
_TABLE = re.compile(r"^\| key \| type \|.*\n(?:\|.*\n?)+", re.MULTILINE)

KINDS: Mapping[object, str] = {
    rules.header_name: "header",
    rules.limit: "limit",
    rules.url_prefix: "path",
    rules.metadata: "file or address",
    addresses.base_url: "address",
}
"""What a text is, by the rule that reads it."""

KINDS_BY_KEY: Mapping[str, str] = {
    "state_url": "address",
    "accounts_url": "address",
    "storage_url": "address",
    "default_contact_center": "name",
    "login_view": "endpoint",
    "memory_kib": "KiB",
    "idle_timeout": "seconds",
    "absolute_timeout": "seconds",
    "metadata_refresh": "seconds",
    "metadata_lifetime": "seconds",
    "clock_skew": "seconds",
    "request_lifetime": "seconds",
}
"""What a text or a number is, where no rule tells."""

WORKED_OUT: Mapping[str, str] = {
    "base_path": "the instance folder",
    "default_contact_center": "the only one there is",
    "state_url": "`sqlite:///state.sqlite3` in `base_path`",
    "state_namespace": "the application's name",
    "accounts_url": "that of the state; with `memory://` or Redis `sqlite:///accounts.sqlite3`",
    "languages": "English, and those of `texts`",
    "throttle.storage_url": 'that of the state if it is Redis, else `"memory://"`',
    "contact_centers.NAME.id": "the table's name",
    "contact_centers.NAME.public_url": "the global one",
    "contact_centers.NAME.salesforce.ca_file": "the system's",
    "contact_centers.NAME.configuration_server.url": 'required with `"genesys"`',
    "contact_centers.NAME.configuration_server.client_id": 'required with `"genesys"`',
    "contact_centers.NAME.configuration_server.client_secret": 'required with `"genesys"`',
    "contact_centers.NAME.configuration_server.ca_file": "the system's",
    "contact_centers.NAME.saml.entity_id": "the metadata address",
    "contact_centers.NAME.saml.identity_providers.NAME.entity_id": "the only one there",
}
"""Defaults that are worked out when the configuration is read, by their dotted path."""


@dataclasses.dataclass(frozen=True)
class Table:
    """One table of the configuration.

    :param path: such as ``GENESYS_AUTH.contact_centers.NAME``.
    :param cells: of each key, its type and its default.
    """

    path: str
    cells: dict[str, tuple[str, str]]


def tables() -> list[Table]:
    """Return every table that the schemas accept."""
    return list(_tables(schemas._Root(), values.Settings, ROOT))


def _tables(schema: Schema, made: type | None, path: str) -> Iterator[Table]:
    hints = get_type_hints(made, localns={"Proxy": object}) if made else {}
    defaults = {field.name: field for field in dataclasses.fields(made)} if made else {}
    cells, below = {}, []
    for key, field in schema.fields.items():
        if isinstance(field, Tables):
            below.append((field._schema, key, f"{path}.{key}.NAME"))
        elif isinstance(field, fields.Nested):
            below.append((field.schema, key, f"{path}.{key}"))
        else:
            below_root = f"{path}.{key}".removeprefix(f"{ROOT}.")
            cells[key] = (_kind(key, field), _default(below_root, field, defaults.get(key)))
    yield Table(path, cells)
    for inner, key, inner_path in below:
        yield from _tables(inner, _value_class(hints.get(key)), inner_path)


def _value_class(hint: Any) -> type | None:
    """Return the dataclass in ``X``, ``X | None`` or ``Mapping[str, X]``."""
    found = [one for one in (hint, *get_args(hint)) if isinstance(one, type) and dataclasses.is_dataclass(one)]
    return found[0] if found else None


def _kind(key: str, field: Any) -> str:
    kinds: dict[type, Callable[[], str]] = {
        Flag: lambda: "true or false",
        Choice: lambda: ", ".join(f"`{_literal(choice)}`" for choice in field._choices),
        Listing: lambda: "list",
        TextMap: lambda: "table",
        Translations: lambda: "table of tables",
        TableList: lambda: "list of tables",
        SecretField: lambda: "secret",
        Location: lambda: KINDS.get(field._parse, "path"),
        Text: lambda: KINDS_BY_KEY.get(key) or KINDS.get(field._parse, "text"),
        Whole: lambda: f"{KINDS_BY_KEY.get(key, 'whole number')}, {field._least} to {field._most}",
        Seconds: lambda: f"seconds, {'0' if field._zero else 'above 0'} to {field._most}",
    }
    return next(kinds[one] for one in type(field).__mro__ if one in kinds)()


def _default(path: str, field: Any, known: dataclasses.Field[Any] | None) -> str:
    """Return a default in the page's words.

    :param known: the value's field, where the key becomes one: switches do not.
    """
    if path in WORKED_OUT:
        return WORKED_OUT[path]
    if isinstance(field, SecretField):
        return "none" if known and known.default is not dataclasses.MISSING else "required"
    if known is None:
        return f"`{str(path.endswith('.enabled')).lower()}`" if isinstance(field, Flag) else '`""`'
    if known.default is not dataclasses.MISSING:
        return f"`{_literal(known.default)}`"
    return "required" if known.default_factory is dataclasses.MISSING else f"`{_literal(known.default_factory())}`"


def _literal(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, (tuple, frozenset)):
        return f"[{', '.join(_literal(one) for one in sorted(value, key=str))}]"
    return json.dumps(value.host if isinstance(value, values.AllowedHost) else value)


def written(page: str) -> str:
    """Return the page with its tables as the schemas have them; a new key's meaning is left empty there.

    :raises LookupError: if it has no heading for a table, or no table below one.
    """
    for table in tables():
        heading = f"## `[{table.path}]`\n"
        before, found, rest = page.partition(heading)
        section, mark, after = rest.partition("\n## ")
        old = _TABLE.search(section)
        if not found or not old:
            raise LookupError(f"configuration.md has no table under {heading.strip()}")
        section = section[: old.start()] + _markdown(table, old[0]) + section[old.end() :]
        page = before + found + section + mark + after
    return page


def _markdown(table: Table, old: str) -> str:
    meanings = {row["key"]: row["meaning"] for row in _ROW.finditer(old)}
    rows = [
        f"| `{key}` | {kind} | {default} | {meanings.get(key, '')} |" for key, (kind, default) in table.cells.items()
    ]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    sys.stdout.write(f"{PAGE} is written\n")


if __name__ == "__main__":
    main()
