"""Writes the diagram and the table of ``architecture.md`` from the imports: ``python -m docs.architecture_reference``.

It shows the packages and modules directly below ``flask_genesys_auth``. An arrow means an import at run time. The
layers are those that import-linter checks (``pyproject.toml``).
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
_GENERATED = re.compile(r"^```mermaid\n(?:.*\n)*?```\n|^\| package \|.*\n(?:\|.*\n)+", re.MULTILINE)


def layers() -> list[list[str]]:
    """Return the packages of each layer, the highest first."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (found,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [re.split(r"\s*[|:]\s*", layer) for layer in found]


def imports() -> Mapping[str, frozenset[str]]:
    """Return for each package the packages that it imports at run time."""
    graph = grimp.build_graph(PACKAGE.name, exclude_type_checking_imports=True, cache_dir=None)
    packages = graph.find_children(PACKAGE.name)
    for package in packages:
        graph.squash_module(package)
    return {_name(one): frozenset(map(_name, graph.find_modules_directly_imported_by(one) - {one})) for one in packages}


def _name(module: str) -> str:
    return module.rpartition(".")[2]


def diagram() -> str:
    """Return the Mermaid source without implied arrows and arrows to packages that import nothing."""
    known = imports()
    lines = [
        f"    {package} --> {used}"
        for layer in layers()
        for package in layer
        for used in sorted(known[package])
        if known[used] and not any(used in _reached(known, other) for other in known[package])
    ]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```", ""])


def _reached(known: Mapping[str, frozenset[str]], package: str) -> frozenset[str]:
    return known[package].union(*(_reached(known, used) for used in known[package]))


def table() -> str:
    """Return the packages as a Markdown table: the purpose from their docstrings, and what they import."""
    known = imports()
    rows = [
        f"| `{package}` | {_purpose(package)} | {', '.join(f'`{used}`' for used in sorted(known[package])) or 'none'} |"
        for layer in layers()
        for package in layer
    ]
    return "\n".join(["| package | purpose | imports |", "|---|---|---|", *rows, ""])


def _purpose(package: str) -> str:
    module = PACKAGE / package / "__init__.py" if (PACKAGE / package).is_dir() else PACKAGE / f"{package}.py"
    text = ast.get_docstring(ast.parse(module.read_text("utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


def main() -> None:
    """Write the diagram and the table."""
    parts: Iterator[str] = iter((diagram(), table()))
    PAGE.write_text(_GENERATED.sub(lambda _: next(parts), PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
