"""Rules of the project that no linter checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("flask_genesys_auth", "sample_app") for path in (ROOT / package).rglob("*.py"))
TESTS = sorted(path for folder in ("tests", "docs/examples") for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_every_module_has_a_docstring(module: Path) -> None:
    assert module.read_text("utf-8").startswith('"""')


def test_no_module_is_called_utils() -> None:
    assert [name(module) for module in MODULES if module.stem in {"utils", "util", "helpers", "misc"}] == []


def test_no_unfinished_code_is_committed() -> None:
    # Split, so that this file does not match.
    marks = ("TO" + "DO", "FIX" + "ME", "pragma: no " + "cover")
    texts = {name(module): module.read_text("utf-8") for module in MODULES}
    assert [(where, mark) for where, text in texts.items() for mark in marks if mark in text] == []


def test_names_of_tests_have_at_most_eight_words() -> None:
    texts = {name(module): module.read_text("utf-8") for module in TESTS}
    found = [
        (where, test)
        for where, text in texts.items()
        for test in re.findall(r"^ *(?:async )?def test_(\w+)", text, re.MULTILINE)
    ]
    assert found
    long = [f"{where}: test_{test}" for where, test in found if len(re.findall(r"[^_]+", test)) > 8]
    assert long == [], "name the behaviour in at most eight words"
