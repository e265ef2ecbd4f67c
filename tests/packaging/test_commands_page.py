"""The page of the commands: its table is written from them, and says what each is for."""

from __future__ import annotations

import pytest

from docs import commands_reference as reference

PAGE = reference.PAGE.read_text("utf-8")


def test_the_table_of_the_page_is_that_of_the_commands() -> None:
    # How click shows a range of numbers has changed between its versions.
    assert _without_ranges(reference.written(PAGE)) == _without_ranges(PAGE), "run: python -m docs.commands_reference"


def _without_ranges(page: str) -> list[str]:
    return [line for line in page.splitlines() if not line.startswith(("| `saml keygen`", "| `doctor`"))]


def test_a_command_that_is_gone_does_not_stay_on_the_page() -> None:
    changed = PAGE.replace("| `doctor`", "| `nurse`")
    assert "nurse" not in reference.written(changed)
    with pytest.raises(LookupError):
        reference.written(PAGE.replace(reference.END, ""))


def test_every_command_and_option_says_what_it_is_for() -> None:
    found = dict(reference.commands())
    assert {"doctor", "accounts import", "explain"} <= found.keys()
    for name, command in found.items():
        assert command.help, name
        assert f"| `{name}" in PAGE
