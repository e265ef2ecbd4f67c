"""The security pages cite ids of attacks, and a test tries each of them."""

from __future__ import annotations

import re
from pathlib import Path

from .attack_ids import ATTACK_TESTS

ROOT = Path(__file__).parents[2]
# The tests of stores and of nodes are methods of modules with other names.
TESTS = {
    name
    for path in (ROOT / "tests").rglob("*.py")
    for name in re.findall(r"^(?:    )?(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
}


def ids(page: str) -> list[str]:
    return re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE)


def test_pages_list_every_attack_once() -> None:
    assert ids("security.md") + ids("saml-attacks.md") == list(ATTACK_TESTS)


def test_every_attack_has_tests() -> None:
    assert [attack for attack, tests in ATTACK_TESTS.items() if not tests] == []
    missing = {attack: sorted(set(tests) - TESTS) for attack, tests in ATTACK_TESTS.items() if set(tests) - TESTS}
    assert missing == {}, "name the tests in tests/packaging/attack_ids.py as they are called now"
