"""An application with commands, its data in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask, Response
from flask.cli import ScriptInfo

from flask_genesys_auth import GenesysAuth, current_user, roles_required, unprotected
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.cli import genesys_auth
from flask_genesys_auth.web.runtime import runtime

Invoke = Callable[..., Result]
FAST = {"memory_kib": 64, "iterations": 1}


def make_app(folder: Path, **settings: Any) -> Flask:
    app = Flask("portal", instance_path=str(folder / "instance"))
    app.secret_key = "a secret key of the tests"
    app.config["GENESYS_AUTH"] = {
        "passwords": FAST,
        "contact_centers": {"acme": {"web_services": {}}, "globex": {"web_services": {}}},
        "default_contact_center": "acme",
        **settings,
    }
    GenesysAuth(app)

    @app.get("/")
    def home() -> str:
        return f"Hello {current_user.user_name}"

    @app.route("/supervise", methods=["GET", "POST"])
    @roles_required("ROLE_SUPERVISOR")
    def supervise() -> str:
        return "supervised"

    @app.get("/healthz")
    @unprotected
    def healthz() -> Response:
        return Response("ok")

    @app.get("/folder/")
    def folder_() -> str:
        return "a folder"

    return app


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = make_app(tmp_path)
    yield app
    here = runtime(app)
    here.state.close()
    accounts_of(app).close()


def accounts_of(app: Flask) -> SqlAccounts:
    store = runtime(app).accounts
    assert isinstance(store, SqlAccounts)
    return store


@pytest.fixture
def main(app: Flask) -> Callable[..., None]:
    """Run a command with the standard streams of the test: ``CliRunner`` would replace them."""

    def command(*args: str) -> None:
        genesys_auth.main(args, obj=ScriptInfo(create_app=lambda: app), standalone_mode=False)

    return command


@pytest.fixture
def bare(app: Flask) -> Invoke:
    """Run a command, with no table made yet."""
    runner = app.test_cli_runner()

    def invoke(*args: str, stdin: str | None = None) -> Result:
        return runner.invoke(genesys_auth, args=args, input=stdin)

    return invoke


@pytest.fixture
def run(bare: Invoke) -> Invoke:
    """Run a command that succeeds or fails in one line."""
    assert bare("init-db").exit_code == 0
    return bare


def one_line(result: Result) -> str:
    """Return the error of a command that failed as it should: without a traceback."""
    assert result.exit_code != 0
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    lines: list[str] = result.output.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    return lines[-1]
