"""Writes the tables of the configuration pages from the settings: ``python -m docs.configuration_reference``.

Each row is the declaration of a key. Each table stands under the heading of its path, on one of the pages. The text
between the tables is written by hand and kept.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flask_genesys_auth.config.addresses import AllowedHost
from flask_genesys_auth.config.fields import Section, Setting, Tables, default_of, settings_of
from flask_genesys_auth.config.settings import Settings

NAMES = ("configuration", "configuration-contact-centers", "configuration-saml")
PAGES = tuple(Path(__file__).with_name(f"{name}.md") for name in NAMES)
ROOT = "GENESYS_AUTH"
_TABLE = re.compile(r"^\| key \| type \|.*\n(?:\|.*\n?)+", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Row:
    """One key on the page."""

    key: str
    kind: str
    default: str
    meaning: str

    def __str__(self) -> str:
        return f"| `{self.key}` | {self.kind} | {self.default} | {self.meaning} |\n"


@dataclasses.dataclass(frozen=True)
class Table:
    """One table of the configuration.

    :param path: such as ``GENESYS_AUTH.contact_centers.NAME``.
    """

    path: str
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        return "| key | type | default | meaning |\n|---|---|---|---|\n" + "".join(map(str, self.rows))


def tables(declared: type = Settings, path: str = ROOT) -> Iterator[Table]:
    """Yield a table of the configuration and every table below it."""
    rows, below = [], []
    for key, setting in settings_of(declared).items():
        field = setting.field
        if isinstance(field, (Section, Tables)):
            below.append((field.declared, f"{path}.{key}" + (".NAME" if isinstance(field, Tables) else "")))
        else:
            rows.append(Row(key, field.kind, _default(setting, default_of(declared, key)), setting.help))
    yield Table(path, tuple(rows))
    for inner, inner_path in below:
        yield from tables(inner, inner_path)


def _default(setting: Setting, value: Any) -> str:
    if setting.shown_default:
        return setting.shown_default
    if value is dataclasses.MISSING:
        return "required"
    return "none" if setting.field.kind == "secret" else f"`{_literal(value)}`"


def _literal(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, (tuple, frozenset)):
        return f"[{', '.join(_literal(one) for one in sorted(value, key=str))}]"
    return json.dumps(value.host if isinstance(value, AllowedHost) else value)


def read() -> dict[Path, str]:
    """Return the pages."""
    return {path: path.read_text("utf-8") for path in PAGES}


def written(pages: Mapping[Path, str]) -> dict[Path, str]:
    """Return the pages with the tables of the settings.

    :raises LookupError: if a table has no heading, or several, or if no table stands below it.
    """
    changed = dict(pages)
    for table in tables():
        heading = f"## `[{table.path}]`\n"
        found = [path for path, page in changed.items() if heading in page]
        if len(found) != 1:
            raise LookupError(f"{heading.strip()} stands on {len(found)} pages of the configuration instead of one")
        before, _, rest = changed[found[0]].partition(heading)
        section, mark, after = rest.partition("\n## ")
        old = _TABLE.search(section)
        if not old:
            raise LookupError(f"{found[0].name} has no table under {heading.strip()}")
        changed[found[0]] = before + heading + section[: old.start()] + str(table) + section[old.end() :] + mark + after
    return changed


def main() -> None:
    """Write the pages."""
    for path, page in written(read()).items():
        path.write_text(page, "utf-8")
        sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
