"""The README's program and commands, run as they stand there."""

from __future__ import annotations

import base64
import re
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from flask import Flask
from flask.cli import FlaskGroup

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


@pytest.fixture
def portal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program of the README as a module."""
    block = re.search(r"^## Protect an application\n\n```python\n(?P<code>.+?)^```", README, re.DOTALL | re.MULTILINE)
    assert block is not None
    monkeypatch.setenv("FLASK_SECRET_KEY", "k" * 32)
    monkeypatch.setenv("FLASK_GENESYS_AUTH__CONTACT_CENTERS__ACME__WEB_SERVICES", "{}")
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "portal.py"
    source.write_text(block["code"], "utf-8")
    spec = spec_from_file_location("portal", source)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "portal", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def app(portal: ModuleType) -> Flask:
    made: Flask = portal.app
    return made


def basic(user_name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user_name}:{password}".encode()).decode()}


def test_error_without_tables_names_init_db(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    answer = app.test_client().get("/", headers=basic("ann@acme.example", "a long password"))
    assert answer.status_code in {500, 503}
    assert "flask genesys-auth init-db" in caplog.text


def test_account_of_the_readme_logs_in(app: Flask) -> None:
    runner = app.test_cli_runner()
    # The command is an entry point, which `flask` loads and `app.cli` does not.
    flask = FlaskGroup(create_app=lambda: app, load_dotenv=False, set_debug_flag=False)
    made = runner.invoke(flask, ["genesys-auth", "init-db"])
    assert made.exit_code == 0, made.output
    added = runner.invoke(
        flask,
        ["genesys-auth", "accounts", "add", "acme", "ann@acme.example", "--password-stdin"],
        input="a long password\n",
    )
    assert added.exit_code == 0, added.output
    client = app.test_client()
    assert client.get("/", headers=basic("ann@acme.example", "a long password")).text == "Hello ann@acme.example"
    assert client.get("/", headers=basic("ann@acme.example", "another password")).status_code == 401
    assert client.get("/").status_code == 401


def test_every_link_of_the_readme_exists() -> None:
    root = Path(__file__).parents[2]
    targets = [target for target in re.findall(r"\]\((?P<target>[^)#]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (root / target).is_file()] == []


@pytest.mark.parametrize(
    ("page", "app"), [("README.md", "portal.app"), ("docs/getting-started.md", "portal.create_app()")]
)
def test_commands_of_the_page_work(page: str, app: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / page).read_text("utf-8")
    _, _, section = text.partition("\n## Protect an application\n")
    section = section.partition("\n## ")[0]
    [program] = re.findall(r"^```python\n(.+?)^```", section, re.DOTALL | re.MULTILINE)
    typed, elsewhere = re.findall(r"^```console\n(.+?)^```", section, re.DOTALL | re.MULTILINE)
    activation = ". .venv/bin/activate"
    assert activation in text.splitlines()
    commands = [activation, *typed.splitlines()]
    assert commands.pop() == "flask --app portal run"
    assert elsewhere == "curl -u 'ann@acme.example:a long password' http://127.0.0.1:5000/\n"
    (tmp_path / "portal.py").write_text(program, "utf-8")
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH\n")
    asked = f"{app}.test_client().get('/', auth=('ann@acme.example', 'a long password')).text"
    done = subprocess.run(
        ["/bin/sh", "-e"],
        input="\n".join([*commands, f'python -c "import portal; print({asked})"']),
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Hello ann@acme.example"
