"""The rules of the house that no linter knows."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("flask_genesys_auth", "sample_app") for path in (ROOT / package).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_module_says_what_it_is_for(module: Path) -> None:
    assert module.read_text("utf-8").startswith('"""')


def test_no_module_is_a_grab_bag() -> None:
    assert [name(module) for module in MODULES if module.stem in {"utils", "util", "helpers", "misc"}] == []


def test_what_is_unfinished_is_not_committed() -> None:
    # Written apart, so that this file does not find itself.
    marks = ("TO" + "DO", "FIX" + "ME", "pragma: no " + "cover")
    texts = {name(module): module.read_text("utf-8") for module in MODULES}
    assert [(where, mark) for where, text in texts.items() for mark in marks if mark in text] == []
