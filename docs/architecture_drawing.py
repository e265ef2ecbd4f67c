"""Draws the house from the code: ``python -m docs.architecture_drawing``.

Rooms are the packages and modules of ``flask_genesys_auth``; an arrow says that a room imports another at run time;
floors are those that import-linter holds (``pyproject.toml``). Of the arrows only those are drawn that others do not
imply, and none to rooms that import nothing themselves; the table on the page has all. A test compares both with the
code.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flask_genesys_auth"
DRAWING = Path(__file__).with_name("images") / "architecture.svg"
PAGE = Path(__file__).with_name("architecture.md")
TABLE = re.compile(r"^\| room \|.*\n(?:\|.*\n)+", re.MULTILINE)
_WIDTH, _BOX, _HIGH, _FLOOR, _MARGIN = 980, 118, 40, 104, 24
Arrows = Mapping[str, frozenset[str]]


def floors() -> list[list[str]]:
    """Return the rooms of each floor, the highest first, as import-linter has them."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [re.split(r"\s*[|:]\s*", layer) for layer in layers]


def arrows() -> Arrows:
    """Return for each room the rooms it imports at run time, at the top of a module or inside a function."""
    rooms = [room for floor in floors() for room in floor]
    return {room: frozenset(_imported(room)) & frozenset(rooms) - {room} for room in rooms}


def _modules(room: str) -> list[Path]:
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


def _imported(room: str) -> Iterator[str]:
    for module in _modules(room):
        here = module.relative_to(PACKAGE.parent).with_suffix("").parts
        for node in _at_run_time(ast.parse(module.read_text("utf-8"))):
            base = ""
            if isinstance(node, ast.ImportFrom):
                base = ".".join((*(here[: len(here) - node.level] if node.level else ()), node.module or "")) + "."
            names = [f"{base}{alias.name}".split(".") for alias in node.names]
            for name in ([part for part in one if part] for one in names):
                if name[0] == PACKAGE.name and len(name) > 1:
                    yield name[1]


def _at_run_time(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        yield from _at_run_time(node)


def needed(all_arrows: Arrows) -> list[tuple[str, str]]:
    """Return the arrows that no longer way implies, those to rooms that import nothing left out."""
    return [
        (room, used)
        for room, uses in all_arrows.items()
        for used in sorted(uses)
        if all_arrows[used] and not any(used in _reach(all_arrows, other) for other in uses - {used})
    ]


def _reach(all_arrows: Arrows, room: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
    found = frozenset(all_arrows[room]) - seen
    for one in found:
        found |= _reach(all_arrows, one, seen | found | {room})
    return found


def drawing() -> str:
    """Return the drawing as SVG."""
    rows = _untangled(floors(), needed(arrows()))
    places = {
        room: (_MARGIN + (_WIDTH - 2 * _MARGIN) * (2 * place + 1) // (2 * len(row)), _MARGIN + floor * _FLOOR)
        for floor, row in enumerate(rows)
        for place, room in enumerate(row)
    }
    height = 2 * _MARGIN + _HIGH + _FLOOR * (len(rows) - 1)
    drawn = needed(arrows())
    begins, ends = _ports(drawn, places, 0), _ports(drawn, places, 1)
    lines = [_line(begins[one], places[one[0]][1], ends[one], places[one[1]][1]) for one in drawn]
    boxes = [_box(room, *place) for room, place in places.items()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="14">\n'
        "<title>The rooms of flask_genesys_auth and what they import</title>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#6f8a88"/></marker></defs>\n'
        f'<rect width="{_WIDTH}" height="{height}" rx="10" fill="#f6f8f7"/>\n'
        + "\n".join([*lines, *boxes])
        + "\n</svg>\n"
    )


def _untangled(rows: Sequence[Sequence[str]], lines: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Put each room near those it is tied to, so that few arrows cross."""
    ordered = [list(row) for row in rows]
    for _ in range(8):
        at = {room: (place + 0.5) / len(row) for row in ordered for place, room in enumerate(row)}
        tied = {room: [at[b] for a, b in lines if a == room] + [at[a] for a, b in lines if b == room] for room in at}
        ordered = [
            sorted(row, key=lambda room: sum(tied[room] or [at[room]]) / len(tied[room] or [0])) for row in ordered
        ]
    return ordered


def _ports(
    drawn: Sequence[tuple[str, str]], places: Mapping[str, tuple[int, int]], side: int
) -> dict[tuple[str, str], int]:
    """Return where along its box each arrow begins (``side`` 0) or ends (1): beside its neighbours, uncrossed."""
    found = {}
    for room in places:
        mine = sorted((one for one in drawn if one[side] == room), key=lambda one: places[one[1 - side]][0])
        for place, one in enumerate(mine, 1):
            found[one] = places[room][0] - _BOX // 2 + _BOX * place // (len(mine) + 1)
    return found


def _line(x: int, y: int, to_x: int, to_y: int) -> str:
    style = 'fill="none" stroke="#6f8a88" stroke-width="1.3" marker-end="url(#tip)"'
    begins, ends = y + _HIGH, to_y
    bend = (ends - begins) // 2
    return f'<path d="M{x} {begins}C{x} {begins + bend} {to_x} {ends - bend} {to_x} {ends}" {style}/>'


def _box(room: str, x: int, y: int) -> str:
    return (
        f'<rect x="{x - _BOX // 2}" y="{y}" width="{_BOX}" height="{_HIGH}" rx="7" fill="#fff" stroke="#0f5f5c"/>'
        f'<text x="{x}" y="{y + _HIGH // 2 + 5}" text-anchor="middle" fill="#16302f">{escape(room)}</text>'
    )


def table() -> str:
    """Return the rooms in Markdown: what each is for, by its own words, and what it imports."""
    known = arrows()
    rows = [
        f"| `{room}` | {_purpose(room)} | {', '.join(f'`{used}`' for used in sorted(known[room])) or 'none'} |"
        for floor in floors()
        for room in floor
    ]
    return "\n".join(["| room | what it is for | imports |", "|---|---|---|", *rows, ""])


def _purpose(room: str) -> str:
    first = PACKAGE / room / "__init__.py" if (PACKAGE / room).is_dir() else PACKAGE / f"{room}.py"
    said = ast.get_docstring(ast.parse(first.read_text("utf-8"))) or ""
    return " ".join(said.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


def main() -> None:
    """Write the drawing and the table anew."""
    DRAWING.write_text(drawing(), "utf-8")
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text("utf-8"), count=1), "utf-8")


if __name__ == "__main__":
    main()
