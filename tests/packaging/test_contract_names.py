"""Names that users rely on do not change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from . import contract

RECORDED: dict[str, Any] = json.loads(contract.NAMES.read_text("utf-8"))
CHANGED = (
    "a name that others rely on has changed: rename it back, or change the list in a commit of its own that says why "
    "(python -m tests.packaging.contract)"
)


@pytest.mark.parametrize("kind", RECORDED)
def test_names_are_the_recorded_ones(kind: str) -> None:
    assert contract.collect(kind) == RECORDED[kind], CHANGED


def test_every_kind_of_name_is_recorded() -> None:
    assert list(RECORDED) == list(contract.KINDS)


def test_no_kind_of_name_is_empty() -> None:
    assert [kind for kind, names in RECORDED.items() if not names] == []


def test_every_command_has_exit_statuses_and_keys() -> None:
    commands: dict[str, list[str]] = RECORDED["commands"]
    runs = list(RECORDED["exit statuses"])
    assert [name for name in commands if not any(run.startswith(name) for run in runs)] == []
    assert [name for name, options in commands.items() if "--json" in options] == [
        name for name in commands if name in RECORDED["keys of --json"]
    ]


def test_json_keys_are_found_at_any_depth() -> None:
    keys = contract.json_keys({"steps": [{"step": "a"}, {"outcome": {"reason": 1}}]})
    assert list(keys) == ["steps", "steps[].step", "steps[].outcome", "steps[].outcome.reason"]
