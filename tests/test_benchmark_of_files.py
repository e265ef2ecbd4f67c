"""The command that counts the files of a request: it counts both kinds, and finds what every walk must pass through."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks import files_per_request


def test_both_counts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    files_per_request.main([])  # its result says whether the targets are met, which depends on the stores
    printed = capsys.readouterr().out
    counted = re.findall(r"^(\w+): (\d+) files, target <= \d+, ", printed, re.M)
    assert [kind for kind, _ in counted] == ["remembered", "cold"]
    assert all(int(files) > 0 for _, files in counted)
    assert printed.splitlines().count("  chain/walk.py") == 2


def test_files_of_a_walk_are_found_once(capsys: pytest.CaptureFixture[str]) -> None:
    files_per_request.main(["--json"])
    counted = json.loads(capsys.readouterr().out)
    for kind in files_per_request.TARGETS:
        files = counted[kind]["files"]
        assert {"web/hooks.py", "chain/walk.py", "limits/gate.py", "accounts/store.py"} <= set(files)
        assert len(set(files)) == len(files) <= counted[kind]["changes"]
    assert "steps/web_services.py" in counted["cold"]["files"]
    assert "steps/web_services.py" not in counted["remembered"]["files"]
