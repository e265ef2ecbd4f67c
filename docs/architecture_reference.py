"""Writes the diagram and the table of ``architecture.md`` from the imports: ``python -m docs.architecture_reference``.

The rooms are the packages and modules of ``flask_genesys_auth``. An arrow means that a room imports another at run
time. The floors are the layers that import-linter checks (``pyproject.toml``).
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import grimp

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flask_genesys_auth"
PAGE = Path(__file__).with_name("architecture.md")
_GENERATED = re.compile(r"^```mermaid\n(?:.*\n)*?```\n|^\| room \|.*\n(?:\|.*\n)+", re.MULTILINE)


def floors() -> list[list[str]]:
    """Return the rooms of each floor, the highest first."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [re.split(r"\s*[|:]\s*", layer) for layer in layers]


def imports() -> Mapping[str, frozenset[str]]:
    """Return for each room the rooms that it imports at run time."""
    graph = grimp.build_graph(PACKAGE.name, exclude_type_checking_imports=True, cache_dir=None)
    rooms = graph.find_children(PACKAGE.name)
    for room in rooms:
        graph.squash_module(room)
    return {_name(one): frozenset(map(_name, graph.find_modules_directly_imported_by(one) - {one})) for one in rooms}


def _name(module: str) -> str:
    return module.rpartition(".")[2]


def diagram() -> str:
    """Return the Mermaid source: only arrows that no longer path implies, and none to rooms that import nothing."""
    known = imports()
    lines = [
        f"    {room} --> {used}"
        for floor in floors()
        for room in floor
        for used in sorted(known[room])
        if known[used] and not any(used in _reached(known, other) for other in known[room])
    ]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```", ""])


def _reached(known: Mapping[str, frozenset[str]], room: str) -> frozenset[str]:
    return known[room].union(*(_reached(known, used) for used in known[room]))


def table() -> str:
    """Return the rooms as a Markdown table: the purpose that each states itself, and what it imports."""
    known = imports()
    rows = [
        f"| `{room}` | {_purpose(room)} | {', '.join(f'`{used}`' for used in sorted(known[room])) or 'none'} |"
        for floor in floors()
        for room in floor
    ]
    return "\n".join(["| room | what it is for | imports |", "|---|---|---|", *rows, ""])


def _purpose(room: str) -> str:
    module = PACKAGE / room / "__init__.py" if (PACKAGE / room).is_dir() else PACKAGE / f"{room}.py"
    text = ast.get_docstring(ast.parse(module.read_text("utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


def main() -> None:
    """Write the diagram and the table."""
    parts: Iterator[str] = iter((diagram(), table()))
    PAGE.write_text(_GENERATED.sub(lambda _: next(parts), PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
