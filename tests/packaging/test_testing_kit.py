"""The testing kit in an application's own suite, and the libraries that its parts require."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flask_genesys_auth.testing as kit

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "portal"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def run_suite(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments, cwd=folder)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example, copied as a separate project."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "portal"))


def test_the_example_suite_passes(example: Path) -> None:
    ran = run_suite(example)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    tests = (example / "test_portal.py").read_text("utf-8").count("def test_")
    assert f"{tests} passed" in ran.stdout
    assert tests > 8


def test_example_suite_fails_without_the_isolating_fixture(example: Path) -> None:
    (example / "pytest.ini").write_text("[pytest]\n", "utf-8")
    ran = run_suite(example, "-k", "supervisors or guessing or another_test")
    assert ran.returncode == 1
    assert "2 failed" in ran.stdout, ran.stdout
    for name in ("test_roles_of_another_test", "test_failures_of_another_test"):
        assert f"FAILED test_portal.py::{name}" in ran.stdout


def test_clients_and_emulators_import_no_heavy_library(tmp_path: Path) -> None:
    program = """
import sys

BLOCKED = {"pytest", "_pytest", "lxml", "xmlsec", "onelogin", "cryptography", "redis", "psycopg"}


class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")


sys.meta_path.insert(0, Block())

from flask import Flask
from flask_genesys_auth import GenesysAuth
from flask_genesys_auth.testing import AuthClient, GenesysEmulator, RawServer, SalesforceEmulator, reset

app = Flask("portal", instance_path=sys.argv[1])
app.config.update(TESTING=True, SECRET_KEY="k" * 32)
app.config["GENESYS_AUTH"] = {"state_url": "memory://", "contact_centers": {"acme": {"web_services": {}}}}
app.test_client_class = AuthClient
app.add_url_rule("/", "home", lambda: "home")
GenesysAuth(app)
print(app.test_client(user="ann").get("/").status_code)
reset(app)
try:
    from flask_genesys_auth.testing import DevelopmentIdentityProvider
except ImportError as error:
    print(error)
print(sorted(BLOCKED & set(sys.modules)))
"""
    ran = run("-c", program, str(tmp_path), cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    status, blocked, modules = ran.stdout.splitlines()
    assert status == "200"
    assert blocked in {"lxml is blocked", "xmlsec is blocked"}
    assert modules == "[]"


def test_every_name_of_the_kit_exists() -> None:
    for name in kit.__all__:
        assert getattr(kit, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = kit.Nothing


def test_the_kit_is_documented() -> None:
    pages = "".join((EXAMPLE.parents[1] / name).read_text("utf-8") for name in ("testing.md", "api.md"))
    assert [name for name in kit.__all__ if name not in pages] == []
