"""The benchmark of imports runs, and measures processes of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import accounts_import, start_up


def test_accounts_import_measures_processes_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    status = accounts_import.main(["--rows", "20", "--rounds", "1", "--json"])
    assert status in {0, 1}  # whether a target is met is not for a test to say
    figures = json.loads(capsys.readouterr().out)
    assert set(figures["imports"]) == {"csv", "json"}
    assert all(cost["peak_mebibytes"] > 10 for cost in figures["imports"].values())
    assert figures["start_ratio"] > 0
    assert accounts_import.told(figures).count("target <=") == 2


def test_failing_command_aborts_the_accounts_benchmark(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no account tables"):
        accounts_import.flask(tmp_path, "genesys-auth", "accounts", "list")


def test_start_up_measures_processes_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert start_up.main(["--rounds", "1", "--json"]) in {0, 1}  # whether a target is met is not for a test to say
    told = json.loads(capsys.readouterr().out)
    assert set(told["figures"]) == {start_up.OURS, start_up.PEER, start_up.BARE}
    assert all(found["mebibytes"] > 10 and found["milliseconds"] > 0 for found in told["figures"].values())
    assert all(ratio > 0 for ratio in told["ratios"].values())
