"""Programs on the pages compile, imports work, reasons exist, and the step of the flow page runs."""

from __future__ import annotations

import ast
import base64
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.cli import FlaskGroup

from flask_genesys_auth import GenesysAuth, current_decision
from flask_genesys_auth.chain.outcomes import Reason

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    "README.md": (ROOT / "README.md").read_text("utf-8"),
    **{path.relative_to(DOCS).as_posix(): path.read_text("utf-8") for path in sorted(DOCS.rglob("*.md"))},
}
PROGRAMS = [
    pytest.param(program, id=f"{name}-{place}")
    for name, page in PAGES.items()
    for place, program in enumerate(re.findall(r"^ *```python\n(.+?)^ *```", page, re.DOTALL | re.MULTILINE))
]
SAVED = {name for page in PAGES.values() for name in re.findall(r"[Ss]ave (?:this|it) as `(\w+)\.py`", page)}
"""Modules that readers save; other tests run these programs (test_howto.py, test_tutorial.py)."""


LONGEST_PAGE = 2500
"""Words; a longer page is split."""


def test_pages_are_short_and_in_four_groups() -> None:
    assert [name for name, page in PAGES.items() if len(page.split()) > LONGEST_PAGE] == []
    groups = re.findall(r"^:caption: (.+)$", PAGES["index.md"], re.MULTILINE)
    assert groups == ["Start", "How-to", "Reference", "Background"]


def dedent(program: str) -> str:
    margin = len(program) - len(program.lstrip(" "))
    return "\n".join(line[margin:] for line in program.splitlines())


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_compiles_and_its_imports_exist(program: str) -> None:
    tree = ast.parse(dedent(program))
    imports: list[ast.stmt] = [
        node
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not set(ast.unparse(node).split()) & SAVED
    ]
    names: dict[str, Any] = {}
    exec(compile(ast.Module(imports, []), "<page>", "exec"), names)
    wanted = {alias.asname or alias.name for node in imports for alias in node.names}  # type: ignore[attr-defined]
    assert wanted <= set(names)


def test_every_reason_is_explained() -> None:
    tables = PAGES["reasons.md"] + PAGES["salesforce.md"]
    explained = {
        code for row in re.findall(r"^\| (`\w+`[^|]*) \|", tables, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)
    }
    assert {str(reason) for reason in Reason} <= explained


def test_example_step_of_the_flow_page_works(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.+?)^```", PAGES["flow.md"], re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(program, names)
    app = Flask("portal", instance_path=str(tmp_path))
    app.secret_key = "k" * 32
    app.config["GENESYS_AUTH"] = {"state_url": "memory://", "contact_centers": {"acme": {"web_services": {}}}}
    app.add_url_rule("/", "home", lambda: str(current_decision.authenticated_by))
    GenesysAuth(app, extra_steps=[names["BadgeStep"]])
    runner = app.test_cli_runner()
    flask = FlaskGroup(create_app=lambda: app, load_dotenv=False, set_debug_flag=False)
    assert runner.invoke(flask, ["genesys-auth", "init-db"]).exit_code == 0
    added = runner.invoke(flask, ["genesys-auth", "accounts", "add", "acme", "ann", "--identity", "badge=B7"])
    assert added.exit_code == 0, added.output
    client = app.test_client()
    assert client.get("/", headers={"X-Badge": "B7"}).text == "badge"
    assert client.get("/", headers={"X-Badge": "B8"}).status_code == 401
    assert client.get("/", headers={"X-Badge": "B-7"}).status_code == 401


def test_walk_has_the_steps_of_the_flow_page(tmp_path: Path) -> None:
    documented = re.findall(r"^\| \d? \| `(\w+)` \|", PAGES["flow.md"], re.MULTILINE)
    app = Flask("portal", instance_path=str(tmp_path))
    app.secret_key = "k" * 32
    app.config["GENESYS_AUTH"] = {"state_url": "memory://", "contact_centers": {"acme": {}}}
    GenesysAuth(app)
    credentials = base64.b64encode(b"ann:a password").decode()
    with app.test_request_context("/", headers={"Authorization": f"Basic {credentials}"}):
        assert [record.step for record in current_decision.steps] == documented
