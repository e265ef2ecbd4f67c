"""The page of the commands: its table is generated, and each command has a help text."""

from __future__ import annotations

import pytest

from docs import commands_reference as reference

PAGE = reference.PAGE.read_text("utf-8")


def test_page_has_the_table_of_the_commands() -> None:
    # Versions of click print number ranges differently.
    assert _without_ranges(reference.written(PAGE)) == _without_ranges(PAGE), "run: python -m docs.commands_reference"


def _without_ranges(page: str) -> list[str]:
    return [line for line in page.splitlines() if not line.startswith(("| `saml keygen`", "| `doctor`"))]


def test_removed_command_disappears_from_the_page() -> None:
    changed = PAGE.replace("| `doctor`", "| `nurse`")
    assert "nurse" not in reference.written(changed)
    with pytest.raises(LookupError):
        reference.written(PAGE.replace(reference.END, ""))


def test_every_command_has_a_help_text() -> None:
    found = dict(reference.commands())
    assert {"doctor", "accounts import", "explain"} <= found.keys()
    for name, command in found.items():
        assert command.help, name
        assert f"| `{name}" in PAGE
