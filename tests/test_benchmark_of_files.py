"""The command that counts the files of a request: it counts both kinds, and finds what every walk must pass through."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks import files_per_request


def test_both_counts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert files_per_request.main([]) in {0, 1}  # the targets depend on the stores, which have tests of their own
    printed = capsys.readouterr().out
    assert re.findall(r"^(\w+): \d+ files, target <= \d+, ", printed, re.M) == ["remembered", "cold"]


def test_files_of_a_walk_are_found_once(capsys: pytest.CaptureFixture[str]) -> None:
    files_per_request.main(["--json"])
    counted = json.loads(capsys.readouterr().out)
    for kind in files_per_request.TARGETS:
        files = counted[kind]["files"]
        assert {"web/hooks.py", "chain/walk.py", "limits/gate.py", "accounts/store.py"} <= set(files)
        assert len(set(files)) == len(files) <= counted[kind]["changes"]
    assert "steps/web_services.py" in counted["cold"]["files"]
    assert "steps/web_services.py" not in counted["remembered"]["files"]
