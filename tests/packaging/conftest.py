from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from selenium import webdriver

from tests.browser.chromium import Browser, chromium

__all__ = ["chromium"]

# Types are checked where the checkers are (tox, typing).
collect_ignore = [] if find_spec("basedpyright") else ["test_typing.py"]

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE", "FLASK", "COV_"))
}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command as a user would, without what the tests' own environment says of Python."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this tree, and with the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = (path for path in folder.iterdir() if path.is_dir())
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    return folder


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> Browser:
    fresh = Browser(chromium)
    fresh.look(width=1280, scheme="light")
    return fresh
