"""The page on the architecture: its drawing and its table are those of the code."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from docs import architecture_drawing as house

WRITE = "run: python -m docs.architecture_drawing"


def test_the_drawing_and_the_table_are_those_of_the_code() -> None:
    assert house.DRAWING.read_text("utf-8") == house.drawing(), WRITE
    assert house.table() in house.PAGE.read_text("utf-8"), WRITE


def test_every_room_of_the_package_is_drawn_once() -> None:
    rooms = [room for floor in house.floors() for room in floor]
    there = {path.stem for path in house.PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert sorted(rooms) == sorted(there - {"__init__"})
    drawn = [element.text for element in ET.fromstring(house.drawing()).iter("{http://www.w3.org/2000/svg}text")]
    assert sorted(drawn, key=str) == sorted(rooms)


def test_every_room_says_what_it_is_for() -> None:
    assert [row for row in house.table().splitlines() if re.search(r"\|\s*\|", row)] == []


def test_arrows_point_down() -> None:
    floor_of = {room: number for number, floor in enumerate(house.floors()) for room in floor}
    known = house.arrows()
    assert {("web", "chain"), ("chain", "config"), ("extension", "web")} <= {
        (room, used) for room, uses in known.items() for used in uses
    }
    assert [(room, used) for room, uses in known.items() for used in uses if floor_of[room] > floor_of[used]] == []


def test_imports_are_found_wherever_they_stand_but_where_types_alone_are_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "flask_genesys_auth"
    (package / "web").mkdir(parents=True)
    (package / "web" / "pages.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from .. import signals\n"
        "from ..chain.outcomes import Decision\n"
        "import flask_genesys_auth.state.memory\n"
        "from flask_genesys_auth import errors\n"
        "from .origin import check\n"
        "if TYPE_CHECKING:\n    from ..steps import basic\n"
        "def view():\n    from ..saml import gate\n",
        "utf-8",
    )
    # The whole picture needs the layers of the real package; of another one only the imports can be read.
    monkeypatch.setattr(house, "PACKAGE", package)
    assert set(house._imported("web")) - {"web"} == {"signals", "chain", "state", "errors", "saml"}
