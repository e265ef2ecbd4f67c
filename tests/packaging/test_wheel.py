"""The built package, installed into a fresh virtual environment as a user would."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from urllib.request import urlopen

import pytest

from .conftest import ENVIRONMENT, ROOT, run

PACKAGES = ("flask_genesys_auth", "sample_app")
HEAVY = ("lxml", "xmlsec", "onelogin", "cryptography", "ldap3", "redis", "psycopg", "pytest", "sample_app")


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that has the wheel with its extra for the sample, and nothing else."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    interpreter = folder / "venv" / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    run(interpreter, "-m", "pip", "install", "--quiet", f"{wheel}[sample]", cwd=folder)
    return interpreter


def test_wheel_contains_exactly_the_packages(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"flask_genesys_auth/py.typed", "flask_genesys_auth/web/static/genesys_auth.css"} <= packed
    assert "flask_genesys_auth/web/templates/genesys_auth/refusal.html" in packed
    assert set(listed) <= packed
    assert [name for name in packed if not (ROOT / name).is_file() or "__pycache__" in name] == []


def test_source_distribution_contains_what_its_tests_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "tox.ini", "tests/lowest.txt", "docs/conf.py"} <= names


@pytest.mark.network
def test_the_installed_sample_application_answers(python: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    with subprocess.Popen(
        [str(python), "-m", "sample_app", "--port", "0", "--ready-file", str(ready)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as sample:
        try:
            deadline = time.monotonic() + 60
            while not ready.exists() and sample.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            assert ready.exists(), sample.communicate()[0]
            address = json.loads(ready.read_text("utf-8"))["addresses"]["application"]
            with urlopen(f"{address}/healthz", timeout=60) as answer:
                assert json.load(answer) == {"statusCode": 0}
        finally:
            sample.send_signal(signal.SIGTERM)
            printed = sample.communicate(timeout=60)[0]
    assert sample.returncode == 0
    assert "curl" in printed
    assert "Traceback" not in printed


@pytest.mark.network
def test_application_without_saml_imports_no_heavy_library(python: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from flask import Flask
from flask_genesys_auth import GenesysAuth

app = Flask("portal", instance_path={str(tmp_path)!r})
app.secret_key = "k" * 32
center = {{"web_services": {{}}, "salesforce": {{"organizations": ["00D000000000001"]}}}}
app.config["GENESYS_AUTH"] = {{"contact_centers": {{"acme": center}}}}
app.add_url_rule("/", "home", lambda: "Hello")
GenesysAuth(app)
answer = app.test_client().get("/", headers={{"Accept": "application/json"}})
print(answer.status_code, sorted(name for name in {HEAVY!r} if name in sys.modules))
"""
    assert run(python, "-c", program, cwd=tmp_path).strip() == "401 []"


@pytest.mark.network
def test_application_with_saml_imports_its_libraries(python: Path, tmp_path: Path) -> None:
    program = """
import sys
from flask_genesys_auth.saml import check_libraries

check_libraries()
print(sorted(name for name in ("lxml", "xmlsec") if name in sys.modules))
"""
    assert run(python, "-c", program, cwd=tmp_path).strip() == "['lxml', 'xmlsec']"
