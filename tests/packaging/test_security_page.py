"""The pages on security name tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
} | {
    # The contract of the state's stores, and of two nodes, is in modules of other names.
    name
    for path in (ROOT / "tests").rglob("*.py")
    for name in re.findall(r"^    def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("page", ["security.md", "saml-attacks.md"])
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text("utf-8")))
    assert len(named) > 20
    assert named - TESTS == set()


def test_every_line_of_the_tables_says_how_it_is_tried() -> None:
    rows = re.findall(r"^\| (.+) \| (.+) \| (.*) \|$", (ROOT / "docs" / "security.md").read_text("utf-8"), re.MULTILINE)
    tried = [row for row in rows if row[2] not in {"tried by", "---"}]
    assert len(tried) > 20
    assert [row for row in tried if not re.fullmatch(r"`test_\w+`(, `test_\w+`)*", row[2])] == []
