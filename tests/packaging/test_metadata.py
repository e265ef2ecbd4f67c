"""The metadata of pyproject.toml."""

from __future__ import annotations

import re
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9-]+)(?:\[[a-z]+\])?>=(?P<bound>[0-9.]+)(?P<marker>;.*)?")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def requirements(pyproject: dict[str, Any]) -> list[str]:
    project, groups = pyproject["project"], pyproject["dependency-groups"]
    listed = [*project["dependencies"], *groups["tests"]]
    for extra in project["optional-dependencies"].values():
        listed.extend(extra)
    return listed


def test_every_requirement_is_a_lower_bound(pyproject: dict[str, Any]) -> None:
    wrong = [requirement for requirement in requirements(pyproject) if not REQUIREMENT.fullmatch(requirement)]
    assert wrong == []


def test_lowest_environment_pins_every_lower_bound(pyproject: dict[str, Any]) -> None:
    expected = set()
    for requirement in requirements(pyproject):
        parts = REQUIREMENT.fullmatch(requirement)
        assert parts is not None
        expected.add(f"{parts['name']}=={parts['bound']}{parts['marker'] or ''}")
    pinned = (ROOT / "tests" / "lowest.txt").read_text("utf-8").splitlines()
    assert {line for line in pinned if not line.startswith("#")} == expected


def test_version_is_the_first_of_the_changelog(pyproject: dict[str, Any]) -> None:
    newest = re.search(r"^## \[(?P<version>[^\]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest["version"] == pyproject["project"]["version"] == version("flask-genesys-auth")


def test_flask_command_is_registered() -> None:
    (command,) = entry_points(group="flask.commands", name="genesys-auth")
    assert command.load().name == "genesys-auth"
