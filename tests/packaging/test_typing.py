"""Two type checkers check the public names as an application's own would (tox, typing).

They see the installed package, which is typed because of ``py.typed``; the cases are in a separate folder.
"""

from __future__ import annotations

import json
import re
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


def run_mypy(folder: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def run_pyright(folder: Path) -> str:
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT), "utf-8")
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(("run", "checked"), [(run_mypy, "checked {} source"), (run_pyright, "")])
def test_checkers_find_only_the_wrong_types(run: Callable[[Path], str], checked: str, tmp_path: Path) -> None:
    """The cases infer the expected types, the example with its tests is typed, and two wrong lines are found."""
    files = [HERE / "typing_cases.py", *PORTAL.glob("*.py")]
    for file in files:
        shutil.copy(file, tmp_path)
    (tmp_path / "wrong.py").write_text(WRONG, "utf-8")
    printed = run(tmp_path)
    errors = re.findall(r"(\w+\.py):(\d+)(?::\d+)?(?::| -) error", printed)
    assert set(errors) == {("wrong.py", "6"), ("wrong.py", "7")}, printed
    assert checked.format(len(files) + 1) in printed
