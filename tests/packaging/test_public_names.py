"""The public names can be imported and are documented."""

from __future__ import annotations

import re
from pathlib import Path

import flask_genesys_auth

from . import typing_cases

DOCS = Path(__file__).parents[2] / "docs"


def test_every_public_name_exists_and_is_documented() -> None:
    pages = "\n".join(page.read_text("utf-8") for page in DOCS.glob("*.md"))
    documented = set(re.findall(r"\w+", pages))
    for name in flask_genesys_auth.__all__:
        assert hasattr(flask_genesys_auth, name)
        assert name in documented


def test_module_has_no_other_public_names() -> None:
    listed = set(flask_genesys_auth.__all__)
    offered = {name for name in dir(flask_genesys_auth) if not name.startswith("_") and name != "annotations"}
    rooms = {path.stem for path in Path(flask_genesys_auth.__file__).parent.iterdir()}
    assert offered - rooms - listed == set()


def test_marks_return_their_argument() -> None:
    assert typing_cases.healthz() == "ok"
    assert typing_cases.Calls().get() == "calls"
