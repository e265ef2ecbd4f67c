"""The diagram and the table of the architecture page match the code."""

from __future__ import annotations

import re

from docs import architecture_reference as reference

WRITE = "run: python -m docs.architecture_reference"


def test_the_page_matches_the_code() -> None:
    page = reference.PAGE.read_text("utf-8")
    assert reference.diagram() in page, WRITE
    assert reference.table() in page, WRITE


def test_every_package_has_one_row_and_one_layer() -> None:
    packages = [package for layer in reference.layers() for package in layer]
    there = {
        path.stem for path in reference.PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert sorted(packages) == sorted(there - {"__init__"})
    assert re.findall(r"^\| `(\w+)` \|", reference.table(), re.MULTILINE) == packages


def test_every_package_states_its_purpose() -> None:
    assert [row for row in reference.table().splitlines() if re.search(r"\|\s*\|", row)] == []


def test_arrows_point_down() -> None:
    layer_of = {package: number for number, layer in enumerate(reference.layers()) for package in layer}
    known = reference.imports()
    assert "chain" in known["web"]
    assert "config" in known["chain"]
    assert "web" in known["extension"]
    assert [
        (package, used) for package, uses in known.items() for used in uses if layer_of[package] >= layer_of[used]
    ] == []
    drawn = re.findall(r"^    (\w+) --> (\w+)$", reference.diagram(), re.MULTILINE)
    assert ("extension", "web") in drawn
    assert ("extension", "config") not in drawn  # implied by a longer path
    assert all(used in known[package] for package, used in drawn)
