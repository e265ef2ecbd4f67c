"""``--config FILE``: no emulators, and reasons of the walk for administrators only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from flask import request

from flask_genesys_auth.errors import ConfigurationError
from sample_app.application import build_app, read_configuration

from .asking import ask
from .running import RunningSample, running_sample

CONFIGURATION = """
SECRET_KEY = "a secret of a test, and of nothing else"

[GENESYS_AUTH]
login_view = "pages.login"

[GENESYS_AUTH.contact_centers.acme.web_services]
"""
WALK = "/api/v2/diagnostics/walk"


def flask(folder: Path, *arguments: str, sent: str = "") -> str:
    environment = {**os.environ, "GENESYS_AUTH_CONFIG": str(folder / "settings.toml")}
    command = [sys.executable, "-m", "flask", "--app", "sample_app", *arguments]
    return subprocess.run(command, env=environment, input=sent, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSample]:
    folder = Path(tmp_path_factory.mktemp("configured"))
    path = folder / "settings.toml"
    path.write_text(CONFIGURATION)
    flask(folder, "genesys-auth", "init-db")
    for name, role in (("agnes", "ROLE_AGENT"), ("ada", "ROLE_ADMIN")):
        flask(
            folder,
            "genesys-auth",
            "accounts",
            "add",
            "acme",
            name,
            "--role",
            role,
            "--password-stdin",
            sent=f"{name} knows\n",
        )
    with running_sample(folder, "--config", str(path)) as running:
        yield running


def basic(name: str) -> dict[str, str]:
    return dict(urllib3.make_headers(basic_auth=f"{name}:{name} knows"))


def test_own_configurations_start_no_emulators(configured: RunningSample) -> None:
    assert set(configured.ready["addresses"]) == {"application"}
    assert configured.ready["credentials"] == configured.ready["headers"] == {}
    assert Path(configured.ready["configuration"]).name == "settings.toml"


def test_relative_paths_are_relative_to_the_configuration(configured: RunningSample) -> None:
    folder = Path(configured.ready["configuration"]).parent
    assert list(folder.glob("*.sqlite3"))


def test_the_walk_is_for_administrators(configured: RunningSample) -> None:
    assert ask(configured.url + WALK).status == 401
    assert ask(configured.url + WALK, headers=basic("agnes")).status == 403

    shown = ask(configured.url + WALK, headers=basic("ada"))
    assert shown.status == 200
    assert shown.json["steps"][0]["reason"] == "disabled"


def test_home_shows_reasons_to_administrators_only(configured: RunningSample) -> None:
    anonymous = ask(configured.url + "/").text
    agent = ask(configured.url + "/", headers=basic("agnes")).text
    administrator = ask(configured.url + "/", headers=basic("ada")).text

    assert "<code>disabled</code>" in administrator
    assert " ms</span>" in administrator
    assert "<code>disabled</code>" not in agent
    assert " ms</span>" not in agent
    assert "is-authenticated" in agent
    assert "is-withheld" in anonymous
    assert "is-not_applicable" not in anonymous


def test_without_saml_the_form_has_no_saml_button(configured: RunningSample) -> None:
    sent = ask(configured.url + "/agent", headers={"Accept": "text/html"})
    assert sent.status == 302
    assert sent.headers["Location"] == "/login?next=/agent"

    form = ask(configured.url + sent.headers["Location"]).text
    assert 'value="/agent"' in form
    assert "SAML" not in form


def test_flask_commands_find_the_application(configured: RunningSample) -> None:
    folder = Path(configured.ready["configuration"]).parent
    listed = flask(folder, "genesys-auth", "endpoints")

    assert "pages.supervisor" in listed
    assert "ROLE_SUPERVISOR" in listed


def test_without_a_configuration_the_factory_gives_advice() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GENESYS_AUTH_CONFIG"}
    code = "import sample_app; sample_app.create_app()"
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert "GENESYS_AUTH_CONFIG: is not set" in ended.stderr


@pytest.mark.parametrize("proxies", ["true", "-1", '"one"', "1.5"])
def test_invalid_numbers_of_proxies_are_refused(tmp_path: Path, proxies: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(f"SAMPLE_PROXIES = {proxies}\n{CONFIGURATION}")
    with pytest.raises(ConfigurationError, match="SAMPLE_PROXIES: must be the number"):
        build_app(read_configuration(path), tmp_path)


@pytest.mark.parametrize(("proxies", "seen"), [(0, "127.0.0.1"), (1, "192.0.2.7"), (2, "198.51.100.1")])
def test_only_configured_proxies_set_the_client_address(tmp_path: Path, proxies: int, seen: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(f"SAMPLE_PROXIES = {proxies}\n{CONFIGURATION}")
    app = build_app(read_configuration(path), tmp_path)
    addresses: list[str | None] = []
    app.before_request_funcs[None].insert(0, lambda: addresses.append(request.remote_addr))
    app.test_client().get("/healthz", headers={"X-Forwarded-For": "203.0.113.9, 198.51.100.1, 192.0.2.7"})
    assert addresses == [seen]
