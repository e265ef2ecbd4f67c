"""Two type checkers check the public names as an application's own would (tox, typing).

They see the installed package, which is typed because of ``py.typed``; the cases are in a separate folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PORTAL = HERE.parents[1] / "docs" / "examples" / "portal"
PYRIGHT = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.10",
    "reportMissingTypeStubs": False,
    "reportUnnecessaryTypeIgnoreComment": "error",
}
WRONG = """
from typing_extensions import assert_type

from flask_genesys_auth import GenesysAuth, current_user

assert_type(current_user.user_name, int)
auth: GenesysAuth = GenesysAuth(nonsense=True)
"""


Check = Callable[[Path], tuple[int, str]]


def run_mypy(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def run_pyright(folder: Path) -> tuple[int, str]:
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT), "utf-8")
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


CHECKERS = pytest.mark.parametrize("check", [run_mypy, run_pyright])


@CHECKERS
def test_type_checkers_infer_the_expected_types(check: Check, tmp_path: Path) -> None:
    shutil.copy(HERE / "typing_cases.py", tmp_path)
    status, said = check(tmp_path)
    assert status == 0, said


@CHECKERS
def test_example_application_and_its_tests_are_typed(check: Check, tmp_path: Path) -> None:
    for file in PORTAL.glob("*.py"):
        shutil.copy(file, tmp_path)
    status, said = check(tmp_path)
    assert status == 0, said


@CHECKERS
def test_wrong_types_are_found(check: Check, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG, "utf-8")
    status, said = check(tmp_path)
    assert status == 1
    assert "wrong.py:6" in said
    assert "wrong.py:7" in said
