"""Tests neither read nor patch private names of the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.servers import require

TESTS = Path(__file__).parents[1]
PACKAGES = ("flask_genesys_auth", "sample_app")

LIBRARIES = {
    "_Element": "lxml's class of elements, which has no public name",
    "_exit": "ends a forked child without pytest's own exit",
    "_typeshed": "types of WSGI, for type checkers only",
    "_load_user": "Flask-Login's own, which our manager works with",
    "_login_user": "where Flask-Login keeps the user of a request",
    "_update_request_context_with_user": "Flask-Login's own, which its login_user calls",
    "_user_context_processor": "Flask-Login's own, which must be registered once",
    "_get_current_object": "werkzeug's documented way to the object behind a proxy",
    "_debug": "an attribute of python3-saml's settings that its validator reads",
}
"""Private names of libraries."""

ALLOWED = {
    "saml/verify/test_encryption.py": (2, "which way a message goes shows outside in time alone"),
}
"""How many private names a file may use, and why. A comment at each place gives the reason as well."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name.strip("_") != "" and name not in LIBRARIES


def own_names(tree: ast.Module) -> set[str]:
    """Return the private names that a file defines itself."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            found.add(node.attr)
    return found


def imported_names(tree: ast.Module) -> set[str]:
    """Return the names that a file imports from the package."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES
        for alias in node.names
    }


def private_places(text: str) -> list[str]:
    """Return where a file reads or patches private names, or patches any name that the package defines."""
    tree = ast.parse(text)
    own, imported = own_names(tree), imported_names(tree)
    found = [node for node in ast.walk(tree) if _reads(node, own) or _imports(node) or _patches(node, imported)]
    return [f"{node.lineno}: {ast.unparse(node)}" for node in found if isinstance(node, (ast.expr, ast.stmt))]


def _reads(node: ast.AST, own: set[str]) -> bool:
    if isinstance(node, ast.Attribute):
        return is_private(node.attr) and node.attr not in own
    if isinstance(node, ast.Subscript):
        return _is_dictionary(node.value) and is_private(_text(node.slice))
    if isinstance(node, ast.Call) and _name(node.func) in {"setattr", "delattr", "getattr"}:
        return any(is_private(_text(given)) and _text(given) not in own for given in node.args[:2])
    return False


def _imports(node: ast.AST) -> bool:
    if not isinstance(node, (ast.Import, ast.ImportFrom)):
        return False
    names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    return any(is_private(part) for name in names for part in name.split("."))


def _patches(node: ast.AST, imported: set[str]) -> bool:
    """Return whether this patches a module or a class of the package."""
    if not isinstance(node, ast.Call) or _name(node.func) not in {"setattr", "delattr"} or not node.args:
        return False
    target = node.args[0]
    return _text(target).split(".")[0] in PACKAGES or (isinstance(target, ast.Name) and target.id in imported)


def _is_dictionary(node: ast.expr) -> bool:
    """Return whether this is ``vars(...)`` or ``... .__dict__``."""
    return (isinstance(node, ast.Call) and _name(node.func) == "vars") or _name(node) == "__dict__"


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.mark.parametrize(
    "program",
    [
        "store._entries",
        "vars(store)['_entries']",
        "store.__dict__['_entries']",
        "getattr(store, '_entries')",
        "monkeypatch.setattr(store, '_entries', {})",
        "monkeypatch.setattr('flask_genesys_auth.sessions.LIMIT', 1)",
        "from flask_genesys_auth.cli import sessions\nmonkeypatch.setattr(sessions, 'FEW', 1)",
        "from flask_genesys_auth.state.memory import MemoryState\nmonkeypatch.setattr(MemoryState, 'get', None)",
        "from flask_genesys_auth.state.memory import _Entry",
        "class Own(MemoryState):\n    def size(self):\n        return len(self._entries)",
    ],
)
def test_private_name_is_found(program: str) -> None:
    assert len(private_places(program)) == 1


@pytest.mark.parametrize(
    "program",
    [
        "store.entries",
        "store.__class__",
        "class Own:\n    def __init__(self):\n        self._entries = {}\n\nOwn()._entries",
        "monkeypatch.setattr(sys, 'stdin', None)",
        "def _helper(): ...\n\n_helper()",
        "element: etree._Element",
    ],
)
def test_public_and_local_names_are_not_private(program: str) -> None:
    assert private_places(program) == []


def test_tests_use_no_private_names_of_the_package() -> None:
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("*.py")):
        name, places = path.relative_to(TESTS).as_posix(), private_places(path.read_text("utf-8"))
        if len(places) != ALLOWED.get(name, (0, ""))[0]:
            found[name] = places
    assert found == {}, (
        "test public behaviour; if only a private name shows a security property, add the file to ALLOWED"
    )


def test_quick_test_that_starts_a_server_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WITHOUT_SERVERS", raising=False)
    assert require("sh", "dash").endswith("/sh")
    monkeypatch.setenv("WITHOUT_SERVERS", "1")
    with pytest.raises(pytest.fail.Exception, match="a quick test runs sh"):
        require("sh", "dash")
