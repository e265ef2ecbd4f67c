"""The diagram and the table of the architecture page match the code."""

from __future__ import annotations

import re

from docs import architecture_reference as house

WRITE = "run: python -m docs.architecture_reference"


def test_the_page_matches_the_code() -> None:
    page = house.PAGE.read_text("utf-8")
    assert house.diagram() in page, WRITE
    assert house.table() in page, WRITE


def test_every_room_has_one_row_and_one_floor() -> None:
    rooms = [room for floor in house.floors() for room in floor]
    there = {path.stem for path in house.PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert sorted(rooms) == sorted(there - {"__init__"})
    assert re.findall(r"^\| `(\w+)` \|", house.table(), re.MULTILINE) == rooms


def test_every_room_states_its_purpose() -> None:
    assert [row for row in house.table().splitlines() if re.search(r"\|\s*\|", row)] == []


def test_arrows_point_down() -> None:
    floor_of = {room: number for number, floor in enumerate(house.floors()) for room in floor}
    known = house.imports()
    assert "chain" in known["web"]
    assert "config" in known["chain"]
    assert "web" in known["extension"]
    assert [(room, used) for room, uses in known.items() for used in uses if floor_of[room] >= floor_of[used]] == []
    drawn = re.findall(r"^    (\w+) --> (\w+)$", house.diagram(), re.MULTILINE)
    assert ("extension", "web") in drawn
    assert ("extension", "config") not in drawn  # implied by a longer path
    assert all(used in known[room] for room, used in drawn)
